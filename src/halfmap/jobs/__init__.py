"""What a step is, what a job is, and how a run is recorded; knows no science."""
