"""MRC files: volumes, images and stacks of images, in all modes, memory-mapped."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.data.records import Volume
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import (
    DECOMPRESSION_ERRORS,
    check_pixel_size,
    check_pixels,
    is_compressed,
    open_binary,
    read_exactly,
    whole_file,
)
from halfmap.io.mrc_header import (
    HEADER_BYTES,
    PACKED_4_BIT,
    MrcHeader,
    check_data_length,
    make_header,
    read_header,
    writable_dtype,
)
from halfmap.typing import Array, PathLike

__all__ = [
    "MrcStack",
    "StackWriter",
    "check_pixel_size",
    "open_stack",
    "read_image",
    "read_volume",
    "write_image",
    "write_stack",
    "write_volume",
]


class MrcStack:
    """Sections of an MRC file, read when asked for.

    Plain files are memory-mapped; .gz and .bz2 files are decompressed on the way, fast only from
    the first section to the last. ``stack[i]`` is the section in the type of the file (complex64
    for modes 3 and 4, uint8 for 4-bit data) with native byte order.
    """

    def __init__(self, header: MrcHeader) -> None:
        self.header = header
        self.path = header.path
        self.n, *image_shape = header.shape
        self.shape: tuple[int, int] = (image_shape[0], image_shape[1])
        self.pixel_size_A = header.pixel_size_A
        self._stream: BinaryIO | None = open_binary(self.path) if is_compressed(self.path) else None
        self._map: Array | None = None
        self._mapped: mmap.mmap | None = None
        if self._stream is None:
            with self.path.open("rb") as file:
                self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            data = np.frombuffer(self._mapped, np.uint8, self.n * header.section_bytes, header.data_offset)
            self._map = data.reshape(self.n, header.section_bytes)

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Array]:
        return (self[i] for i in range(self.n))

    def __getitem__(self, index: int) -> Array:
        index = int(index)
        if not 0 <= index < self.n:
            raise BadInputError(
                self.path, "section", found=index + 1, expected=f"from 1 to {self.n}",
                remedy="Check that the file belongs to the table that names it.",
            )  # fmt: skip
        return _decode(self._section(index), self.header)

    def read(self, indices: Sequence[int] | Array) -> Array:
        """Return sections as float32 ``[n, y, x]`` in the order asked for, reading in file order."""
        indices = np.asarray(indices, dtype=np.int64)
        images = np.empty((len(indices), *self.shape), np.float32)
        for position in np.argsort(indices, kind="stable"):
            section = self[indices[position]]
            if section.dtype.kind == "c":
                raise _not_real(self.header)
            images[position] = section
        self._let_go()
        return images

    def _let_go(self) -> None:
        """Let the system take back what was read of a mapped file: it would count as memory of this process."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def _section(self, index: int) -> Array:
        if self._map is not None:
            return np.asarray(self._map[index])
        assert self._stream is not None
        size = self.header.section_bytes
        try:
            self._stream.seek(self.header.data_offset + index * size)
        except DECOMPRESSION_ERRORS as error:
            raise BadInputError(
                self.path, f"section {index + 1}", found=f"damaged ({error})", expected=f"{size} bytes",
                remedy="Copy or write the file again.",
            ) from error  # fmt: skip
        data = read_exactly(self._stream, size, self.path, f"section {index + 1}")
        if index == self.n - 1:
            self._check_end(self._stream)
        return np.frombuffer(data, np.uint8)

    def _check_end(self, stream: BinaryIO) -> None:
        """Read on to the end of a compressed file, where its check sum is, and see that no sections follow."""
        try:
            rest = len(stream.read(self.header.section_bytes))
        except DECOMPRESSION_ERRORS as error:
            raise BadInputError(
                self.path, "end of the file", found=f"damaged ({error})", expected="a check sum that fits",
                remedy="Copy or write the file again.",
            ) from error  # fmt: skip
        check_data_length(self.header, self.header.data_offset + self.n * self.header.section_bytes + rest)


