"""One engine for 2D classes, ab initio, refinement and 3D classes: search by rings, likelihood, insertion."""
