"""LZW as TIFF movies have it, decoded in less time than imagecodecs and libtiff take.

A string of LZW is one that was written before, and one byte more. So the table needs no strings: it holds where in
the output each one stands and how long it is, and a code is a short copy within the output.
"""

from __future__ import annotations

from typing import Any, Final

import numba
import numpy as np

from halfmap.typing import Array

SPARE_BYTES: Final = 8
"""That may be read beyond the data, and written beyond the output: copies are made in whole words."""
ALPHABET: Final = 256
"""Bytes in front of the output, where each byte stands for itself: so that it is copied like any other string."""
_CLEAR: Final = 256
_END: Final = 257
_FIRST: Final = 258
_LONGEST: Final = 12
_CODES: Final = 1 << _LONGEST
_LENGTH_BITS: Final = 12
"""A string is shorter than the table is long."""
_ONE, _TWO, _THREE, _FOUR = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
_FIVE, _SIX, _SEVEN = np.uint64(5), np.uint64(6), np.uint64(7)


@numba.njit(cache=True, nogil=True, inline="always")
def _copy_word(out: Any, source: Any, target: Any) -> None:
    """Copy eight bytes, all read before one is written, which the compiler makes one instruction each."""
    s, t = np.uint64(source), np.uint64(target)  # Numbers without sign are not looked at for being negative.
    a, b, c, d = out[s], out[s + _ONE], out[s + _TWO], out[s + _THREE]
    e, f, g, h = out[s + _FOUR], out[s + _FIVE], out[s + _SIX], out[s + _SEVEN]
    out[t], out[t + _ONE], out[t + _TWO], out[t + _THREE] = a, b, c, d
    out[t + _FOUR], out[t + _FIVE], out[t + _SIX], out[t + _SEVEN] = e, f, g, h


@numba.njit(cache=True, nogil=True)
def _decode(data: Array, at: int, end: int, out: Array, first: int, last: int, table: Array) -> int:
    """Decode ``data[at:end]`` to ``out[first:last]``; returns where the output ended, -1 for a code that cannot be."""
    place, bit, last_bit, width, following = first, 8 * at, 8 * end, 9, _FIRST
    before = 0
    while place < last:
        if bit + width > last_bit:
            break
        byte = np.uint64(bit >> 3)
        word = (
            (np.int64(data[byte]) << 24) | (np.int64(data[byte + _ONE]) << 16)
            | (np.int64(data[byte + _TWO]) << 8) | np.int64(data[byte + _THREE])
        )  # fmt: skip
        code = (word >> (32 - width - (bit & 7))) & ((1 << width) - 1)
        bit += width
        if code == _CLEAR:
            width, following, before = 9, _FIRST, 0
            continue
        if code == _END:
            break
        if before:
            if following < _CODES:
                table[following] = before + 1  # One byte more of what was written before.
                following += 1
                if (following + 1) >> width and width < _LONGEST:
                    width += 1
        elif code >= _CLEAR:
            return -1
        if code >= following:
            return -1
        entry = table[np.uint64(code)]
        source, length = entry >> _LENGTH_BITS, entry & ((1 << _LENGTH_BITS) - 1)
        if place + length > last:
            return -1
        _copy_word(out, source, place)
        if length > 8:
            for done in range(8, length, 8):
                _copy_word(out, source + done, place + done)
        if code == following - 1:
            out[place + length - 1] = out[place]
        before = (place << _LENGTH_BITS) | length
        place += length
    return place


@numba.njit(cache=True, nogil=True)
def decode_strips(data: Array, offsets: Array, counts: Array, strip_bytes: int, out: Array) -> bool:
    """Decode strips of LZW; False where one of them is not what it should be.

    Parameters
    ----------
    data
        Bytes, with ``SPARE_BYTES`` more behind the last strip.
    offsets, counts
        Where each strip begins in the data, and its bytes.
    strip_bytes
        Bytes of a strip when decoded; the last one may have fewer.
    out
        ``ALPHABET``, then room for all of them, and ``SPARE_BYTES`` more.
    """
    table = np.zeros(_CODES, np.int64)
    for byte in range(ALPHABET):
        out[byte] = byte
        table[byte] = (byte << _LENGTH_BITS) | 1
    total, last = len(out) - SPARE_BYTES, ALPHABET
    for strip in range(len(offsets)):
        first = ALPHABET + strip * strip_bytes
        last = min(first + strip_bytes, total)
        at = offsets[strip]
        if data[at] == 0 and data[at + 1] & 1:
            return False  # The bits lie the other way round, as in files of the time before TIFF 6.
        if _decode(data, at, at + counts[strip], out, first, last, table) != last:
            return False
    return last == total