class StackWriter:
    """Write a stack of images section by section; the file appears when the writer is closed well.

    Parameters
    ----------
    path
        Final name. Until the end the data are in a temporary file beside it.
    n
        Number of images, or None for as many as come; a different number in the end is an error.
    shape
        (rows, columns) of every image.
    pixel_size_A
        Pixel size in Å for the header.
    dtype
        Type to store; one that MRC has (float32, float16, int8, int16, uint16, complex64).

    Used as a context manager: an exception inside leaves no file.
    """

    def __init__(
        self,
        path: PathLike,
        n: int | None,
        shape: tuple[int, int],
        pixel_size_A: float,
        *,
        dtype: Any = np.float32,
    ) -> None:
        self.path = Path(path)
        self.shape = (int(shape[0]), int(shape[1]))
        self.pixel_size_A = float(pixel_size_A)
        self.dtype = np.dtype(dtype)
        if writable_dtype(self.dtype) != self.dtype:
            raise HalfmapError(f"{self.path}: MRC cannot store {self.dtype}; use {writable_dtype(self.dtype)}")
        self.expected = n
        self.n = 0
        self._statistics = _Statistics()
        self._whole = whole_file(self.path)
        self._file = self._whole.__enter__().open("wb")
        self._file.write(bytes(HEADER_BYTES))

    def write(self, images: Array) -> None:
        """Append one image ``[y, x]`` or several ``[n, y, x]``."""
        images = np.asarray(images)
        if images.ndim == 2:
            images = images[None]
        if images.ndim != 3 or images.shape[1:] != self.shape:
            raise HalfmapError(f"{self.path}: images of shape {images.shape} do not fit a stack of {self.shape}")
        stored = _stored(images, self.dtype, self.path)
        self._statistics.add(stored)
        self._file.write(stored.data)
        self.n += len(stored)

    def __enter__(self) -> StackWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._file.close()
            self._whole.__exit__(kind, error, trace)
            return
        self.close()

    def close(self) -> None:
        """Write the header and give the file its final name."""
        try:
            if self.n == 0 or (self.expected is not None and self.n != self.expected):
                expected = "some" if self.expected is None else self.expected
                raise HalfmapError(f"{self.path}: {self.n} images were written, {expected} were announced")
            header = make_header(
                (self.n, *self.shape),
                self.dtype,
                self.pixel_size_A,
                content="images",
                statistics=self._statistics.summary(),
            )
            self._file.seek(0)
            self._file.write(header)
            self._file.flush()
            os.fsync(self._file.fileno())
        except BaseException as error:
            self._file.close()
            self._whole.__exit__(type(error), error, error.__traceback__)
            raise
        self._file.close()
        self._whole.__exit__(None, None, None)


def open_stack(path: PathLike) -> MrcStack:
    """Open the sections of an MRC file without reading them."""
    return MrcStack(read_header(Path(path)))


def read_image(path: PathLike) -> tuple[Array, float | None]:
    """Read a file that holds one image.

    Returns
    -------
    (array, pixel_size_A)
        float32 ``[y, x]``; the pixel size is None where the header does not tell.

    Raises
    ------
    BadInputError
        The file is damaged, holds several sections, is complex, constant, or not finite.
    """
    path = Path(path)
    stack = open_stack(path)
    if stack.n != 1:
        raise BadInputError(
            path, "nz (sections)", found=stack.n, expected="1, a single image",
            remedy="Give a micrograph here, not a stack, movie or volume.",
        )  # fmt: skip
    image = stack.read([0])[0]
    check_pixels(image, stack.path, "image")
    return image, stack.pixel_size_A


def read_volume(path: PathLike) -> Volume:
    """Read a density map or mask as float32 ``[z, y, x]``.

    Raises
    ------
    BadInputError
        The file is damaged, is a single image, is complex, constant, or not finite, or its header
        has no pixel size or different ones along the axes.
    """
    path = Path(path)
    stack = open_stack(path)
    header = stack.header
    if stack.n == 1:
        raise BadInputError(
            path, "nz (sections)", found=1, expected="a volume with several sections",
            remedy="Give a three-dimensional map here, not an image.",
        )  # fmt: skip
    data = stack.read(np.arange(stack.n))
    check_pixels(data, stack.path, "volume")
    # axes[i] says which of x, y, z the file's columns (0), rows (1), sections (2) are.
    data = np.ascontiguousarray(data.transpose([2 - header.axes.index(axis) for axis in (3, 2, 1)]))
    spacing = header.section_spacing_A
    if stack.pixel_size_A is None:
        raise BadInputError(
            path, "pixel size", found="absent", expected="a positive number of Å",
            remedy="Set the cell size in the header (relion_image_handler --force_header_angpix does).",
        )  # fmt: skip
    if spacing is not None and abs(spacing / stack.pixel_size_A - 1.0) > PIXEL_SIZE_TOLERANCE:
        raise BadInputError(
            path, "pixel size", found=f"{stack.pixel_size_A:.6g} Å in x and {spacing:.6g} Å in z",
            expected="cubic voxels", remedy="Resample the map, or correct the cell in its header.",
        )  # fmt: skip
    return Volume(data, stack.pixel_size_A, header.origin_A)


