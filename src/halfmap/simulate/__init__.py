"""Phantoms with known truth: atoms, scattering potential, particles, movies."""
