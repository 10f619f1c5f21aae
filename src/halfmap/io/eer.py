"""EER movies: single electrons, run-length coded, one TIFF page for every frame of the camera.

A page is a stream of bits, lowest first. Each code is a number of pixels to skip (7 bits in
compression 65001, 8 in 65000, as tagged in 65002; all ones means "skip and go on") and, for the
electron then found, its place inside the pixel in 2 + 2 bits, the highest of each inverted. The
code is complete when all pixels of the frame are passed, and what follows is padding. Libraries
that decode until the data end take padding for electrons or for damage, so the decoder is our own.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numba
import numpy as np

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import whole_file
from halfmap.io.frames import Movie
from halfmap.io.tiff import TiffPages
from halfmap.typing import Array, PathLike

_EER_8_BIT, _EER_7_BIT, _EER_TAGGED = 65000, 65001, 65002
_TAG_METADATA, _TAG_SKIP_BITS, _TAG_X_BITS, _TAG_Y_BITS = 65001, 65007, 65008, 65009
_SUBPIXEL_BITS = 2
_BITS = ((1, 16), (0, 4), (0, 4))


@dataclass(frozen=True)
class EerGrouping:
    """How frames of the camera are summed into the frames of a movie."""

    frames_per_fraction: int
    dose_per_hardware_frame_e_per_A2: float | None


class EerMovie(Movie):
    """An EER movie as a sequence of fractions (uint16 counts).

    Parameters
    ----------
    path
        The file.
    dose_per_fraction
        Wanted exposure of a fraction in e/Å²; needs the total dose.
    dose_total
        Exposure of the whole movie in e/Å²; by default what the file's metadata say, which needs
        ``pixel_size_A``.
    frames_per_fraction
        Frames of the camera in a fraction, instead of the doses.
    upsampling
        1 for the pixels of the camera, 2 or 4 for the sub-pixels in which electrons are recorded.
    pixel_size_A
        Pixel size of the camera's pixels.
    """

    def __init__(
        self,
        path: PathLike,
        *,
        dose_per_fraction: float | None = None,
        dose_total: float | None = None,
        frames_per_fraction: int | None = None,
        upsampling: int = 1,
        pixel_size_A: float | None = None,
    ) -> None:
        if upsampling not in (1, 2, 4):
            raise HalfmapError(f"EER movies can be upsampled 1, 2 or 4 times, not {upsampling}")
        self._pages = TiffPages(path)
        self.path = self._pages.path
        self._codes = [_code_of_page(self._pages, index) for index in range(len(self._pages.pages))]
        self._upsampling = upsampling
        n_recorded = len(self._codes)
        if dose_total is None:
            dose_total = _recorded_dose(self._pages, pixel_size_A)
        grouping = group(
            self.path,
            n_recorded,
            dose_per_fraction=dose_per_fraction,
            dose_total=dose_total,
            frames_per_fraction=frames_per_fraction,
        )
        self._group = grouping.frames_per_fraction
        self.n_frames = n_recorded // self._group
        rows, columns = self._pages.shape
        self._camera_shape = (rows, columns)
        self.shape = (rows * upsampling, columns * upsampling)
        self.dropped_frames = n_recorded - self.n_frames * self._group
        dose = grouping.dose_per_hardware_frame_e_per_A2
        self.dose_per_frame_e_per_A2 = None if dose is None else dose * self._group
        self.message = (
            f"{n_recorded} camera frames grouped into {self.n_frames} fractions of {self._group}"
            + ("" if dose is None else f" ({dose * self._group:.4g} e/Å² each)")
            + f"; {self.dropped_frames or 'no'} camera frames at the end are dropped"
        )

    def _frame(self, index: int) -> Array:
        counts = np.zeros(self.shape, np.uint16)
        for page in range(index * self._group, (index + 1) * self._group):
            skip_bits, x_bits, y_bits = self._codes[page]
            reached = decode_frame(
                np.frombuffer(self._pages.read_raw(page), np.uint8), self._camera_shape[0], self._camera_shape[1],
                skip_bits, x_bits, y_bits, self._upsampling.bit_length() - 1, counts,
            )  # fmt: skip
            n_pixels = self._camera_shape[0] * self._camera_shape[1]
            if reached != n_pixels:
                raise BadInputError(
                    self.path, f"camera frame {page + 1}", found=f"{min(reached, n_pixels)} pixels (damaged)",
                    expected=f"{n_pixels}", remedy="Copy the file again, or leave the movie out.",
                )  # fmt: skip
        return counts


def group(
    path: Path,
    n_recorded: int,
    *,
    dose_per_fraction: float | None,
    dose_total: float | None,
    frames_per_fraction: int | None,
) -> EerGrouping:
    """Derive the number of camera frames in a fraction from doses in e/Å², or take it as given."""
    dose_of_one = None if dose_total is None else dose_total / n_recorded
    if frames_per_fraction is None:
        if dose_per_fraction is None or dose_of_one is None:
            raise BadInputError(
                path, "grouping of camera frames", found="unknown",
                expected="the dose per frame and the total dose, or the number of camera frames in a frame",
                remedy="Give the total dose: the file does not tell it.",
            )  # fmt: skip
        frames_per_fraction = max(1, round(dose_per_fraction / dose_of_one))
    if not 1 <= frames_per_fraction <= n_recorded:
        raise BadInputError(
            path, "camera frames", found=n_recorded, expected=f"at least {frames_per_fraction}, one fraction",
            remedy="Give a smaller dose per frame.",
        )  # fmt: skip
    return EerGrouping(frames_per_fraction, dose_of_one)


def write_eer(
    path: PathLike,
    frames: Iterable[Array],
    *,
    dose_total_e_per_px: float | None = None,
    subpixels: Iterable[Array] | None = None,
) -> None:
    """Write camera frames ``[y, x]`` of zeros and ones as an EER movie (7-bit, BigTIFF).

    ``subpixels`` holds for each frame the 4-bit place of the electron inside its pixel (x in the
    lower two bits, y in the upper two); by default every electron is put at the pixel's centre.
    """
    metadata = (
        "" if dose_total_e_per_px is None else f'<item name="totalDose" unit="e/pixel">{dose_total_e_per_px}</item>'
    )
    places = iter(subpixels) if subpixels is not None else None
    with whole_file(path) as part, part.open("wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        link = 8
        count = 0
        for frame in frames:
            frame = np.ascontiguousarray(frame)
            if frame.ndim != 2 or frame.min() < 0 or frame.max() > 1:
                raise HalfmapError(
                    f"{path}: a camera frame of EER is two-dimensional and holds 0 or 1 electron a pixel"
                )
            if places is None:
                place = np.full(frame.shape, 0b1010, np.uint8)
            else:
                place = np.ascontiguousarray(next(places), np.uint8)
            code = _encode(frame.astype(np.uint8).reshape(-1), place.reshape(-1))
            xml = f"<metadata>{metadata}</metadata>".encode() if count == 0 else b""
            link = _append_page(file, link, code.tobytes(), (frame.shape[0], frame.shape[1]), xml)
            count += 1
        if count == 0:
            raise HalfmapError(f"{path}: there are no frames to write")


def _append_page(file: BinaryIO, link: int, code: bytes, shape: tuple[int, int], metadata: bytes) -> int:
    """Append data and directory of a page, point ``link`` to it; return where the next link goes."""
    data_offset = file.seek(0, 2)
    file.write(code)
    metadata_offset = file.tell()
    file.write(metadata)
    short, long8, undefined = 3, 16, 7
    tags = [
        (256, short, 1, shape[1]),
        (257, short, 1, shape[0]),
        (258, short, 1, 8),
        (259, short, 1, _EER_7_BIT),
        (262, short, 1, 1),
        (273, long8, 1, data_offset),
        (277, short, 1, 1),
        (278, short, 1, shape[0]),
        (279, long8, 1, len(code)),
    ]
    if metadata:
        tags.append((_TAG_METADATA, undefined, len(metadata), metadata_offset))
    directory = file.tell()
    file.write(struct.pack("<Q", len(tags)))
    for tag in tags:
        file.write(struct.pack("<HHQQ", *tag))
    next_link = file.tell()
    file.write(struct.pack("<Q", 0))
    file.seek(link)
    file.write(struct.pack("<Q", directory))
    return next_link


def _code_of_page(pages: TiffPages, index: int) -> tuple[int, int, int]:
    """Bits of a skip, of x and of y inside the pixel."""
    compression = int(pages.pages[index].compression)
    if compression == _EER_8_BIT:
        return 8, _SUBPIXEL_BITS, _SUBPIXEL_BITS
    if compression == _EER_7_BIT:
        return 7, _SUBPIXEL_BITS, _SUBPIXEL_BITS
    if compression != _EER_TAGGED:
        raise BadInputError(
            pages.path, "compression", found=compression, expected=f"EER ({_EER_8_BIT} to {_EER_TAGGED})",
            remedy="Rename the file if it is a plain TIFF movie.",
        )  # fmt: skip
    bits = [pages.tag(index, tag) for tag in (_TAG_SKIP_BITS, _TAG_X_BITS, _TAG_Y_BITS)]
    if any(not isinstance(b, int) or not low <= b <= high for b, (low, high) in zip(bits, _BITS, strict=True)):
        raise BadInputError(
            pages.path,
            "bits of the code",
            found=bits,
            expected=f"three numbers in {_BITS}",
            remedy="Copy the file again.",
        )
    return bits[0], bits[1], bits[2]


def _recorded_dose(pages: TiffPages, pixel_size_A: float | None) -> float | None:
    """Total dose in e/Å² from the metadata of the first page, which give it per pixel."""
    raw = pages.tag(0, _TAG_METADATA)
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    found = re.search(r'name="totalDose"[^>]*>\s*([-+.\deE]+)', text)
    if found is None or pixel_size_A is None:
        return None
    try:
        dose = float(found.group(1)) / pixel_size_A**2
    except ValueError:
        return None
    return dose if dose > 0 else None


@numba.njit(cache=True, nogil=True)
def decode_frame(
    data: Array, rows: int, columns: int, skip_bits: int, x_bits: int, y_bits: int, up: int, counts: Array
) -> int:
    """Add the electrons of one frame to ``counts``, which is ``2**up`` times finer than the camera.

    Returns the number of pixels passed; one other than rows * columns tells of damage: the stream
    ended early or overshot.
    """
    n_pixels = rows * columns
    go_on = (1 << skip_bits) - 1
    place_bits = x_bits + y_bits
    window, held, byte = 0, 0, 0
    passed = 0
    while passed < n_pixels:
        while held < skip_bits + place_bits and byte < data.size:
            window |= int(data[byte]) << held
            byte += 1
            held += 8
        if held < skip_bits:
            return passed
        skip = window & go_on
        window >>= skip_bits
        held -= skip_bits
        passed += skip
        if skip == go_on or passed >= n_pixels:
            continue
        if held < place_bits:
            return passed
        x_place = window & ((1 << x_bits) - 1)
        y_place = (window >> x_bits) & ((1 << y_bits) - 1)
        window >>= place_bits
        held -= place_bits
        row, column = passed // columns, passed % columns
        if up > 0:
            x_place ^= (1 << x_bits) >> 1
            y_place ^= (1 << y_bits) >> 1
            row = (row << up) | ((y_place << up) >> y_bits)
            column = (column << up) | ((x_place << up) >> x_bits)
        counts[row, column] += 1
        passed += 1
    return passed


@numba.njit(cache=True, nogil=True)
def _encode(electrons: Array, places: Array) -> Array:
    """Code one frame of zeros and ones with 7-bit skips and 4-bit places inside the pixel."""
    n_codes = electrons.size // 127 + 2
    for value in electrons:
        n_codes += value
    out = np.zeros((n_codes * 11 + 7) // 8 + 1, np.uint8)
    bit = 0
    skip = 0
    for i in range(electrons.size + 1):
        if i < electrons.size and electrons[i] == 0:
            skip += 1
            continue
        while skip >= 127:
            bit = _put(out, bit, 127, 7)
            skip -= 127
        if i < electrons.size:
            bit = _put(out, bit, skip, 7)
            bit = _put(out, bit, int(places[i]) ^ 0b1010, 4)
        elif skip > 0:
            bit = _put(out, bit, skip, 7)
        skip = 0
    return out[: (bit + 7) // 8]


@numba.njit(cache=True, nogil=True)
def _put(out: Array, bit: int, value: int, n_bits: int) -> int:
    for i in range(n_bits):
        if (value >> i) & 1:
            out[(bit + i) >> 3] |= np.uint8(1 << ((bit + i) & 7))
    return bit + n_bits
