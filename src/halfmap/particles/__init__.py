"""Particle images: cut out, normalised, made protein-white, and selected."""
