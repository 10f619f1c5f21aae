"""Search over all in-plane angles at once, and averages, on rings of Fourier space."""
