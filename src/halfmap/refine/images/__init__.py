"""Particle images at the frequencies of a map, and their noise."""
