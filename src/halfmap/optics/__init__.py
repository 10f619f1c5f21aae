"""Wavelength, CTF, aberrations, dose weighting: every formula once."""
