"""Opening and writing files: plain or compressed, whole or absent, with errors that say what is wrong."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.errors import BadInputError
from halfmap.typing import Array, PathLike

COMPRESSED_SUFFIXES = (".gz", ".bz2")

#: What the decompressors of the standard library raise for damaged data.
DECOMPRESSION_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError)


def existing_file(path: PathLike) -> Path:
    """Return ``path`` if it is a file with content, else raise ``BadInputError``."""
    path = Path(path)
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadInputError(
            path,
            "file",
            found=(error.strerror or "absent").lower(),
            expected="a readable file",
            remedy="Check the name.",
        ) from error
    if not path.is_file():
        raise BadInputError(path, "file", found="a folder", expected="a file", remedy="Name a file inside it.")
    if size == 0:
        raise BadInputError(path, "size", found="0 bytes", expected="some data", remedy="Copy or write the file again.")
    return path


def is_compressed(path: PathLike) -> bool:
    """Whether the name ends in .gz or .bz2."""
    return Path(path).suffix.lower() in COMPRESSED_SUFFIXES


def format_suffix(path: PathLike) -> str:
    """Suffix that tells the format, in lower case, without .gz or .bz2.

    >>> format_suffix("a/b.MRC.gz")
    '.mrc'
    """
    path = Path(path)
    return (path.with_suffix("") if is_compressed(path) else path).suffix.lower()


def open_binary(path: PathLike) -> BinaryIO:
    """Open an existing file for reading; .gz and .bz2 are decompressed on the way."""
    path = existing_file(path)
    suffix = path.suffix.lower()
    try:
        if suffix == ".gz":
            return cast("BinaryIO", gzip.open(path, "rb"))
        if suffix == ".bz2":
            return cast("BinaryIO", bz2.open(path, "rb"))
        return path.open("rb")
    except OSError as error:
        raise BadInputError(
            path,
            "file",
            found=(error.strerror or str(error)).lower(),
            expected="readable",
            remedy="Check its permissions.",
        ) from error


def read_exactly(stream: BinaryIO, count: int, path: Path, what: str) -> bytes:
    """Read ``count`` bytes or raise ``BadInputError`` saying how many there were."""
    try:
        data = stream.read(count)
    except DECOMPRESSION_ERRORS as error:
        raise BadInputError(
            path, what, found=f"damaged ({error})", expected=f"{count} bytes", remedy="Copy or write the file again."
        ) from error
    if len(data) < count:
        raise BadInputError(
            path, what, found=f"truncated at {len(data)} bytes", expected=f"{count} bytes",
            remedy="Copy or write the file again.",
        )  # fmt: skip
    return data


@contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well.

    Readers see the old file, the new one, or none, never a part. The suffix is kept, so that
    writers which look at it behave the same.
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_name(f".writing-{os.getpid()}-{final.name}")
    try:
        yield part
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


def check_pixel_size(file: str | Path, found: float, expected: float, what: str) -> None:
    """Raise ``BadInputError`` with the ratio if two pixel sizes of one thing differ by more than 0.1 %.

    Parameters
    ----------
    file
        File that ``found`` comes from.
    found, expected
        Pixel sizes in Å.
    what
        Where ``expected`` comes from, e.g. ``"the optics group"``.
    """
    if not (np.isfinite(found) and found > 0):
        raise BadInputError(
            file, "pixel size", found=found, expected="a positive number of Å", remedy="Correct it in the file."
        )
    ratio = found / expected
    if abs(ratio - 1.0) > PIXEL_SIZE_TOLERANCE:
        raise BadInputError(
            file,
            "pixel size",
            found=f"{found:.6g} Å",
            expected=f"{expected:.6g} Å as in {what}: ratio {ratio:.5f}, {100 * PIXEL_SIZE_TOLERANCE:g} % is allowed",
            remedy="Find out which one is right and correct the other.",
        )


def check_pixels(pixels: Array, file: str | Path, what: str) -> None:
    """Raise ``BadInputError`` if an array that should hold an image has NaN, infinite, or only equal values."""
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
        raise BadInputError(
            file, what, found=f"not finite in {bad} of {pixels.size} pixels", expected="finite numbers",
            remedy="Make the file again; it is damaged or the program that wrote it failed.",
        )  # fmt: skip
    if low == high:
        raise BadInputError(
            file, what, found=f"constant ({low:g} everywhere)", expected="an image",
            remedy="Leave it out, or make it again.",
        )  # fmt: skip
