"""The 1024-byte header of an MRC file (MRC2014): read with every field checked, and made.

The field table is mrcfile's; the checks are our own because a header is judged together with the
length of its file, and because every fault has to end in one error that names the field.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.errors import BadInputError
from halfmap.io.fei import FeiMetadata, parse_fei
from halfmap.io.files import check_pixel_size, is_compressed, open_binary, read_exactly

HEADER_BYTES = 1024
PACKED_4_BIT = 101

MODE_DTYPES: dict[int, np.dtype[Any]] = {
    0: np.dtype(np.int8),
    1: np.dtype(np.int16),
    2: np.dtype(np.float32),
    3: np.dtype([("re", np.int16), ("im", np.int16)]),
    4: np.dtype(np.complex64),
    6: np.dtype(np.uint16),
    12: np.dtype(np.float16),
    PACKED_4_BIT: np.dtype(np.uint8),
}
"""Data type of each mode; mode 101 holds two pixels in a byte."""

_MODE_OF_DTYPE = {np.dtype(t): mode for mode, t in MODE_DTYPES.items() if mode not in (3, PACKED_4_BIT)}
_XYZ: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")
_LARGEST_EDGE = 1 << 24
_IMOD_STAMP = 1146047817
_IMOD_SIGNED_BYTES = 1
_LITTLE_STAMPS = (b"\x44\x44", b"\x44\x41", b"\x44\x00")
_BIG_STAMPS = (b"\x11\x11", b"\x11\x00")
_REWRITE = "Write the file again with the program that made it."


@dataclass(frozen=True)
class MrcHeader:
    """What the header of an MRC file says, after checking."""

    path: Path
    shape: tuple[int, int, int]
    """Sections, rows, columns as they lie in the file."""
    mode: int
    dtype: np.dtype[Any]
    """Type and byte order in the file (uint8 for packed 4-bit data)."""
    data_offset: int
    pixel_size_A: float | None
    """None where the file does not tell."""
    section_spacing_A: float | None
    axes: tuple[int, int, int]
    """Which of x=1, y=2, z=3 the columns, rows and sections are."""
    origin_A: tuple[float, float, float]
    fei: FeiMetadata | None

    @property
    def section_bytes(self) -> int:
        """Bytes of one section in the file."""
        _, ny, nx = self.shape
        row_bytes = (nx + 1) // 2 if self.mode == PACKED_4_BIT else nx * self.dtype.itemsize
        return ny * row_bytes


def read_header(path: Path) -> MrcHeader:
    """Read and check the header, the extended header and the length of the file."""
    with open_binary(path) as stream:
        raw = read_exactly(stream, HEADER_BYTES, path, "header")
        order = _byte_order(raw, path)
        fields = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
        extended_bytes = _checked_int(path, fields, "nsymbt", 0, 1 << 31)
        exttyp = bytes(fields["exttyp"])
        extended = read_exactly(stream, extended_bytes, path, "extended header") if exttyp[:3] == b"FEI" else b""
    nx, ny, nz = (_checked_int(path, fields, name, 1, _LARGEST_EDGE) for name in ("nx", "ny", "nz"))
    mode = int(fields["mode"])
    if mode not in MODE_DTYPES:
        raise BadInputError(
            path, "mode", found=mode, expected=f"one of {sorted(MODE_DTYPES)}", remedy="Convert the file to mode 2."
        )
    fei = parse_fei(extended, exttyp, order)
    axes = _axes(path, fields)
    header = MrcHeader(
        path=path,
        shape=(nz, ny, nx),
        mode=mode,
        dtype=_data_type(fields, mode).newbyteorder(order),
        data_offset=HEADER_BYTES + extended_bytes,
        pixel_size_A=_pixel_size(path, fields, fei),
        section_spacing_A=_spacing(path, fields, "z"),
        axes=axes,
        origin_A=_origin(path, fields, axes),
        fei=fei,
    )
    if not is_compressed(path):
        check_data_length(header, path.stat().st_size)
    return header


def make_header(
    shape: tuple[int, int, int],
    dtype: np.dtype[Any],
    pixel_size_A: float,
    *,
    content: Literal["images", "volume"],
    origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0),
    statistics: tuple[float, float, float, float] = (0.0, -1.0, -2.0, -1.0),
) -> bytes:
    """Return the header for data ``[z, y, x]``; ``statistics`` are minimum, maximum, mean, rms deviation.

    The defaults of ``statistics`` are the standard's way of saying that they are not known.
    """
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    nz, ny, nx = shape
    header["nx"], header["ny"], header["nz"] = nx, ny, nz
    header["mode"] = _MODE_OF_DTYPE[dtype.newbyteorder("=")]
    header["mx"], header["my"], header["mz"] = nx, ny, nz if content == "volume" else 1
    header["cella"] = tuple(n * pixel_size_A for n in (nx, ny, int(header["mz"])))
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["ispg"] = 1 if content == "volume" else 0
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = statistics
    header["nversion"] = 20141
    header["origin"] = origin_A
    header["map"] = b"MAP "
    header["machst"] = (0x44, 0x44, 0, 0)
    header["nlabl"] = 1
    header["label"][0] = b"halfmap"
    return header.tobytes()


def writable_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that data of ``dtype`` are stored as: their own if MRC has it, else the next wider one.

    >>> [str(writable_dtype(np.dtype(t))) for t in ("float64", "uint8", "int16", "float16")]
    ['float32', 'uint16', 'int16', 'float16']
    """
    dtype = dtype.newbyteorder("=")
    if dtype in _MODE_OF_DTYPE:
        return dtype
    if dtype in (np.dtype(np.uint8), np.dtype(np.bool_)):
        return np.dtype(np.uint16)
    return np.dtype(np.complex64 if dtype.kind == "c" else np.float32)


