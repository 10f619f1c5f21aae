"""Movies to micrographs: alignment of frames, dose weighting, sums."""
