"""Movies of any format: TIFF, MRC (plain, .gz, .bz2) and EER."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import numpy as np

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.eer import EerMovie, write_eer
from halfmap.io.files import existing_file, format_suffix, is_compressed
from halfmap.io.frames import Movie
from halfmap.io.mrc import MrcStack, StackWriter, open_stack
from halfmap.io.tiff import TiffMovie, write_tiff_movie
from halfmap.typing import Array, PathLike

__all__ = ["MOVIE_SUFFIXES", "Movie", "open_movie", "write_movie"]

_MRC = (".mrc", ".mrcs", ".st")
_TIFF = (".tif", ".tiff")
_EER = (".eer",)
MOVIE_SUFFIXES = _MRC + _TIFF + _EER
"""Suffixes of movies; those of MRC also with .gz or .bz2 behind."""


class MrcMovie(Movie):
    """A stack of frames in an MRC file."""

    def __init__(self, path: PathLike) -> None:
        self._stack: MrcStack = open_stack(path)
        self.path = self._stack.path
        self.n_frames = self._stack.n
        self.shape = self._stack.shape
        self.pixel_size_A = self._stack.pixel_size_A
        if self._stack.header.mode in (3, 4):
            raise BadInputError(
                self.path, "mode", found=f"{self._stack.header.mode} (complex)", expected="frames of real numbers",
                remedy="Give the movie itself, not transforms.",
            )  # fmt: skip

    def _frame(self, index: int) -> Array:
        return self._stack[index]


def open_movie(
    path: PathLike,
    *,
    dose_per_frame: float | None = None,
    dose_total: float | None = None,
    eer_frames_per_fraction: int | None = None,
    eer_upsampling: int = 1,
    pixel_size_A: float | None = None,
) -> Movie:
    """Open a movie, told apart by the suffix of its name; frames are read when asked for.

    Parameters
    ----------
    path
        File ending in one of ``MOVIE_SUFFIXES``; MRC files may be compressed (.gz, .bz2).
    dose_per_frame, dose_total
        Exposure in e/Å² of a frame as wanted, and of the whole movie. EER movies are grouped by
        them; where the total is not given, the file's metadata are asked, which needs the pixel
        size. Other formats have their frames already.
    eer_frames_per_fraction
        Number of camera frames in a frame, instead of the doses.
    eer_upsampling
        1, 2 or 4 pixels for each one of the camera.
    pixel_size_A
        Pixel size of the camera's pixels in Å.

    Raises
    ------
    BadInputError
        Unknown suffix, damaged or incomplete file, pages of different shapes, unknown grouping.
    """
    path = existing_file(path)
    suffix = format_suffix(path)
    if suffix in _MRC:
        return MrcMovie(path)
    if suffix in MOVIE_SUFFIXES and not is_compressed(path):
        if suffix in _TIFF:
            return TiffMovie(path)
        return EerMovie(
            path,
            dose_per_fraction=dose_per_frame,
            dose_total=dose_total,
            frames_per_fraction=eer_frames_per_fraction,
            upsampling=eer_upsampling,
            pixel_size_A=pixel_size_A,
        )
    raise BadInputError(
        path, "suffix", found="".join(path.suffixes) or "absent", expected=f"one of {', '.join(MOVIE_SUFFIXES)}",
        remedy="Rename the file if it is one of these.",
    )  # fmt: skip


def write_movie(path: PathLike, frames: Iterable[Array], pixel_size_A: float) -> None:
    """Write frames ``[y, x]`` in the format that the suffix tells: .tif (LZW), .mrc or .mrcs, .eer.

    Counts (uint8) go into MRC files as signed bytes and have to stay below 128 there. EER takes
    camera frames of zeros and ones.
    """
    suffix = Path(path).suffix.lower()
    if suffix in _TIFF:
        write_tiff_movie(path, frames, pixel_size_A)
    elif suffix in _EER:
        write_eer(path, frames)
    elif suffix in _MRC:
        iterator = iter(frames)
        try:
            first = np.asarray(next(iterator))
        except StopIteration:
            raise HalfmapError(f"{path}: there are no frames to write") from None
        dtype = np.int8 if first.dtype == np.uint8 else first.dtype
        with StackWriter(path, None, (first.shape[0], first.shape[1]), pixel_size_A, dtype=dtype) as writer:
            for frame in chain([first], iterator):
                writer.write(frame)
    else:
        raise HalfmapError(f"{path}: movies are written as .tif, .mrc, .mrcs or .eer")
