"""The one layout of Fourier transforms: crop, shift, shells, FSC, slices and their insertion."""
