"""The numba twin of ``warp.warp_added_plainly``: rows and columns in runs of one whole-pixel shift."""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from halfmap.typing import Array

_TAPS = 6
_BEFORE = 2


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
    base = surface[0] + y * (surface[3] + y * surface[4])
    slope = surface[1] + y * surface[5]
    bend = surface[2]
    for x in range(len(x_at)):
        at = -(base + x_at[x] * (slope + x_at[x] * bend))
        down = math.floor(at)
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


@numba.njit(cache=True, fastmath=True, nogil=True)
def add_warped(picture: Array, surface: Array, out: Array) -> None:
    """Add the shifted picture to ``out``; see ``warp.warp_added`` for the meaning of each array."""
    rows, columns = picture.shape
    between = np.empty_like(picture)
    x_at = (np.arange(columns) / columns - 0.5).astype(np.float32)
    y_at = (np.arange(rows) / rows - 0.5).astype(np.float32)
    whole, fraction = np.empty(columns, np.int32), np.empty(columns, np.float32)
    line = np.empty(columns + _TAPS, np.float32)
    for y in range(rows):
        _shifts(surface[0], y_at[y], x_at, whole, fraction)
        start = 0
        while start < columns:
            stop = start + 1
            while stop < columns and whole[stop] == whole[start]:
                stop += 1
            length = stop - start
            first = start + whole[start] - _BEFORE
            if first >= 0 and first + length + _TAPS <= columns:
                source = picture[y, first : first + length + _TAPS]
            else:
                source = line[: length + _TAPS]
                for i in range(length + _TAPS):
                    source[i] = picture[y, (first + i) % columns]
            _along(fraction[start:stop], source, between[y, start:stop])
            start = stop
    for y in range(rows):
        _shifts(surface[1], y_at[y], x_at, whole, fraction)
        start = 0
        while start < columns:
            stop = start + 1
            while stop < columns and whole[stop] == whole[start]:
                stop += 1
            first = y + whole[start] - _BEFORE
            _across(
                fraction[start:stop],
                between[first % rows, start:stop], between[(first + 1) % rows, start:stop],
                between[(first + 2) % rows, start:stop], between[(first + 3) % rows, start:stop],
                between[(first + 4) % rows, start:stop], between[(first + 5) % rows, start:stop],
                out[y, start:stop],
            )  # fmt: skip
            start = stop
