"""Sums of movies as files, and the gain reference that is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.errors import BadInputError
from halfmap.io.files import format_suffix
from halfmap.io.gain import read_gain
from halfmap.io.movies import open_movie
from halfmap.io.mrc import write_image
from halfmap.motion.gain.defects import Defects, find_defects, read_defects
from halfmap.motion.gain.options import GainOptions
from halfmap.motion.gain.pattern import EstimatedGain, Fit, estimated_gain, fits, is_told, pattern, shared_sd
from halfmap.typing import Array, FloatArray


@dataclass(frozen=True)
class SummedMovie:
    """A movie, and where the sum of its frames is put."""

    movie: Path
    sum_file: Path


def sum_movie(task: SummedMovie) -> dict[str, Any]:
    """Add the frames of a movie as they were recorded; pixels that are not finite in a frame count as 0 there."""
    movie = open_movie(task.movie, eer_frames_per_fraction=1)
    total = np.zeros(movie.shape, np.float32)
    for frame in movie.frames():
        if frame.dtype.kind == "f":
            frame = np.where(np.isfinite(frame), frame, 0.0)
        np.add(total, frame, out=total, casting="unsafe")
    mean = float(total.mean(dtype=np.float64))
    if not mean > 0:
        raise BadInputError(
            task.movie, "frames", found=f"a mean of {mean:g} counts", expected="counts of electrons",
            remedy="Leave this movie out.",
        )  # fmt: skip
    task.sum_file.parent.mkdir(parents=True, exist_ok=True)
    with task.sum_file.open("wb") as stream:
        np.save(stream, total)
    return {"frames": movie.n_frames, "shape": list(movie.shape), "counts_per_pixel": mean}


@dataclass(frozen=True)
class GainReport:
    """What was found, for the step to write down.

    Attributes
    ----------
    gain
        ``[y, x]`` float32 factors for the movies as they are read, 0 for defects.
    ranked
        Fits of the reference that was given, the best first; empty if none was.
    told
        Whether the best of them can be believed.
    estimate
        What was estimated in place of a reference.
    defects
        Pixels that are bad.
    pattern_before, pattern_after
        Standard deviation of the fixed pattern without and with the reference, as two halves of the movies share it.
        Of an estimated gain the second is None: its own movies cannot judge it.
    """

    gain: FloatArray
    ranked: list[Fit]
    told: bool
    estimate: EstimatedGain | None
    defects: Defects
    pattern_before: float
    pattern_after: float | None


def examine(sum_files: Sequence[Path], movie: Path, options: GainOptions) -> GainReport:
    """Find the orientation of the reference, or estimate one; find defects; see what pattern is left.

    Parameters
    ----------
    sum_files
        Sums of movies of one shape.
    movie
        One of the movies, for what its format says of references.
    options
        Declared options.

    Raises
    ------
    BadInputError
        If the reference has another size than the movies, or a file of defects does not fit.
    """
    halves = [_total(sum_files[start::2]) for start in (0, 1)]
    shape = halves[0].shape
    known = np.zeros(shape, bool) if options.defects is None else read_defects(options.defects, shape)
    ranked: list[Fit] = []
    told, estimate, reference = True, None, None
    if options.gain is not None:
        given = read_gain(options.gain, open_movie(movie, eer_frames_per_fraction=1))
        ranked = fits(halves[0] + halves[1], given)
        if not ranked:
            raise BadInputError(
                options.gain, "shape (rows, columns)", found=given.shape, expected=f"{shape} or its transpose",
                remedy="Give the reference of this camera and mode; super-resolution movies need one of their size.",
            )  # fmt: skip
        told = is_told(ranked, known.size)
        reference = oriented(given, ranked[0])
        known = known | (reference == 0)
    corrected = reference if reference is not None else np.ones(shape, np.float32)
    defects = find_defects((one * np.where(known, 1.0, corrected) for one in _each(sum_files)), known)
    if reference is None:
        estimate = estimated_gain(halves, defects.all)
        reference = estimate.gain
    gain = np.where(defects.all, 0.0, reference).astype(np.float32)
    before = _shared_pattern(halves, np.ones_like(gain), ~defects.all)
    after = None if estimate is not None else _shared_pattern(halves, gain, ~defects.all)
    return GainReport(gain, ranked, told, estimate, defects, before, after)


def _shared_pattern(halves: Sequence[FloatArray], gain: FloatArray, good: Array) -> float:
    return shared_sd(*(pattern(half * gain, good) for half in halves))


def oriented(reference: FloatArray, fit: Fit) -> FloatArray:
    """A reference as factors in the orientation of a fit."""
    turned = np.ascontiguousarray(fit.orientation.of(reference))
    if not fit.inverted:
        return turned
    return np.asarray(np.divide(1.0, turned, out=np.zeros_like(turned), where=turned > 0))


def write_gain(path: Path, gain: FloatArray, movie: Path) -> None:
    """Write factors so that reading them for these movies gives them back (EER: MRC files hold the inverse)."""
    values = gain
    if format_suffix(movie) == ".eer":
        values = np.divide(1.0, gain, out=np.zeros_like(gain), where=gain > 0)
    write_image(path, values, 1.0)


def defect_rows(defects: Defects) -> dict[str, Array]:
    """Every bad pixel with what is wrong with it, for a table; x and y in px from 0."""
    kinds = {"known": defects.known, "hot": defects.hot, "dead": defects.dead, "unstable": defects.unstable}
    y, x = np.nonzero(defects.all)
    kind = np.full(len(x), "", dtype=object)
    for name, mask in kinds.items():
        kind[mask[y, x]] = name
    return {"rlnCoordinateX": x.astype(np.float64), "rlnCoordinateY": y.astype(np.float64), "rlnHalfmapReason": kind}


def _each(sum_files: Sequence[Path]) -> Iterator[FloatArray]:
    for file in sum_files:
        yield np.load(file)


def _total(sum_files: Sequence[Path]) -> FloatArray:
    files = list(sum_files)
    total: FloatArray = np.load(files[0]).astype(np.float64)
    for file in files[1:]:
        total += np.load(file)
    return total
