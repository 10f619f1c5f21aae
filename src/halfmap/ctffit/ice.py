"""Ice in a power spectrum: the diffuse ring of water near 3.7 Å, and sharp rings of crystals on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.spectrum import Spectrum, pixels_between
from halfmap.typing import FloatArray

LOOKED_AT_A: Final = (6.5, 2.9)
REACH_A: Final = 3.3
"""A spectrum that ends before this resolution does not show both sides of the ring."""
WATER_PER_A: Final = (0.27, 0.035)
"""Centre and width of the diffuse ring, ``exp(-((s - centre) / width)²)`` (Dubochet et al. 1988)."""
RING_A: Final = (3.76, 3.58)
"""Strongest ring of cubic and hexagonal ice, 3.67 Å."""
NEIGHBOURS_A: Final = ((3.97, 3.83), (3.50, 3.38))
"""Other rings of hexagonal ice, 3.90 and 3.44 Å, which are no background."""


@dataclass(frozen=True)
class IceSignal:
    """Heights of the rings of ice relative to the background of the spectrum under them."""

    relative_thickness: float
    """Of the diffuse ring of water: grows with thickness, less than in proportion, in micrographs otherwise alike."""
    relative_thickness_error: float
    ring_density: float
    """Of the sharp ring at 3.67 Å: mean excess of power from 3.76 to 3.58 Å."""
    ring_density_error: float


def ice_signal(spectrum: Spectrum, microscope: Microscope, parameters: FloatArray) -> IceSignal:
    """Fit smooth background, water, crystals and the rings of the CTF to the radial profile around 3.7 Å.

    All heights are not numbers where the spectrum does not reach 3.3 Å. Exposure, detector and
    envelope change them as thickness does: compare within a session only.

    Parameters
    ----------
    spectrum
        Of a micrograph.
    microscope
        Constants of the CTF.
    parameters
        Mean defocus, astigmatism vector (Å) and phase shift (rad); the mean and the shift are used.
    """
    if 0.48 / spectrum.pixel_size_A < 1.0 / REACH_A:
        return IceSignal(*(float("nan"),) * 4)
    fx, fy = spectrum.frequencies()
    use = pixels_between(fx, fy, *LOOKED_AT_A)
    frequency = np.hypot(fx, fy)[use]
    shell = np.unique(np.rint(frequency * spectrum.length_A).astype(np.int64), return_inverse=True)[1]
    count = np.bincount(shell).astype(np.float64)
    profile = np.bincount(shell, spectrum.power.double().cpu().numpy()[use]) / count
    place = np.bincount(shell, frequency) / count
    keep = np.ones(len(place), bool)
    for coarse_A, fine_A in NEIGHBOURS_A:
        keep &= ~((place > 1.0 / coarse_A) & (place < 1.0 / fine_A))
    centred = (place - WATER_PER_A[0]) / 0.1
    water = np.exp(-(((place - WATER_PER_A[0]) / WATER_PER_A[1]) ** 2))
    crystal = ((place > 1.0 / RING_A[0]) & (place < 1.0 / RING_A[1])).astype(np.float64)
    squared, mean_A, shift = place**2, float(parameters[0]), float(parameters[3])
    rings = -np.cos(2.0 * microscope.phase_rad(squared, mean_A, shift))
    rings = rings * fading(microscope.lag_A(squared, mean_A), 0.0, spectrum.length_A)
    basis = np.stack([np.ones_like(place), centred, centred**2, water, crystal, rings, rings * centred], axis=1)[keep]
    root = np.sqrt(count[keep])
    solution = np.linalg.lstsq(basis * root[:, None], profile[keep] * root, rcond=None)[0]
    left = (profile[keep] - basis @ solution) * root
    variance = float(left @ left) / max(len(left) - basis.shape[1], 1)
    error = np.sqrt(variance * np.diag(np.linalg.pinv((basis * root[:, None]).T @ (basis * root[:, None]))))
    background = float(solution[0])
    return IceSignal(
        relative_thickness=float(solution[3]) / background,
        relative_thickness_error=float(error[3]) / background,
        ring_density=float(solution[4]) / background,
        ring_density_error=float(error[4]) / background,
    )
