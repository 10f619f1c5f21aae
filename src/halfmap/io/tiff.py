"""Multi-page TIFF: movies as cameras write them (8 or 16 bit, LZW, deflate or plain), gain references.

Rows run from the bottom in MRC files and from the top in TIFF files. SerialEM, IMOD, MotionCor2 and
RELION therefore turn TIFF images upside down when they read or write them, and so does this module.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import existing_file, whole_file
from halfmap.io.frames import Movie
from halfmap.io.lzw import ALPHABET, SPARE_BYTES, decode_strips
from halfmap.typing import Array, PathLike

# tifffile logs what it then passes over; here every fault is an error, said once.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

TIFF_SUFFIXES = (".tif", ".tiff", ".gain")
_REMEDY = "Copy or write the file again."
_LZW = 5
_A_PER_UNIT = {2: 2.54e8, 3: 1.0e8}
"""Å in the units of TIFF resolutions: inch and centimetre."""
_PLAUSIBLE_PIXEL_A = (0.01, 100.0)


class TiffPages:
    """Pages of a TIFF file, checked to be all there and of one shape and type.

    The file is open only while something is read from it.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = existing_file(path)
        try:
            with tifffile.TiffFile(self.path) as self._file:
                self.pages = [page.aspage() for page in self._file.pages]
                self._check_chain()
                self._check_extents()
        except BadInputError:
            raise
        except Exception as error:  # tifffile passes on whatever its decoders and struct raise
            raise _damaged(self.path, "TIFF structure", error) from error
        shapes = {page.shape for page in self.pages}
        if len(shapes) > 1 or len(self.pages[0].shape) != 2:
            raise BadInputError(
                self.path, "shapes of the pages", found=sorted(shapes, key=str),
                expected="one shape of rows and columns",
                remedy="Write the movie again; its pages do not belong together.",
            )  # fmt: skip
        self.shape: tuple[int, int] = self.pages[0].shape
        types = {page.dtype for page in self.pages}
        if len(types) > 1 or self.pages[0].dtype is None or self.pages[0].dtype.kind not in "iuf":
            raise BadInputError(
                self.path, "pixel type", found=sorted(map(str, types)), expected="one type of integers or floats",
                remedy="Convert the file to 8- or 16-bit integers or 32-bit floats.",
            )  # fmt: skip

    def read(self, index: int) -> Array:
        """Decode one page, in the row order of the file."""
        try:
            pixels = self._decoded(index)
            if pixels is None:
                with self._reopened():
                    pixels = self.pages[index].asarray()
        except Exception as error:  # as above
            raise _damaged(self.path, f"page {index + 1}", error) from error
        return np.asarray(pixels)

    def _decoded(self, index: int) -> Array | None:
        """One page of plain LZW; None for any other, and for a damaged one, of which tifffile says what is wrong."""
        page = self.pages[index]
        dtype = np.dtype(page.dtype).newbyteorder(page.parent.byteorder)
        plain = page.compression == _LZW and page.predictor == 1 and page.fillorder == 1 and not page.is_tiled
        if not plain or page.bitspersample != 8 * dtype.itemsize:
            return None
        counts = np.array(page.databytecounts, np.int64)
        out = np.empty(ALPHABET + page.size * dtype.itemsize + SPARE_BYTES, np.uint8)
        data = np.frombuffer(self.read_raw(index) + bytes(SPARE_BYTES), np.uint8)
        strip_bytes = page.rowsperstrip * page.shape[1] * dtype.itemsize
        if len(data) != counts.sum() + SPARE_BYTES or not counts.all():
            return None
        if not decode_strips(data, np.cumsum(counts) - counts, counts, strip_bytes, out):
            return None
        pixels = out[ALPHABET:-SPARE_BYTES].view(dtype).reshape(page.shape)
        return pixels.astype(dtype.newbyteorder("="), copy=False)

    def read_raw(self, index: int) -> bytes:
        """The bytes of one page as they lie in the file, strip after strip."""
        page = self.pages[index]
        strips = []
        with self.path.open("rb") as file:
            for offset, count in _joined(zip(page.dataoffsets, page.databytecounts, strict=True)):
                file.seek(offset)
                strips.append(file.read(count))
        return b"".join(strips)

    @contextmanager
    def _reopened(self) -> Iterator[None]:
        self._file.filehandle.open()
        try:
            yield
        finally:
            self._file.filehandle.close()

    def tag(self, index: int, tag: int | str) -> Any:
        """Value of a tag of a page, None if it has no such tag."""
        try:
            with self._reopened():
                return self.pages[index].tags.valueof(tag)
        except Exception as error:  # as above
            raise _damaged(self.path, f"tag {tag} of page {index + 1}", error) from error

    def pixel_size_A(self) -> float | None:
        """Pixel size from the resolution tags, None if they are missing or mean dots on paper."""
        unit = self.tag(0, "ResolutionUnit")
        resolutions = [self.tag(0, f"{axis}Resolution") for axis in "XY"]
        if unit not in _A_PER_UNIT or resolutions[0] != resolutions[1]:
            return None
        try:
            pixels, units = resolutions[0]
            size_A = _A_PER_UNIT[unit] * units / pixels
        except (TypeError, ValueError, ZeroDivisionError):
            return None
        low, high = _PLAUSIBLE_PIXEL_A
        return float(f"{size_A:.6g}") if low < size_A < high else None

    def _check_chain(self) -> None:
        """Raise if the last page read points to another one: the rest of the file is missing."""
        tiff, handle = self._file.tiff, self._file.filehandle
        handle.seek(self.pages[-1].offset)
        (n_tags,) = struct.unpack(tiff.tagnoformat, handle.read(tiff.tagnosize))
        handle.seek(self.pages[-1].offset + tiff.tagnosize + n_tags * tiff.tagsize)
        (following,) = struct.unpack(tiff.offsetformat, handle.read(tiff.offsetsize))
        if following:
            raise BadInputError(
                self.path, "pages", found=f"{len(self.pages)}, and the next one is missing", expected="all pages",
                remedy=_REMEDY,
            )  # fmt: skip

    def _check_extents(self) -> None:
        size = self.path.stat().st_size
        for number, page in enumerate(self.pages, start=1):
            ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if not ends or max(ends) > size or min(page.databytecounts) < 0:
                raise BadInputError(
                    self.path, f"page {number}", found=f"cut short (the file ends at {size} bytes)",
                    expected=f"{max(ends, default=0)} bytes", remedy=_REMEDY,
                )  # fmt: skip


