"""Gain references, always returned as what counts are multiplied with.

- MRC and TIFF references of counting cameras multiply; TIFF images are turned upside down as TIFF
  movies are.
- For EER movies a ``.gain`` file (a TIFF) multiplies and lies as the movie does, while an MRC or
  TIFF reference holds the inverse and is inverted here (RELION's rule). Where the movie is rendered
  in sub-pixels, each value of the reference stands for all of its pixel.
- A zero (in either form), negative or not finite value marks a defective pixel; it is returned as 0.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halfmap.errors import BadInputError
from halfmap.io.files import format_suffix
from halfmap.io.frames import Movie
from halfmap.io.mrc import open_stack
from halfmap.io.tiff import TIFF_SUFFIXES, read_tiff_image
from halfmap.typing import Array, FloatArray, PathLike


def read_gain(path: PathLike, movie: Movie | None = None) -> FloatArray:
    """Read a gain reference for a movie.

    Parameters
    ----------
    path
        MRC, TIFF or .gain file.
    movie
        A movie that it is for. It decides how an EER reference is meant and rendered; without one the
        reference is taken for that of a counting camera.

    Returns
    -------
    array
        float32 ``[y, x]``: factors, 0 for defective pixels.

    Raises
    ------
    BadInputError
        The file is damaged, holds several images, or no positive value.
    """
    path = Path(path)
    suffix = format_suffix(path)
    raw = _read(path, suffix)
    good = np.isfinite(raw) & (raw > 0)
    if not good.any():
        raise BadInputError(
            path, "pixels", found="nowhere positive", expected="a gain reference", remedy="Give the right file."
        )
    gain = np.where(good, raw, 0).astype(np.float32)
    if movie is not None and movie.path.suffix.lower() == ".eer":
        if suffix != ".gain":
            gain = np.divide(1.0, gain, out=np.zeros_like(gain), where=good)
        gain = _rendered(gain, movie.shape)
    return gain


def _read(path: Path, suffix: str) -> Array:
    if suffix in TIFF_SUFFIXES:
        image = read_tiff_image(path)
        return image if suffix == ".gain" else image[::-1]
    stack = open_stack(path)
    if stack.n != 1:
        raise BadInputError(
            path, "nz (sections)", found=stack.n, expected="1, a gain reference", remedy="Give a single image."
        )
    return np.asarray(stack.read([0])[0])


def _rendered(gain: FloatArray, shape: tuple[int, int]) -> FloatArray:
    for factor in (2, 4):
        if (gain.shape[0] * factor, gain.shape[1] * factor) == shape:
            return np.repeat(np.repeat(gain, factor, axis=0), factor, axis=1)
    return gain
