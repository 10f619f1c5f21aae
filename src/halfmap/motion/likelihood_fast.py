"""The numba twins of the functions in ``likelihood``: one pass over the frames, row by row.

Frames are ``[ky, n, kx]`` here: what is needed of all frames at a time lies together.
"""

from __future__ import annotations

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, nogil=True)
def _used(weight: Array) -> int:
    """How many columns of a row there are up to the last with any weight."""
    stop = len(weight)
    while stop > 0 and weight[stop - 1] == 0.0:
        stop -= 1
    return stop


@numba.njit(cache=True, fastmath=True, nogil=True)
def add_derivatives(
    frames: Array, along_y: Array, along_x: Array, weight: Array, omega_y: Array, omega_x: Array, sums: Array
) -> None:
    """Add value, gradient (x, y) and minus the Hessian (xx, xy, yy) of each frame's correlation to ``sums [n, 6]``.

    ``frames [ky, n, kx]``; ``along_y [n, ky]`` and ``along_x [2, n, kx]`` (real and imaginary parts) shift them;
    ``weight [ky, kx]``. Arrays are indexed as they are, since slices within the loops would cost as much as the sums.
    """
    rows, n, columns = frames.shape
    moved_real, moved_imaginary = np.empty((n, columns), np.float32), np.empty((n, columns), np.float32)
    total_real, total_imaginary = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for y in range(rows):
        stop = _used(weight[y])
        for x in range(stop):
            total_real[x] = 0.0
            total_imaginary[x] = 0.0
        for i in range(n):
            c, d = along_y[i, y].real, along_y[i, y].imag
            for x in range(stop):
                p, q = c * along_x[0, i, x] - d * along_x[1, i, x], c * along_x[1, i, x] + d * along_x[0, i, x]
                a, b = frames[y, i, x].real, frames[y, i, x].imag
                moved_real[i, x] = a * p - b * q
                moved_imaginary[i, x] = a * q + b * p
                total_real[x] += a * p - b * q
                total_imaginary[x] += a * q + b * p
        wy = omega_y[y]
        for i in range(n):
            value, with_x, with_xx = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            turn, turn_x = np.float32(0.0), np.float32(0.0)
            for x in range(stop):
                a, b = moved_real[i, x], moved_imaginary[i, x]
                p, q = total_real[x] - a, total_imaginary[x] - b
                along = (a * p + b * q) * weight[y, x]
                across = (a * q - b * p) * weight[y, x]
                value += along
                with_x += along * omega_x[x]
                with_xx += along * omega_x[x] * omega_x[x]
                turn += across
                turn_x += across * omega_x[x]
            sums[i, 0] += value
            sums[i, 1] -= turn_x
            sums[i, 2] -= turn * wy
            sums[i, 3] += with_xx
            sums[i, 4] += with_x * wy
            sums[i, 5] += value * wy * wy


@numba.njit(cache=True, fastmath=True, nogil=True)
def add_powers(frames: Array, along_y: Array, along_x: Array, of_sum: Array, of_each: Array) -> None:
    """Add the power of the sum of shifted frames, and the sum of their powers, to ``[ky, kx]`` arrays."""
    rows, n, columns = frames.shape
    real, imaginary = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for y in range(rows):
        for x in range(columns):
            real[x] = 0.0
            imaginary[x] = 0.0
        for i in range(n):
            c, d = along_y[i, y].real, along_y[i, y].imag
            for x in range(columns):
                p, q = c * along_x[0, i, x] - d * along_x[1, i, x], c * along_x[1, i, x] + d * along_x[0, i, x]
                a, b = frames[y, i, x].real, frames[y, i, x].imag
                real[x] += a * p - b * q
                imaginary[x] += a * q + b * p
                of_each[y, x] += a * a + b * b
        for x in range(columns):
            of_sum[y, x] += real[x] * real[x] + imaginary[x] * imaginary[x]
