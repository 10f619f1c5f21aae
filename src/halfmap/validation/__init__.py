"""Judges results: correlation of halves, directions, orientation cover, falloff, noise control."""
