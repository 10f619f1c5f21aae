"""Exhaustive search over defocus, astigmatism and phase shift, on a small polar picture of the rings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.spectrum import Rings, radial_basis
from halfmap.typing import Array, FloatArray

N_ANGLES: Final = 36
N_RADII: Final = 320
DEFOCUS_STEP_A: Final = 50.0
ASTIGMATISM_STEP_A: Final = 150.0
ENVELOPE_A2: Final = 40.0
"""Search weighs rings with exp(-B s²/4 · 2); the fit after it finds the envelope from the data."""
APART_A: Final = 400.0
"""Candidates differ by more than this in defocus or 0.3 rad in phase shift."""


@dataclass(frozen=True)
class Candidate:
    """A point to refine from: mean defocus, astigmatism vector (half difference), phase shift, score."""

    defocus_A: float
    astigmatism_x_A: float
    astigmatism_y_A: float
    phase_shift_rad: float
    score: float


@dataclass(frozen=True)
class SearchRange:
    """What is looked for."""

    min_defocus_A: float
    max_defocus_A: float
    max_astigmatism_A: float
    """Largest difference between defocus_u and defocus_v."""
    phase_shifts_rad: tuple[float, ...] = (0.0,)


class CandidateSearch:
    """Correlates spectra of one geometry with the rings of every defocus, which are made once.

    The rings are averaged over cells of equal area in (direction, s²), where those of a defocus
    are equally spaced. Each direction is correlated with every defocus by one matrix product;
    an astigmatic candidate adds up the correlations of its defocus in each direction. Templates
    are made orthogonal to the smooth baseline, so that a wrong baseline scores nothing.
    """

    def __init__(self, rings: Rings, microscope: Microscope, limits: SearchRange) -> None:
        self.limits = limits
        self._weight = rings.weight[rings.shell]
        self._cell, squared = _polar_cells(rings)
        count = self._polar(self._weight)
        margin = 0.5 * limits.max_astigmatism_A
        self._defocus = np.arange(limits.min_defocus_A - margin, limits.max_defocus_A + margin, DEFOCUS_STEP_A)
        self._even, self._odd = even, odd = _templates(
            squared, count.mean(0), microscope, self._defocus, rings.length_A
        )
        weight = count.sum(0)
        self._power = [weight @ product for product in (even * even, even * odd, odd * odd)]

    def best(self, value: FloatArray, n: int) -> list[Candidate]:
        """The best maxima of the correlation of values at the pixels of the rings with the templates, best first."""
        limits, defocus, power = self.limits, self._defocus, self._power
        picture = self._polar(value * self._weight)
        by_even, by_odd = picture @ self._even, picture @ self._odd
        total = float((self._weight * value**2).sum())
        inside = (defocus >= limits.min_defocus_A) & (defocus <= limits.max_defocus_A)
        found = []
        for shift in limits.phase_shifts_rad:
            c, s = np.cos(2.0 * shift), np.sin(2.0 * shift)
            norm = np.sqrt(np.maximum(c * c * power[0] + 2 * c * s * power[1] + s * s * power[2], 1e-30) * total)
            best, vector = _best_astigmatism(c * by_even + s * by_odd, limits.max_astigmatism_A)
            score = np.where(inside, best / norm, -np.inf)
            for at in _maxima(score, n):
                x, y = vector[at]
                found.append(Candidate(float(defocus[at]), float(x), float(y), shift, float(score[at])))
        found.sort(key=lambda candidate: -candidate.score)
        kept: list[Candidate] = []
        for candidate in found:
            if len(kept) < n and all(_distinct(candidate, other) for other in kept):
                kept.append(candidate)
        return kept

    def _polar(self, values: FloatArray) -> FloatArray:
        """Sums of values ``[angle, radius]``."""
        sums = np.bincount(self._cell, values, N_ANGLES * N_RADII).astype(np.float64)
        return sums.reshape(N_ANGLES, N_RADII)


def _distinct(a: Candidate, b: Candidate) -> bool:
    apart = abs(a.phase_shift_rad - b.phase_shift_rad)
    return abs(a.defocus_A - b.defocus_A) > APART_A or min(apart, np.pi - apart) > 0.3


def _polar_cells(rings: Rings) -> tuple[Array, FloatArray]:
    """The cell (direction and radius as one number) of each pixel, and s² of each radius."""
    angle = np.mod(np.arctan2(rings.sin_2, rings.cos_2), 2.0 * np.pi)
    column = np.minimum((angle * (N_ANGLES / (2.0 * np.pi))).astype(np.int64), N_ANGLES - 1)
    low, high = rings.frequency_squared.min(), rings.frequency_squared.max()
    width = (high - low) / N_RADII
    row = np.minimum(((rings.frequency_squared - low) / width).astype(np.int64), N_RADII - 1)
    return column * N_RADII + row, low + width * (np.arange(N_RADII) + 0.5)


def _templates(
    squared: FloatArray, count: FloatArray, microscope: Microscope, defocus: FloatArray, length_A: float
) -> tuple[FloatArray, FloatArray]:
    """``[radius, defocus]`` rings for phase shift 0 and 45 degrees, free of any smooth baseline."""
    phase = 2.0 * microscope.phase_rad(squared[:, None], defocus[None, :], 0.0)
    lag = microscope.lag_A(squared[:, None], defocus[None, :])
    envelope = fading(lag, 0.0, length_A) * np.exp(-0.5 * ENVELOPE_A2 * squared)[:, None]
    basis = radial_basis(np.sqrt(squared))
    root = np.sqrt(count)[:, None]
    orthonormal = np.linalg.qr(basis * root)[0]
    safe = np.where(root > 0, root, 1.0)
    pair = []
    for template in (-np.cos(phase) * envelope, np.sin(phase) * envelope):
        weighted = template * root
        pair.append((weighted - orthonormal @ (orthonormal.T @ weighted)) / safe)
    return pair[0], pair[1]


def _best_astigmatism(by_angle: FloatArray, max_astigmatism_A: float) -> tuple[FloatArray, FloatArray]:
    """For each mean defocus the largest sum over directions, and the astigmatism vector it has."""
    n = by_angle.shape[1]
    steps = np.arange(
        -(0.5 * max_astigmatism_A // ASTIGMATISM_STEP_A), 0.5 * max_astigmatism_A // ASTIGMATISM_STEP_A + 1
    )
    vectors = np.array([(x, y) for x in steps for y in steps if np.hypot(x, y) <= steps[-1] + 0.1]) * ASTIGMATISM_STEP_A
    direction = (np.arange(N_ANGLES) + 0.5) * (2.0 * np.pi / N_ANGLES)
    offsets = vectors[:, :1] * np.cos(direction) + vectors[:, 1:] * np.sin(direction)
    offsets = np.rint(offsets / DEFOCUS_STEP_A).astype(np.int64)
    reach = int(np.abs(offsets).max()) if offsets.size else 0
    padded = np.pad(by_angle, ((0, 0), (reach, reach)))
    best, which = np.full(n, -np.inf), np.zeros(n, np.int64)
    for number, offset in enumerate(offsets):
        total = np.zeros(n)
        for angle in range(N_ANGLES):
            start = reach + offset[angle]
            total += padded[angle, start : start + n]
        better = total > best
        best[better], which[better] = total[better], number
    return best, vectors[which]


def _maxima(score: FloatArray, n: int) -> list[int]:
    padded = np.pad(score, 1, constant_values=-np.inf)
    peaks = np.flatnonzero((score >= padded[:-2]) & (score > padded[2:]) & np.isfinite(score))
    return [int(i) for i in peaks[np.argsort(-score[peaks])][: 4 * n]]
