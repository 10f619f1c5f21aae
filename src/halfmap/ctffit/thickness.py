"""Thickness of the specimen from nodes in the rings: where layers at different defocus cancel each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import nnls

from halfmap.ctffit.fit import N_ENVELOPE
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.quality import Curve
from halfmap.ctffit.spectrum import radial_basis
from halfmap.typing import FloatArray

STEP_A: Final = 10.0
THICKEST_A: Final = 5000.0
BFACTORS_A2: Final = tuple(range(0, 420, 20))
CLEARLY: Final = 30.0
"""χ² by which nodes must be better than the best envelope without nodes."""
BEYOND_NODE: Final = 1.06
"""The curve must reach this much beyond the first node, where rings come back with the other sign."""


@dataclass(frozen=True)
class Thickness:
    """Thickness of the specimen, from nodes of its Thon rings."""

    thickness_A: float
    """Not a number where nodes are not clearly there."""
    error_A: float
    improvement: float
    """χ² by which nodes are better than an envelope without (negative where they are worse)."""


NO_NODES: Final = Thickness(float("nan"), float("nan"), float("-inf"))
"""What is known of the thickness where there are no rings."""


def thickness_from_nodes(curve: Curve, microscope: Microscope) -> Thickness:
    """Fit ``sinc(λ t s²)``, which averaging over a thickness t multiplies rings with, to a profile.

    Layers of a thick specimen have different defocus and, being independent, add their power:
    ``<CTF²> = ½ - ½ sinc(λ t s²) cos 2γ`` (Tichelaar, Hagen, Gorelik, Xue & Mahamid 2020,
    Ultramicroscopy 216, 113023; Elferich, Kong, Zottig & Grigorieff 2024, eLife 13, RP97227). The
    rings vanish at the node ``s² = 1 / (λ t)`` and come back inverted. An envelope can make rings vanish, but
    cannot invert them: a thickness is believed only if it leaves clearly less than the best smooth
    envelope that is nowhere negative.

    Parameters
    ----------
    curve
        Spectrum and rings along lines of equal phase, as far as the spectrum goes.
    microscope
        Gives the wavelength.
    """
    wavelength, s = microscope.wavelength_A, curve.frequency_per_A
    root = np.sqrt(s / s.mean())  # Pixels at a frequency are as many as it is high.
    orthonormal = np.linalg.qr(radial_basis(s) * root[:, None])[0]

    def free(values: FloatArray) -> FloatArray:
        weighted = values * root[:, None]
        return np.asarray(weighted - orthonormal @ (orthonormal.T @ weighted))

    data = free(curve.spectrum[:, None])[:, 0]
    smooth = free(curve.fit[:, None] * radial_basis(s, N_ENVELOPE))
    without = nnls(smooth, data)[1] ** 2
    thinnest = BEYOND_NODE**2 / (wavelength * float(s[-1]) ** 2)
    tried = np.arange(thinnest, THICKEST_A, STEP_A)
    nodes = np.sinc(wavelength * s[:, None] ** 2 * tried)
    left = np.full(len(tried), np.inf)
    for bfactor_A2 in BFACTORS_A2:
        rings = free(nodes * (curve.fit * np.exp(-0.5 * bfactor_A2 * s**2))[:, None])
        height = np.maximum(rings.T @ data, 0.0)
        left = np.minimum(left, data @ data - height**2 / np.maximum((rings**2).sum(axis=0), 1e-30))
    best = int(np.argmin(left))
    variance = float(left[best]) / max(len(s) - orthonormal.shape[1] - 3, 1)
    improvement = (without - float(left[best])) / variance
    if improvement < CLEARLY:
        return Thickness(float("nan"), float("nan"), improvement)
    return Thickness(float(tried[best]), _error_A(left / variance, best), improvement)


def _error_A(chi_squared: FloatArray, best: int) -> float:
    """Half the width of the minimum where χ² is one above it."""
    within = chi_squared < chi_squared[best] + 1.0
    low, high = best, best
    while low > 0 and within[low - 1]:
        low -= 1
    while high < len(within) - 1 and within[high + 1]:
        high += 1
    return 0.5 * STEP_A * (high - low + 1)
