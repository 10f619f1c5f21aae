"""Symmetry expansion: a row for every symmetric view of a particle."""
