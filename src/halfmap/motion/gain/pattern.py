"""What the pixels of a camera do to every image alike, told from sums of many movies.

An image that a camera counts is the specimen times the camera's sensitivity. Movies of different places differ in
the first and share the second, which is all that is left of the logarithm of their sum once its smooth part is gone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from halfmap.typing import Array, FloatArray

SMOOTH_PX = 12.0
"""Standard deviation of what counts as illumination and not as the camera's."""
LARGEST = 1.0
"""Deviations of the logarithm are cut here: more is a defect and no gain."""
ALL_BUT_CHANCE = 8.0
"""An orientation is told if its correlation is so many standard deviations (of noise) from 0,"""
CLEAR_LEAD = 2.0
"""and so many times as large as that of the next one."""


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways in which a square image may lie.

    Attributes
    ----------
    quarter_turns
        Turns by 90 degrees, from the x axis towards the y axis of the array (``numpy.rot90`` with k = -turns).
    mirrored
        Whether columns are reversed first.
    """

    quarter_turns: int
    mirrored: bool

    @property
    def name(self) -> str:
        """In words."""
        turned = f"turned by {90 * self.quarter_turns} degrees" if self.quarter_turns else ""
        mirrored = "mirrored in x" if self.mirrored else ""
        return " and then ".join(part for part in (mirrored, turned) if part) or "as it is"

    def of(self, image: Array) -> Array:
        """The image in this orientation."""
        return np.rot90(image[:, ::-1] if self.mirrored else image, -self.quarter_turns)


ORIENTATIONS = tuple(Orientation(turns, mirrored) for mirrored in (False, True) for turns in range(4))


@dataclass(frozen=True)
class Fit:
    """How well a reference fits in one orientation.

    Attributes
    ----------
    orientation
        Of the reference.
    inverted
        Whether frames are divided by it, not multiplied.
    correlation
        Of its pattern with the one that it would remove.
    """

    orientation: Orientation
    inverted: bool
    correlation: float


def pattern(image: FloatArray, known: Array) -> FloatArray:
    """Logarithm of an image over its smooth part; 0 where ``known`` is false or the image is not positive.

    Parameters
    ----------
    image
        ``[y, x]``, counts or factors.
    known
        ``[y, x]`` bool: pixels that count.
    """
    good = known & np.isfinite(image) & (image > 0)
    values = np.where(good, image, 0.0).astype(np.float32)
    share = gaussian_filter(good.astype(np.float32), SMOOTH_PX, mode="nearest")
    smooth = gaussian_filter(values, SMOOTH_PX, mode="nearest") / np.maximum(share, 1e-6)
    logarithm = np.log(np.where(good, values, 1.0) / np.where(good, smooth, 1.0))
    logarithm = np.where(good, np.clip(logarithm, -LARGEST, LARGEST), 0.0)
    mean = float(logarithm.sum(dtype=np.float64)) / max(int(good.sum()), 1)
    return np.where(good, logarithm - mean, 0.0).astype(np.float32)


def fits(total: FloatArray, reference: FloatArray) -> list[Fit]:
    """Every orientation that fits the shape, multiplied and divided, the best first.

    Parameters
    ----------
    total
        ``[y, x]``: sum of movies as recorded.
    reference
        Factors, ``[y, x]`` or its transpose; 0 for defects.
    """
    seen = pattern(total, np.ones(total.shape, bool))
    given = pattern(reference, np.ones(reference.shape, bool))
    results = []
    for orientation in ORIENTATIONS:
        turned = orientation.of(given)
        if turned.shape == seen.shape:
            # A pixel that counts too little has a factor above 1.
            value = -correlation(seen, turned)
            results += [Fit(orientation, False, value), Fit(orientation, True, -value)]
    return sorted(results, key=lambda fit: -fit.correlation)


def is_told(ranked: Sequence[Fit], pixels: int) -> bool:
    """Whether the best of the fits is beyond chance, and ahead of the others."""
    best = ranked[0].correlation
    others = [fit.correlation for fit in ranked[1:] if fit.orientation != ranked[0].orientation]
    return best > ALL_BUT_CHANCE / np.sqrt(pixels) and best > CLEAR_LEAD * max([0.0, *others])


def correlation(one: FloatArray, other: FloatArray) -> float:
    """Of two patterns with mean 0, where both are known."""
    product = float(np.vdot(one, other))
    return product / max(float(np.linalg.norm(one)) * float(np.linalg.norm(other)), 1e-30)


def shared_sd(one: FloatArray, other: FloatArray) -> float:
    """Standard deviation of what the patterns of two independent sums share."""
    return math.sqrt(max(float(np.mean(one.astype(np.float64) * other)), 0.0))


@dataclass(frozen=True)
class EstimatedGain:
    """A gain from movies alone.

    Attributes
    ----------
    gain
        ``[y, x]`` float32 factors with mean 1; 0 for defects.
    pattern_sd
        Standard deviation of its logarithm, as two halves of the movies agree on it.
    noise_sd
        What is left of the counting noise in one pixel of ``gain``.
    reliability
        Share of the variance of single pixels, columns and rows taken apart, that is not noise.
    """

    gain: FloatArray
    pattern_sd: float
    noise_sd: float
    reliability: float


def estimated_gain(halves: Sequence[FloatArray], defects: Array) -> EstimatedGain:
    """Factors that even out the pattern which two sums of different movies share.

    The pattern is a sum of columns, rows and single pixels. Each part is damped by the share of its variance that
    both sums have in common (the Wiener filter for the mean of the two), so that few movies give a gain close to
    1 rather than a noisy one.

    Parameters
    ----------
    halves
        Two sums of movies, ``[y, x]``, of different movies.
    defects
        ``[y, x]`` bool: pixels that get no factor.
    """
    known = ~defects
    patterns = [pattern(half, known) for half in halves]
    pattern_sd = shared_sd(*patterns)
    result = np.zeros(defects.shape, np.float64)
    noise = 0.0
    reliability = 0.0
    for axis in (0, 1, None):
        parts = [_part(image, known, axis) for image in patterns]
        signal = float(np.mean(parts[0].astype(np.float64) * parts[1]))
        mean = 0.5 * (parts[0] + parts[1])
        total = float(np.mean(mean.astype(np.float64) ** 2))
        keep = min(max(signal / max(total, 1e-30), 0.0), 1.0)
        result += keep * mean
        noise += keep**2 * max(total - signal, 0.0)
        reliability = keep
        patterns = [image - part for image, part in zip(patterns, parts, strict=True)]
    factors = np.where(known, np.exp(-result), 0.0)
    factors /= factors[known].mean()
    return EstimatedGain(
        factors.astype(np.float32), pattern_sd, float(np.sqrt(noise)),
        reliability,
    )  # fmt: skip


def _part(image: FloatArray, known: Array, axis: int | None) -> FloatArray:
    """Means of columns (0) or rows (1) spread over the image; all of it for None."""
    if axis is None:
        return image
    means = image.sum(axis=axis, keepdims=True, dtype=np.float64) / np.maximum(known.sum(axis=axis, keepdims=True), 1)
    return np.where(known, means, 0.0).astype(np.float32)