def write_volume(path: PathLike, volume: Volume, *, dtype: Any = np.float32) -> None:
    """Write a density map with its pixel size and origin; the file appears whole or not at all."""
    _write_array(path, volume.data, volume.pixel_size_A, "volume", np.dtype(dtype), volume.origin_A)


def write_image(path: PathLike, array: Array, pixel_size_A: float, *, dtype: Any = None) -> None:
    """Write one image ``[y, x]``, by default in its own type if MRC has it, else the next wider one."""
    array = np.asarray(array)
    if array.ndim != 2:
        raise HalfmapError(f"{path}: an image has two dimensions, this one has shape {array.shape}")
    _write_array(path, array[None], pixel_size_A, "images", _dtype_of(array, dtype))


def write_stack(path: PathLike, images: Array, pixel_size_A: float, *, dtype: Any = None) -> None:
    """Write a stack of images ``[n, y, x]`` that is in memory; see ``StackWriter`` for longer ones."""
    images = np.asarray(images)
    if images.ndim != 3:
        raise HalfmapError(f"{path}: a stack has three dimensions, this one has shape {images.shape}")
    _write_array(path, images, pixel_size_A, "images", _dtype_of(images, dtype))


def _dtype_of(array: Array, dtype: Any) -> np.dtype[Any]:
    return writable_dtype(array.dtype) if dtype is None else np.dtype(dtype)


def _write_array(
    path: PathLike,
    array: Array,
    pixel_size_A: float,
    content: Literal["images", "volume"],
    dtype: np.dtype[Any],
    origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> None:
    if writable_dtype(dtype) != dtype:
        raise HalfmapError(f"{path}: MRC cannot store {dtype}; use {writable_dtype(dtype)}")
    statistics = _Statistics()
    stored = _stored(array, dtype, Path(path))
    statistics.add(stored)
    header = make_header(
        stored.shape, dtype, pixel_size_A, content=content, origin_A=origin_A, statistics=statistics.summary()
    )
    with whole_file(path) as part, part.open("wb") as file:
        file.write(header)
        file.write(stored.data)
        file.flush()
        os.fsync(file.fileno())


def _stored(array: Array, dtype: np.dtype[Any], path: Path) -> Array:
    """The array in the type and order of the file; integers that do not fit are an error."""
    if dtype.kind in "iu" and array.dtype != dtype and array.size:
        limits = np.iinfo(dtype)
        low, high = array.min(), array.max()
        if low < limits.min or high > limits.max:
            raise HalfmapError(f"{path}: values from {low} to {high} do not fit {dtype}")
    return np.ascontiguousarray(array, dtype=dtype.newbyteorder("<"))


def _decode(section: Array, header: MrcHeader) -> Array:
    """Turn the bytes of a section into pixels ``[y, x]`` with native byte order."""
    _, ny, nx = header.shape
    if header.mode == PACKED_4_BIT:
        rows = section.reshape(ny, -1)
        pixels = np.empty((ny, rows.shape[1], 2), np.uint8)
        pixels[..., 0] = rows & 0x0F
        pixels[..., 1] = rows >> 4
        return pixels.reshape(ny, -1)[:, :nx]
    values = section.view(header.dtype).reshape(ny, nx)
    if header.dtype.names:
        return (values["re"] + np.complex64(1j) * values["im"]).astype(np.complex64)
    return values.astype(header.dtype.newbyteorder("="), copy=False)


def _not_real(header: MrcHeader) -> BadInputError:
    return BadInputError(
        header.path, "mode", found=f"{header.mode} (complex)", expected="a mode of real numbers (0, 1, 2, 6, 12, 101)",
        remedy="Give the image itself, not its transform.",
    )  # fmt: skip


class _Statistics:
    """Minimum, maximum, mean and rms deviation of images that pass by."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.total_of_squares = 0.0
        self.low = np.inf
        self.high = -np.inf

    def add(self, images: Array) -> None:
        """Take one more array of images into account; complex ones are passed over."""
        if images.dtype.kind == "c":
            return
        for image in images:
            self.count += image.size
            self.total += float(image.sum(dtype=np.float64))
            self.total_of_squares += float(np.square(image, dtype=np.float64).sum())
            self.low = min(self.low, float(image.min()))
            self.high = max(self.high, float(image.max()))

    def summary(self) -> tuple[float, float, float, float]:
        """Values for the header; the standard's marks of ignorance if there are none."""
        if self.count == 0:
            return (0.0, -1.0, -2.0, -1.0)
        mean = self.total / self.count
        variance = max(self.total_of_squares / self.count - mean * mean, 0.0)
        return (self.low, self.high, mean, float(np.sqrt(variance)))
