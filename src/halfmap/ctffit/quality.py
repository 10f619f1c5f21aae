"""How far a fit holds: averages along lines of equal phase, and their correlation by resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.spectrum import Rings
from halfmap.typing import Array, FloatArray
from halfmap.units import A_PER_MM

GOOD_CORRELATION: Final = 0.66
"""The curve must first agree this well ..."""
LOST_CORRELATION: Final = 0.5
"""... and the fit ends where it agrees less than this (Rohou & Grigorieff 2015)."""
WINDOW_PERIODS: Final = 1.5
WINDOW_BINS: Final = 13
FEWEST_IN_BIN: Final = 10


@dataclass(frozen=True, eq=False)
class Curve:
    """Spectrum and fit against frequency, averaged along lines of equal phase."""

    frequency_per_A: FloatArray
    spectrum: FloatArray
    """Power over its baseline, minus one."""
    fit: FloatArray
    """``-cos 2γ``, faded where the grid does not resolve it: -1 at zeros of the CTF, 1 at maxima."""
    correlation: FloatArray
    """Of spectrum and fit, in a window of some rings around each frequency."""


def equal_phase_curve(rings: Rings, microscope: Microscope, parameters: FloatArray) -> Curve:
    """Average the spectrum where the phase is the same, in spite of astigmatism.

    Each pixel counts at the frequency at which a CTF of the mean defocus has its phase.
    """
    mean = float(parameters[0])
    frequency = equal_phase_frequency(rings, microscope, parameters)
    step = 1.0 / rings.length_A
    number = np.rint(frequency / step).astype(np.int64)
    place = np.unique(number, return_inverse=True)[1]
    count = np.bincount(place)
    spectrum = np.bincount(place, rings.value) / count
    centre = np.bincount(place, frequency) / count
    squared = centre**2
    phase = 2.0 * microscope.phase_rad(squared, mean, float(parameters[3]))
    lag = microscope.lag_A(squared, mean)
    fit = -np.cos(phase) * fading(lag, 0.0, rings.length_A)
    enough = count >= FEWEST_IN_BIN
    curve = centre[enough], spectrum[enough], fit[enough]
    return Curve(*curve, windowed_correlation(*curve, lag[enough], count[enough]))


def equal_phase_frequency(rings: Rings, microscope: Microscope, parameters: FloatArray) -> FloatArray:
    """Frequency at which the mean defocus gives the phase that each pixel has with its own."""
    mean = float(parameters[0])
    defocus = mean + parameters[1] * rings.cos_2 + parameters[2] * rings.sin_2
    return np.sqrt(same_phase_squared(rings.frequency_squared, defocus, mean, microscope))


def same_phase_squared(squared: FloatArray, defocus_A: FloatArray, mean_A: float, microscope: Microscope) -> FloatArray:
    """Squared frequency at which the mean defocus gives the phase that each pixel has.

    Solves ``λ Δf̄ u − Cs λ³ u²/2 = λ Δf s² − Cs λ³ s⁴/2`` for u on the branch through s; where
    there is no solution (around the turning point of the phase) the pixel stays where it is.
    """
    wavelength = microscope.wavelength_A
    quartic = 0.5 * microscope.cs_mm * A_PER_MM * wavelength**3
    linear = wavelength * mean_A
    phase = squared * (wavelength * defocus_A - quartic * squared)
    if quartic == 0.0:
        return phase / linear if linear else squared
    inside = linear**2 - 4.0 * quartic * phase
    before = squared < linear / (2.0 * quartic)
    root = np.sqrt(np.maximum(inside, 0.0))
    solved = (linear + np.where(before, -root, root)) / (2.0 * quartic)
    return np.where((inside > 0) & (solved > 0), solved, squared)


def windowed_correlation(
    frequency: FloatArray, spectrum: FloatArray, fit: FloatArray, lag_A: FloatArray, count: Array
) -> FloatArray:
    """Correlation of two curves in a window around each point, at least 1.5 rings and 13 points wide."""
    correlation = np.zeros_like(spectrum)
    for i, centre in enumerate(frequency):
        half = 0.5 * WINDOW_PERIODS / max(lag_A[i], 1e-6)
        first, last = np.searchsorted(frequency, (centre - half, centre + half))
        first = max(0, min(first, i - WINDOW_BINS // 2))
        last = min(len(frequency), max(last, i + WINDOW_BINS // 2 + 1))
        if fit[first:last].std() < 1e-3:
            continue
        weight = count[first:last]
        a = spectrum[first:last] - np.average(spectrum[first:last], weights=weight)
        b = fit[first:last] - np.average(fit[first:last], weights=weight)
        both = ((weight * a) @ a) * ((weight * b) @ b)
        correlation[i] = (weight * a) @ b / np.sqrt(max(float(both), 1e-30))
    return correlation


def fit_resolution_A(curve: Curve) -> float:
    """Resolution to which spectrum and fit agree; the coarsest one where they never do."""
    good = np.flatnonzero(curve.correlation >= GOOD_CORRELATION)
    if not good.size:
        return float(1.0 / curve.frequency_per_A[0])
    lost = np.flatnonzero(curve.correlation[good[0] :] < LOST_CORRELATION)
    last = good[0] + int(lost[0]) - 1 if lost.size else len(curve.frequency_per_A) - 1
    return float(1.0 / curve.frequency_per_A[last])
