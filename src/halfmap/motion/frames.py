"""Frames as the camera gave them: gain, defective pixels, and frames that hold no picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.stats import poisson

from halfmap.errors import BadInputError
from halfmap.motion.frames_fast import above, add_counts, mean_and_sd
from halfmap.typing import Array, FloatArray

HOT_SD: Final = 6.0
"""A pixel whose summed frames lie this many standard deviations above the mean is hot (RELION's rule)."""
FLASH_SD: Final = 25.0
"""The same in one frame: a cosmic ray, or a saturated read-out."""
SAMPLED_ROWS: Final = 8
"""Every so many rows tell the mean and spread of a frame for that."""
MAX_BAD_SHARE: Final = 0.05
"""A frame with more non-finite pixels, or a movie with more defects than this, is not usable."""
ODD_DOSE_FACTOR: Final = 3.0
"""A frame with so many times less or more electrons than the median frame takes no part."""

GAIN_TURNED: Final = "It fits when turned by 90 degrees: rotate or transpose the gain reference as the frames were."
GAIN_OTHER_SIZE: Final = "Give the gain of this camera and mode; super-resolution movies need one of their size."


class MovieFrames(Protocol):
    """What is needed of a movie (``io.movies.open_movie``)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""

    def frames(self) -> Iterator[Array]:
        """All frames as recorded, in order."""


@dataclass(frozen=True, eq=False)
class Frames:
    """Frames as recorded, with all that is needed to correct them."""

    raw: list[Array]
    reasons: tuple[str, ...]
    """For each frame, why it is left out; empty for a good one."""
    gain: FloatArray | None
    defects: Array
    """``[y, x]`` bool: pixels to replace in every frame."""
    replaced: Array
    """``[y, x]`` bool: those of them that the gain does not mark."""
    n_gain_defects: int
    n_hot: int
    n_dead: int

    @property
    def usable(self) -> Array:
        """``[n]`` bool."""
        return np.array([reason == "" for reason in self.reasons])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.defects.shape


def check_gain(gain: FloatArray, shape: tuple[int, int], *, gain_file: str | Path, movie_file: str | Path) -> Array:
    """Pixels ``[y, x]`` that have no gain; an error that tells how to mend it if it cannot belong to a movie."""
    if gain.shape != shape:
        turned = gain.shape == shape[::-1]
        raise BadInputError(
            gain_file, "shape (rows, columns)", found=gain.shape, expected=f"{shape}, that of {movie_file}",
            remedy=GAIN_TURNED if turned else GAIN_OTHER_SIZE,
        )  # fmt: skip
    good = (gain > 0) & (gain < np.inf)
    if share_of(good) < 1.0 - MAX_BAD_SHARE:
        raise BadInputError(
            gain_file, "pixels", found=f"{1 - share_of(good):.1%} zero, negative or not finite",
            expected=f"at most {MAX_BAD_SHARE:.0%}", remedy="Check that this file is a gain reference.",
        )  # fmt: skip
    return ~good


def share_of(flags: Array) -> float:
    """How many of the pixels are true."""
    return np.count_nonzero(flags) / flags.size


def read_frames(
    movie: MovieFrames, gain: FloatArray | None, *, movie_file: str | Path, gain_file: str | Path = "gain"
) -> Frames:
    """Read a movie and find what is wrong with it.

    The gain multiplies, as RELION does with MRC and TIFF. Defective are pixels without gain, pixels
    that are not finite in some frame, hot ones (sum of the corrected frames above mean + 6 sd and
    beyond what counting statistics allow) and dead ones (no count at all where 20 are expected).

    Raises
    ------
    BadInputError
        If the gain does not fit, no frame is usable, or too many pixels are defective.
    """
    no_gain = np.zeros(movie.shape, bool)
    if gain is not None:
        no_gain = check_gain(gain, movie.shape, gain_file=gain_file, movie_file=movie_file)
    raw = [np.ascontiguousarray(frame) for frame in movie.frames()]
    total = np.zeros(movie.shape, np.float32)
    reasons = _added(raw, total)
    if all(reasons):
        raise BadInputError(
            movie_file, "frames", found=f"none usable ({reasons[0] if reasons else 'the movie has no frame'})",
            expected="at least one frame with a picture", remedy="Leave this movie out, or copy it again.",
        )  # fmt: skip
    counting = raw[0].dtype.kind in "ui"
    undefined = np.zeros_like(no_gain) if counting else ~np.isfinite(total)
    hot, dead = _hot_and_dead(total, gain, no_gain | undefined, counting=counting)
    defects = no_gain | undefined | hot | dead
    if share_of(defects) > MAX_BAD_SHARE:
        raise BadInputError(
            movie_file, "defective pixels", found=f"{share_of(defects):.1%}", expected=f"at most {MAX_BAD_SHARE:.0%}",
            remedy="Check that the gain reference belongs to this movie.",
        )  # fmt: skip
    n_gain, n_hot, n_dead = (int(np.count_nonzero(flags)) for flags in (no_gain, hot | (undefined & ~no_gain), dead))
    return Frames(raw, tuple(reasons), gain, defects, defects & ~no_gain, n_gain, n_hot, n_dead)


def _added(raw: list[Array], total: FloatArray) -> list[str]:
    """Add the good frames to ``total``; returns why each other is left out, empty strings for the good ones."""
    means = np.full(len(raw), np.nan)
    reasons = [""] * len(raw)
    for i, frame in enumerate(raw):
        if frame.dtype.kind in "ui":
            low, high, everything = add_counts(frame, total)
            means[i] = everything / frame.size
        else:
            finite = frame[np.isfinite(frame)]
            share = 1.0 - finite.size / frame.size
            if share > MAX_BAD_SHARE:
                reasons[i] = f"{share:.0%} of the pixels are not finite"
                continue
            low, high, means[i] = finite.min(), finite.max(), finite.mean(dtype=np.float64)
            np.add(total, frame, out=total, casting="unsafe")
        if low == high:
            reasons[i], means[i] = f"empty: all pixels are {frame.flat[0]}", np.nan
    if np.isfinite(means).any():
        median = float(np.nanmedian(means))
        for i, mean in enumerate(means):
            if median > 0 and not reasons[i] and not median / ODD_DOSE_FACTOR < mean < median * ODD_DOSE_FACTOR:
                reasons[i] = f"its mean {mean:.3g} is far from the other frames' {median:.3g}"
    if any(reasons):
        total[:] = 0.0
        for frame, reason in zip(raw, reasons, strict=True):
            if not reason:
                np.add(total, frame, out=total, casting="unsafe")
    return reasons


def _hot_and_dead(total: FloatArray, gain: FloatArray | None, known: Array, *, counting: bool) -> tuple[Array, Array]:
    factors = np.ones_like(total) if gain is None else gain
    mean, sd, count = mean_and_sd(total, factors, known)
    hot, dead = np.empty_like(known), np.zeros_like(known)
    beyond_chance = poisson.isf(0.01 / total.size, max(count, 1e-6)) if counting else -np.inf
    above(total, factors, known, mean + HOT_SD * sd, float(beyond_chance), hot)
    if counting and count > 20.0:
        dead = ~known & (total == 0)
    return hot, dead


class FrameCorrector:
    """Gives gain-corrected float32 frames with defective pixels replaced by near good ones.

    A replaced pixel takes the value of a good pixel nearby, drawn anew in each frame, so that the
    noise keeps its spread and no fixed pattern is left that would pull the alignment to zero.
    """

    def __init__(self, frames: Frames, seed: int) -> None:
        self._frames = frames
        self._generator = np.random.default_rng(seed)
        self._defects = np.flatnonzero(frames.defects)

    def corrected(self, index: int, out: FloatArray | None = None) -> FloatArray:
        """Frame ``index`` as electrons per pixel, float32 ``[y, x]``, in an array of its own or a given one."""
        frames = self._frames
        image: FloatArray = np.empty(frames.shape, np.float32) if out is None else out
        if frames.gain is None:
            image[:] = frames.raw[index]
        else:
            np.multiply(frames.raw[index], frames.gain, out=image, casting="unsafe")
        bad, defects = frames.defects, self._defects
        if defects.size:
            image.reshape(-1)[defects] = 0.0
        some = image[::SAMPLED_ROWS]
        limit = float(some.mean()) + FLASH_SD * float(some.std())
        if float(image.max()) > limit:
            flash = binary_dilation(image > limit)
            bad = bad | flash
            defects = np.flatnonzero(bad)
        if defects.size:
            donors = near_good_pixels(defects, bad, self._generator)
            flat = image.reshape(-1)
            flat[defects] = flat[donors]
        return image


def near_good_pixels(defects: Array, bad: Array, generator: np.random.Generator) -> Array:
    """For each defective pixel a randomly drawn good one, from as near as there are any.

    Parameters
    ----------
    defects
        ``[m]`` flat indices of the defective pixels.
    bad
        ``[y, x]`` bool.
    generator
        Source of the draw.

    Returns
    -------
    ``[m]`` flat indices of good pixels.
    """
    ny, nx = bad.shape
    y, x = np.divmod(defects, nx)
    donors = np.full(len(defects), -1)
    open_, radius = np.arange(len(defects)), 2
    while open_.size:
        for _ in range(8):
            dy, dx = generator.integers(-radius, radius + 1, (2, open_.size))
            row, column = np.clip(y[open_] + dy, 0, ny - 1), np.clip(x[open_] + dx, 0, nx - 1)
            found = ~bad[row, column]
            donors[open_[found]] = row[found] * nx + column[found]
            open_ = open_[~found]
            if not open_.size:
                break
        radius *= 2
    return donors
