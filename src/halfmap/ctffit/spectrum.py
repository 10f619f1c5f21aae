"""The power spectrum of a micrograph, and the part of it that a CTF is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float
from scipy.interpolate import BSpline
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.periodogram import SPECTRUM_PX, binned_power
from halfmap.fourier.windows import cosine_edge
from halfmap.typing import Array, FloatArray

TAPER_SHARE: Final = 1.0 / 16.0
"""Share of each edge over which the micrograph fades into its mean."""
ICE_RINGS_A: Final = ((3.58, 3.76), (2.21, 2.29), (1.89, 1.95))
"""Spacings of crystalline ice, left out of every fit (hexagonal and cubic ice: 3.67, 2.25, 1.92 Å)."""
FEWEST_PIXELS: Final = 2000
MODEL_ERROR: Final = 0.3
"""Share of a ring's height by which the specimen's own spectrum may change it."""


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Power of a micrograph on a square grid of frequencies."""

    power: Float[Tensor, "box half"]
    """Half plane in rfft2 layout."""
    pixel_size_A: float
    """Pixel size that the grid's Nyquist belongs to; the step is ``1 / (box · pixel_size_A)``."""

    @property
    def length_A(self) -> float:
        """Edge of the box that the frequency step belongs to."""
        return self.power.shape[0] * self.pixel_size_A

    def frequencies(self) -> tuple[FloatArray, FloatArray]:
        """``fx [1, half]`` and ``fy [box, 1]`` in 1/Å."""
        box = self.power.shape[0]
        fx = np.fft.rfftfreq(box, self.pixel_size_A)[None, :]
        return fx, np.fft.fftfreq(box, self.pixel_size_A)[:, None]


def micrograph_spectrum(micrograph: Float[Tensor, "y x"], pixel_size_A: float, box_px: int = SPECTRUM_PX) -> Spectrum:
    """Power spectrum of a whole micrograph, averaged into the cells of a ``box_px`` grid.

    The edges fade into the mean, so that opposite edges do not put a cross on the axes.
    """
    return spectrum_of_power(micrograph_power(micrograph), micrograph.shape, pixel_size_A, box_px)


def spectrum_of_power(
    power: Float[Tensor, "y half"], shape: Sequence[int], pixel_size_A: float, box_px: int = SPECTRUM_PX
) -> Spectrum:
    """Average the power of a micrograph of some shape (rows, columns) into the cells of a ``box_px`` grid."""
    small, pixel_out_A = binned_power(power, (shape[0], shape[1]), pixel_size_A, box_px)
    return Spectrum(small, pixel_out_A)


def micrograph_power(micrograph: Float[Tensor, "y x"]) -> Float[Tensor, "y half"]:
    """Half-plane power of a whole micrograph whose edges fade into its mean."""
    image = micrograph - micrograph.mean()
    ny, nx = image.shape
    image *= edge_taper(ny)[:, None]
    image *= edge_taper(nx)[None, :]
    transform = torch.from_numpy(scipy.fft.rfft2(image.numpy(), overwrite_x=True))
    power = transform.real.square()
    return power.addcmul_(transform.imag, transform.imag)


def edge_taper(n: int) -> Float[Tensor, " n"]:
    """Weights along an edge of ``n`` pixels that fall to zero at both ends."""
    edge = torch.arange(n, dtype=torch.float32)
    edge = (torch.minimum(edge, n - 1 - edge) + 0.5) / (TAPER_SHARE * n)
    return cosine_edge(1.0 - edge)


@dataclass(frozen=True, eq=False)
class Rings:
    """Pixels of a spectrum between two resolutions, off the axes and off ice rings, as flat arrays.

    ``value`` is power over its smooth radial baseline, minus one: noise of equal variance
    everywhere, with the rings of the CTF in it.
    """

    frequency_squared: FloatArray
    cos_2: FloatArray
    sin_2: FloatArray
    value: FloatArray
    shell: Array
    """Number of the ring of one cell's width."""
    shell_frequency: FloatArray
    """Mean frequency of each shell (1/Å)."""
    shell_count: FloatArray
    baseline: FloatArray
    """Baseline power of each shell."""
    weight: FloatArray
    """Weight of a pixel of each shell in a least-squares fit; one where only noise counts."""
    length_A: float
    on_grid: Array
    """``[box, half]`` bool: which pixels of the spectrum these are."""


def chosen_pixels(fx: FloatArray, fy: FloatArray, min_resolution_A: float, max_resolution_A: float) -> Array:
    """Which pixels ``[fy, fx]`` of a half plane lie between two resolutions, off the axes and off ice rings.

    ``fx [1, half]`` and ``fy [box, 1]`` are in 1/Å; a ``max_resolution_A`` of 0 stands for the finest there is.

    Raises
    ------
    HalfmapError
        If these are too few to fit anything.
    """
    frequency = np.hypot(fx, fy)
    use = pixels_between(fx, fy, min_resolution_A, max_resolution_A)
    for fine_A, coarse_A in ICE_RINGS_A:
        use &= ~((frequency > 1.0 / coarse_A) & (frequency < 1.0 / fine_A))
    if use.sum() < FEWEST_PIXELS:
        finest = frequency[use].max(initial=1.0 / min_resolution_A)
        raise HalfmapError(
            f"the spectrum reaches from {min_resolution_A:g} to {1 / finest:.3g} Å, too little for a fit of the CTF.",
            remedy="Widen the resolution range, or use larger micrographs.",
        )
    return use


