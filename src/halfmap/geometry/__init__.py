"""Rotations, grids on the sphere and on SO(3), point groups."""
