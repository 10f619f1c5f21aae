"""Classes of views, and their averages."""