def pixels_between(fx: FloatArray, fy: FloatArray, coarsest_A: float, finest_A: float) -> Array:
    """Which pixels ``[fy, fx]`` of a half plane lie between two resolutions and off the axes."""
    frequency, step = np.hypot(fx, fy), float(fx[0, 1])
    nyquist = 0.96 * float(np.abs(fy).max())
    finest = min(1.0 / finest_A, nyquist) if finest_A else nyquist
    use: Array = (frequency >= 1.0 / coarsest_A) & (frequency <= finest)
    use &= (np.abs(fx) > 1.5 * step) & (np.abs(fy) > 1.5 * step)
    return use


def rings_of(spectrum: Spectrum, min_resolution_A: float, max_resolution_A: float) -> Rings:
    """Choose pixels between two resolutions and divide them by the radial baseline.

    Raises
    ------
    HalfmapError
        If the spectrum reaches too little of the range to fit anything.
    """
    fx, fy = spectrum.frequencies()
    squared = fx**2 + fy**2
    frequency = np.sqrt(squared)
    step = 1.0 / spectrum.length_A
    use = chosen_pixels(fx, fy, min_resolution_A, max_resolution_A)
    power = spectrum.power.double().cpu().numpy()[use]
    squared, frequency = squared[use], frequency[use]
    cos_2 = np.broadcast_to(fx**2 - fy**2, use.shape)[use] / squared
    sin_2 = np.broadcast_to(2.0 * fx * fy, use.shape)[use] / squared
    number = np.rint(frequency / step).astype(np.int64)
    shell = np.unique(number, return_inverse=True)[1]
    count = np.bincount(shell).astype(np.float64)
    shell_frequency = np.bincount(shell, frequency) / count
    profile = np.bincount(shell, power) / count
    baseline = smooth_baseline(shell_frequency, profile, count)
    value = power / baseline[shell] - 1.0
    # Single pixels far off (crystals, read-out) must not steer a fit of thousands.
    spread = 1.4826 * np.median(np.abs(value - np.median(value)))
    value = np.clip(value, None, 6.0 * spread) if spread > 0 else value
    weight = shell_weights(np.bincount(shell, value) / count, count, float(value.var()))
    return Rings(squared, cos_2, sin_2, value, shell, shell_frequency, count, baseline, weight, spectrum.length_A, use)


def shell_weights(profile: FloatArray, count: FloatArray, variance: float) -> FloatArray:
    """Weights that let many weak rings outvote a few strong ones.

    Strong rings at low resolution are not as the model says: the particle's own shape modulates
    them by a share ``MODEL_ERROR`` of their height, alike in all pixels of a shell. A pixel's
    variance is then that of noise plus the shell's count times the variance of that error.

    Parameters
    ----------
    profile
        Mean value of each shell.
    count
        Pixels of each shell.
    variance
        Of single pixels.
    """
    window = np.ones(13)
    excess = np.maximum(profile**2 - variance / count, 0.0)
    height_squared = np.convolve(excess, window, "same") / np.convolve(np.ones_like(excess), window, "same")
    return np.asarray(variance / (variance + count * MODEL_ERROR**2 * height_squared))


def smooth_baseline(frequency: FloatArray, profile: FloatArray, count: FloatArray) -> FloatArray:
    """A smooth curve through the logarithm of a radial profile, stiff enough to leave rings alone."""
    basis = radial_basis(frequency)
    weight = np.sqrt(count)
    log_profile = np.log(np.maximum(profile, 1e-30 + profile.max() * 1e-12))
    for _ in range(3):
        solution = np.linalg.lstsq(basis * weight[:, None], log_profile * weight, rcond=None)[0]
        residual = log_profile - basis @ solution
        spread = 1.4826 * np.median(np.abs(residual)) + 1e-12
        weight = np.sqrt(count) / np.sqrt(1.0 + (residual / (3.0 * spread)) ** 2)
    return np.asarray(np.exp(basis @ solution))


def radial_basis(frequency: FloatArray, n_functions: int = 9) -> FloatArray:
    """``[n, n_functions]`` cubic B-splines over a range of frequencies, denser towards low ones."""
    place = np.sqrt(frequency)
    low, high = place.min(), place.max() + 1e-9
    inner = np.linspace(low, high, n_functions - 2)[1:-1]
    knots = np.concatenate([[low] * 4, inner, [high] * 4])
    return np.asarray(BSpline.design_matrix(place, knots, 3).toarray())
