"""Defocus, astigmatism and quality of a micrograph from its power spectrum."""
