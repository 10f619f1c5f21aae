"""Pixels that cannot be believed, told from many movies, and files that list them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from halfmap.errors import BadInputError
from halfmap.io.files import format_suffix
from halfmap.io.mrc import open_stack
from halfmap.io.tiff import TIFF_SUFFIXES, read_tiff_image
from halfmap.typing import Array, FloatArray

HOT_FACTOR = 3.0
"""A pixel that counts so many times more than those around it, in all movies together, is hot."""
DEAD_FACTOR = 0.1
"""One that counts so many times less is dead."""
ENOUGH_COUNTS = 30.0
"""Counts expected of a pixel from which on the second can be said."""
UNSTABLE_SD = 10.0
"""A pixel whose rate varies so many standard deviations more between movies than that of others is unstable."""
FEWEST_MOVIES = 5
"""Movies from which on that can be said."""
NEIGHBOURHOOD_PX = 8.0


@dataclass(frozen=True)
class Defects:
    """Pixels by what is wrong with them, ``[y, x]`` bool each; none is counted twice."""

    known: Array
    hot: Array
    dead: Array
    unstable: Array

    @property
    def all(self) -> Array:
        """Every defective pixel."""
        return self.known | self.hot | self.dead | self.unstable


def find_defects(sums: Iterable[FloatArray], known: Array) -> Defects:
    """Hot, dead and unstable pixels.

    Hot and dead pixels are told from the sum of all movies, by comparison with the median level around them.
    Unstable ones are told by the dispersion of their rate over movies: of a pixel that counts steadily, the variance of
    its counts is their mean, and a little more where specimens differ; the largest deviation of each pixel is left
    out, so that a cosmic ray in one movie condemns no pixel.

    Parameters
    ----------
    sums
        One sum ``[y, x]`` for each movie, given in order; gone through once.
    known
        ``[y, x]`` bool: pixels that are known to be bad.
    """
    total, squares, largest, smooth_total = (np.zeros(known.shape, np.float32) for _ in range(4))
    share = _smooth(~known)
    count = 0
    for one in sums:
        counts = np.where(np.isfinite(one), one, 0.0).astype(np.float32)
        level = _around(counts, known, share)
        deviation = (counts - level) / np.sqrt(np.maximum(level, 1.0))
        total += counts
        smooth_total += level
        squares += deviation**2
        largest = np.maximum(largest, deviation**2)
        count += 1
    ratio = total / np.maximum(smooth_total, 1e-9)
    hot = ~known & (ratio > HOT_FACTOR) & (total > smooth_total + 6.0 * np.sqrt(np.maximum(smooth_total, 1.0)))
    dead = ~known & (ratio < DEAD_FACTOR) & (smooth_total > ENOUGH_COUNTS)
    unstable = np.zeros_like(known)
    if count >= FEWEST_MOVIES:
        # A pixel of steady, but other, sensitivity deviates by the same share each time: that part is not noise.
        steady = (ratio - 1.0) ** 2 * smooth_total
        dispersion = np.maximum(squares - largest - steady * (count - 1) / count, 0.0) / (count - 2)
        dispersion /= np.maximum(ratio, DEAD_FACTOR)
        good = ~(known | hot | dead)
        usual = float(np.median(dispersion[good])) if good.any() else 1.0
        unstable = good & (dispersion > usual * (1.0 + UNSTABLE_SD * math.sqrt(2.0 / (count - 2))))
    return Defects(known, hot, dead, unstable)


def _around(counts: FloatArray, known: Array, share: FloatArray) -> FloatArray:
    """Level of the counts around each pixel, not led astray by single ones."""
    middle = float(np.median(counts[~known])) if (~known).any() else 0.0
    cut = np.clip(counts, 0.0, 2.0 * middle + 6.0 * math.sqrt(middle) + 1.0)
    return _smooth(np.where(known, 0.0, cut)) / np.maximum(share, 1e-6)


def _smooth(image: Array) -> FloatArray:
    return np.asarray(gaussian_filter(image.astype(np.float32), NEIGHBOURHOOD_PX, mode="nearest"))


def read_defects(path: Path, shape: tuple[int, int]) -> Array:
    """Defects as listed by the camera's software: ``[y, x]`` bool.

    A text has ``x y width height`` in each line, in pixels from 0 (MotionCor2's form; ``#`` begins a comment). An
    image (MRC, TIFF) is not 0 where a pixel is defective.

    Raises
    ------
    BadInputError
        If a line or the size of the image does not fit.
    """
    suffix = format_suffix(path)
    if suffix in TIFF_SUFFIXES or suffix in (".mrc", ".mrcs"):
        # TIFF files have their first row at the top, as their movies do.
        image = read_tiff_image(path)[::-1] if suffix in TIFF_SUFFIXES else np.asarray(open_stack(path)[0])
        if image.shape != shape:
            raise BadInputError(
                path, "shape (rows, columns)", found=image.shape, expected=f"{shape}, that of the movies",
                remedy="Give the defects of this camera and mode.",
            )  # fmt: skip
        return np.asarray(image != 0)
    defects = np.zeros(shape, bool)
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            x, y, width, height = (int(word) for word in words)
            inside = x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= shape[1] and y + height <= shape[0]
        except ValueError:
            inside = False
        if not inside:
            raise BadInputError(
                path, f"line {number}", found=repr(line),
                expected=f"x y width height within {shape[1]} x {shape[0]} px",
                remedy="Correct the line, or give an image of the defects.",
            )  # fmt: skip
        defects[y : y + height, x : x + width] = True
    return defects
