"""The numba twin of ``warp.warp_added_plainly``: rows and columns in runs of one whole-pixel shift."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from halfmap.typing import Array

_TAPS = 6
_BEFORE = 2
_BLOCK = 64


_5, _10, _20, _26, _30 = np.float32(5), np.float32(10), np.float32(20), np.float32(26), np.float32(30)
_50, _60, _66, _SCALE = np.float32(50), np.float32(60), np.float32(66), np.float32(1 / 120)
_ONE = np.float32(1)


@numba.njit(cache=True, fastmath=True, nogil=True, inline="always")
def _blend(u: Any, a: Any, b: Any, c: Any, d: Any, e: Any, f: Any) -> Any:
    """Six values weighted by the quintic spline at the fraction u (``warp._WEIGHTS``), in single precision."""
    v, uu = _ONE - u, u * u
    vv = v * v
    one = vv * vv * v
    two = _26 + u * (-_50 + u * (_20 + u * (_20 + u * (-_20 + u * _5))))
    three = _66 + uu * (-_60 + uu * (_30 - u * _10))
    four = _66 + vv * (-_60 + vv * (_30 - v * _10))
    five = _26 + v * (-_50 + v * (_20 + v * (_20 + v * (-_20 + v * _5))))
    six = uu * uu * u
    return (one * a + two * b + three * c + four * d + five * e + six * f) * _SCALE


@numba.njit(cache=True, fastmath=True, nogil=True)
def _shifts(surface: Array, y: float, x_at: Array, whole: Array, fraction: Array) -> None:
    """Whole and remaining part of where one row's pixels are taken from, along one axis."""
    base = -(surface[0] + y * (surface[3] + y * surface[4]))
    slope = -(surface[1] + y * surface[5])
    bend = -surface[2]
    for x in range(len(x_at)):
        at = base + x_at[x] * (slope + x_at[x] * bend)
        down = np.floor(at)  # Not math.floor, which makes it a number of 64 bits.
        whole[x] = np.int32(down)
        fraction[x] = at - down


@numba.njit(cache=True, fastmath=True, nogil=True)
def _along(fraction: Array, source: Array, out: Array) -> None:
    """Interpolate along a row; loops over whole arrays of one length are what the compiler makes fast."""
    for i in range(len(fraction)):
        out[i] = _blend(
            fraction[i], source[i], source[i + 1], source[i + 2], source[i + 3], source[i + 4], source[i + 5]
        )


@numba.njit(cache=True, fastmath=True, nogil=True)
def _across(fraction: Array, a: Array, b: Array, c: Array, d: Array, e: Array, f: Array, out: Array) -> None:
    """Interpolate between rows, and add."""
    for i in range(len(fraction)):
        out[i] += _blend(fraction[i], a[i], b[i], c[i], d[i], e[i], f[i])


@numba.njit(cache=True, nogil=True)
def _run_end(whole: Array, start: int) -> int:
    """Where the run of one whole part ends that begins at ``start``; mostly looked at in blocks."""
    stop, value = start + 1, whole[start]
    while stop + _BLOCK <= len(whole):
        changes = np.int32(0)
        for i in range(_BLOCK):
            changes |= whole[stop + i] ^ value
        if changes:
            break
        stop += _BLOCK
    while stop < len(whole) and whole[stop] == value:
        stop += 1
    return stop


@numba.njit(cache=True, fastmath=True, nogil=True)
def _row_along(row: Array, whole: Array, fraction: Array, line: Array, out: Array) -> None:
    """One row, shifted along itself, in runs of pixels with one whole part; ``line`` is longer, by two margins."""
    columns = len(row)
    margin = (len(line) - columns) // 2
    line[margin : margin + columns] = row
    for i in range(margin):
        line[i] = row[(i - margin) % columns]
        line[margin + columns + i] = row[i % columns]
    start = 0
    while start < columns:
        stop = _run_end(whole, start)
        first = margin + start + whole[start] - _BEFORE
        _along(fraction[start:stop], line[first : first + stop - start + _TAPS], out[start:stop])
        start = stop


@numba.njit(cache=True, fastmath=True, nogil=True)
def _largest(surface: Array) -> int:
    """A whole number that no shift along one axis is beyond."""
    half = abs(surface[1]) + abs(surface[3])
    quarter = abs(surface[2]) + abs(surface[4]) + abs(surface[5])
    beyond: int = math.ceil(abs(surface[0]) + 0.5 * half + 0.25 * quarter)
    return beyond + 1


@numba.njit(cache=True, fastmath=True, nogil=True)
def add_warped(picture: Array, surface: Array, out: Array) -> None:
    """Add the shifted picture to ``out``; see ``warp.warp_added`` for the meaning of each array.

    Of the rows that were shifted along themselves only those are held that the next row of the result needs.
    """
    rows, columns = picture.shape
    x_at = (np.arange(columns) / columns - 0.5).astype(np.float32)
    y_at = (np.arange(rows) / rows - 0.5).astype(np.float32)
    whole, fraction = np.empty(columns, np.int32), np.empty(columns, np.float32)
    line = np.empty(columns + 2 * (_largest(surface[0]) + _TAPS), np.float32)
    reach = _largest(surface[1])
    held = 2 * reach + _TAPS
    between = np.empty((held, columns), np.float32)
    ready = -reach - _BEFORE
    for y in range(rows):
        while ready < y + reach + _TAPS - _BEFORE:
            row = ready % rows
            _shifts(surface[0], y_at[row], x_at, whole, fraction)
            _row_along(picture[row], whole, fraction, line, between[ready % held])
            ready += 1
        _shifts(surface[1], y_at[y], x_at, whole, fraction)
        start = 0
        while start < columns:
            stop = _run_end(whole, start)
            first = y + whole[start] - _BEFORE
            _across(
                fraction[start:stop],
                between[first % held, start:stop], between[(first + 1) % held, start:stop],
                between[(first + 2) % held, start:stop], between[(first + 3) % held, start:stop],
                between[(first + 4) % held, start:stop], between[(first + 5) % held, start:stop],
                out[y, start:stop],
            )  # fmt: skip
            start = stop