def _byte_order(raw: bytes, path: Path) -> Literal["<", ">"]:
    """Byte order, from the machine stamp and from which order makes sense of the dimensions and mode."""
    stamp = raw[212:214]
    stamped: Literal["<", ">"] | None = "<" if stamp in _LITTLE_STAMPS else ">" if stamp in _BIG_STAMPS else None
    sensible: list[Literal["<", ">"]] = [order for order in ("<", ">") if _makes_sense(raw, order)]
    if stamped is not None and (stamped in sensible or not sensible):
        return stamped
    if stamped is not None:
        raise BadInputError(
            path, "machst (byte order)", found="little-endian" if stamped == "<" else "big-endian",
            expected="the order in which nx, ny, nz and mode make sense, which is the other one", remedy=_REWRITE,
        )  # fmt: skip
    if not sensible:
        raise BadInputError(
            path, "header", found="neither little- nor big-endian MRC", expected="an MRC file",
            remedy="Check that this is an MRC file.",
        )  # fmt: skip
    return sensible[0]


def _makes_sense(raw: bytes, order: Literal["<", ">"]) -> bool:
    nx, ny, nz, mode = np.frombuffer(raw[:16], f"{order}i4")
    return all(0 < n <= _LARGEST_EDGE for n in (nx, ny, nz)) and mode in MODE_DTYPES


def _checked_int(path: Path, fields: Any, name: str, low: int, high: int) -> int:
    value = int(fields[name])
    if not low <= value <= high:
        raise BadInputError(path, name, found=value, expected=f"a number from {low} to {high}", remedy=_REWRITE)
    return value


def _data_type(fields: Any, mode: int) -> np.dtype[Any]:
    imod_stamp, imod_flags = np.frombuffer(bytes(fields["extra2"])[40:48], fields["nx"].dtype)
    if mode == 0 and imod_stamp == _IMOD_STAMP and not imod_flags & _IMOD_SIGNED_BYTES:
        return np.dtype(np.uint8)
    return MODE_DTYPES[mode]


def _axes(path: Path, fields: Any) -> tuple[int, int, int]:
    axes = (int(fields["mapc"]), int(fields["mapr"]), int(fields["maps"]))
    if axes == (0, 0, 0):
        return (1, 2, 3)
    if sorted(axes) != [1, 2, 3]:
        raise BadInputError(
            path, "mapc, mapr, maps", found=axes, expected="an order of the axes 1, 2, 3", remedy=_REWRITE
        )
    return axes


def _spacing(path: Path, fields: Any, axis: Literal["x", "y", "z"]) -> float | None:
    length, samples = float(fields["cella"][axis]), int(fields[f"m{axis}"])
    if not np.isfinite(length):
        raise BadInputError(
            path,
            f"cella.{axis}",
            found=length,
            expected="a length in Å",
            remedy="Correct the pixel size in the header.",
        )
    if length <= 0 or samples <= 0:
        return None
    # The header has float32 lengths: the shortest spacing that gives this length is what was meant.
    shortest = (float(f"{length / samples:.{digits}g}") for digits in range(1, 10))
    return next((s for s in shortest if np.float32(s * samples) == fields["cella"][axis]), length / samples)


def _pixel_size(path: Path, fields: Any, fei: FeiMetadata | None) -> float | None:
    x, y = _spacing(path, fields, "x"), _spacing(path, fields, "y")
    if x is not None and y is not None and abs(x / y - 1.0) > PIXEL_SIZE_TOLERANCE:
        raise BadInputError(
            path, "pixel size", found=f"{x:.6g} Å in x and {y:.6g} Å in y: ratio {x / y:.5f}",
            expected="square pixels", remedy="Correct the cell (cella) or the sampling (mx, my) in the header.",
        )  # fmt: skip
    if fei is None or fei.pixel_size_A is None:
        return x
    if x is not None:
        check_pixel_size(path, x, fei.pixel_size_A, "the FEI extended header")
    return fei.pixel_size_A if x is None else x


def _origin(path: Path, fields: Any, axes: tuple[int, int, int]) -> tuple[float, float, float]:
    x, y, z = (float(fields["origin"][axis]) for axis in ("x", "y", "z"))
    if not np.isfinite((x, y, z)).all():
        raise BadInputError(path, "origin", found=(x, y, z), expected="finite numbers", remedy=_REWRITE)
    if any((x, y, z)):
        return x, y, z
    # nxstart, nystart, nzstart count along columns, rows and sections, whichever axes these are.
    starts = dict(zip(axes, (int(fields[f"n{axis}start"]) for axis in ("x", "y", "z")), strict=True))
    x, y, z = (starts[i + 1] * (_spacing(path, fields, axis) or 0.0) for i, axis in enumerate(_XYZ))
    return x, y, z


def check_data_length(header: MrcHeader, found: int) -> None:
    """Compare the length of a file (decompressed) with what its header announces.

    A few bytes more are harmless; room for another section means that the header hides data.
    """
    expected = header.data_offset + header.shape[0] * header.section_bytes
    dimensions = " x ".join(str(n) for n in reversed(header.shape))
    announced = f"{expected} bytes for {dimensions} pixels of mode {header.mode}"
    if found < expected:
        raise BadInputError(
            header.path, "length", found=f"{found} bytes (truncated)", expected=announced,
            remedy="Copy or write the file again.",
        )  # fmt: skip
    if found >= expected + header.section_bytes:
        raise BadInputError(
            header.path, "length", found=f"{found} bytes or more",
            expected=f"{announced}: there is room for more sections than the header tells",
            remedy="Correct nz in the header, or write the file again.",
        )  # fmt: skip