def _joined(strips: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Offsets and byte counts of strips; those that follow each other in the file are read as one.

    >>> _joined([(8, 10), (18, 5), (40, 2)])
    [(8, 15), (40, 2)]
    """
    joined: list[tuple[int, int]] = []
    for offset, count in strips:
        if joined and sum(joined[-1]) == offset:
            offset, count = joined[-1][0], joined.pop()[1] + count
        joined.append((offset, count))
    return joined


class TiffMovie(Movie):
    """A multi-page TIFF movie."""

    def __init__(self, path: PathLike) -> None:
        self._pages = TiffPages(path)
        self.path = self._pages.path
        self.n_frames = len(self._pages.pages)
        self.shape = self._pages.shape
        self.pixel_size_A = self._pages.pixel_size_A()

    def _frame(self, index: int) -> Array:
        return self._pages.read(index)[::-1]


def read_tiff_image(path: PathLike) -> Array:
    """Decode the first page of a TIFF file as it lies in the file (rows from the top)."""
    return TiffPages(path).read(0)


def write_tiff_movie(path: PathLike, frames: Iterable[Array], pixel_size_A: float) -> None:
    """Write frames ``[y, x]`` of one integer or float type as an LZW-compressed multi-page TIFF."""
    per_cm = (round(_A_PER_UNIT[3] / pixel_size_A), 1)
    with whole_file(path) as part:
        count = 0
        with tifffile.TiffWriter(part, bigtiff=False) as writer:
            for frame in frames:
                frame = np.asarray(frame)
                if frame.ndim != 2:
                    raise HalfmapError(f"{path}: a frame has two dimensions, this one has shape {frame.shape}")
                writer.write(
                    np.ascontiguousarray(frame[::-1]), photometric="minisblack", compression="lzw", rowsperstrip=64,
                    resolution=(per_cm, per_cm), resolutionunit="CENTIMETER", metadata=None,
                )  # fmt: skip
                count += 1
        if count == 0:
            raise HalfmapError(f"{path}: there are no frames to write")


def _damaged(path: Path, what: str, error: Exception) -> BadInputError:
    return BadInputError(path, what, found=f"not readable ({error})", expected="a whole TIFF file", remedy=_REMEDY)
