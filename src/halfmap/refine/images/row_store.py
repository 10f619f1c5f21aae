"""Rows of a large array in memory, or in a temporary file of which no more than the rows at hand is in memory."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from halfmap.errors import HalfmapError
from halfmap.typing import Array


@runtime_checkable
class RowStore(Protocol):
    """What holds the rows."""

    def write(self, rows: Array, values: Array) -> None:
        """Keep some rows."""

    def read(self, rows: Array, count: int) -> Array:
        """The first ``count`` values of some rows."""


class RowsInMemory:
    """Rows of an array."""

    def __init__(self, shape: tuple[int, int], dtype: type) -> None:
        self._values: Array = np.empty(shape, dtype)

    def write(self, rows: Array, values: Array) -> None:
        """Keep some rows."""
        self._values[rows] = values

    def read(self, rows: Array, count: int) -> Array:
        """The first ``count`` values of some rows."""
        return np.ascontiguousarray(self._values[rows, :count])


class RowsInFile:
    """Rows in a temporary file that goes when this does.

    Read and written by system calls, not mapped: what was touched of a mapped file counts as memory of the process,
    and would grow to the size of the file.

    Raises
    ------
    HalfmapError
        If the disk is full, when rows are written.
    """

    def __init__(self, shape: tuple[int, int], dtype: type, folder: Path | None) -> None:
        self._dtype, self._row_bytes = np.dtype(dtype), np.dtype(dtype).itemsize * shape[1]
        self._folder = folder
        with tempfile.TemporaryFile(dir=folder, prefix=".transforms-", suffix=".cache") as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        os.truncate(self._file, shape[0] * self._row_bytes)

    def write(self, rows: Array, values: Array) -> None:
        """Keep some rows."""
        kept = np.ascontiguousarray(values, self._dtype)
        try:
            written = [
                os.pwrite(self._file, value, int(row) * self._row_bytes) for row, value in zip(rows, kept, strict=True)
            ]
        except OSError as error:
            raise self._failed(error.strerror or "the disk cannot be written") from error
        if any(size != self._row_bytes for size in written):
            raise self._failed("the disk is full")

    def read(self, rows: Array, count: int) -> Array:
        """The first ``count`` values of some rows."""
        found: Array = np.empty((len(rows), count), self._dtype)
        for row, values in zip(rows, found, strict=True):
            if os.preadv(self._file, [values], int(row) * self._row_bytes) != values.nbytes:
                raise self._failed("it was cut short")
        return found

    def _failed(self, why: str) -> HalfmapError:
        return HalfmapError(
            f"transforms of the particles cannot be kept in a file in {self._folder or tempfile.gettempdir()}: {why}",
            remedy="Make room on that disk, or give --memory enough to keep them in memory.",
        )


def row_store(shape: tuple[int, int], dtype: type, memory_GB: float, folder: Path | None) -> RowStore:
    """Rows in memory, or, beyond a size, in a temporary file."""
    if np.dtype(dtype).itemsize * math.prod(shape) <= memory_GB * 1e9:
        return RowsInMemory(shape, dtype)
    return RowsInFile(shape, dtype, folder)
