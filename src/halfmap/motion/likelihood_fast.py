"""The numba twins of the functions in ``likelihood``: one pass over the frames, row by row."""

from __future__ import annotations

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def add_derivatives(
    frames: Array, along_y: Array, along_x: Array, weight: Array, omega_y: Array, omega_x: Array, sums: Array
) -> None:
    """Add value, gradient (x, y) and minus the Hessian (xx, xy, yy) of each frame's correlation to ``sums [n, 6]``.

    ``frames [n, ky, kx]``; ``along_y [n, ky]`` and ``along_x [n, kx]`` shift them; ``weight [ky, kx]``.
    """
    n, rows, columns = frames.shape
    real = np.empty((n, columns), np.float32)
    imaginary = np.empty((n, columns), np.float32)
    total_real = np.empty(columns, np.float32)
    total_imaginary = np.empty(columns, np.float32)
    for y in range(rows):
        total_real[:] = 0.0
        total_imaginary[:] = 0.0
        for i in range(n):
            factor, along_row, frame = along_y[i, y], along_x[i], frames[i, y]
            real_row, imaginary_row = real[i], imaginary[i]
            for x in range(columns):
                moved = frame[x] * (factor * along_row[x])
                real_row[x] = moved.real
                imaginary_row[x] = moved.imag
                total_real[x] += moved.real
                total_imaginary[x] += moved.imag
        wy = omega_y[y]
        for i in range(n):
            value, with_x, with_xx = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            turn, turn_x = np.float32(0.0), np.float32(0.0)
            real_row, imaginary_row, weight_row = real[i], imaginary[i], weight[y]
            for x in range(columns):
                a, b = real_row[x], imaginary_row[x]
                p, q = total_real[x] - a, total_imaginary[x] - b
                along = (a * p + b * q) * weight_row[x]
                across = (a * q - b * p) * weight_row[x]
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
    n, rows, columns = frames.shape
    real, imaginary = np.empty(columns, np.float32), np.empty(columns, np.float32)
    for y in range(rows):
        real[:] = 0.0
        imaginary[:] = 0.0
        each, total = of_each[y], of_sum[y]
        for i in range(n):
            factor, along, frame = along_y[i, y], along_x[i], frames[i, y]
            for x in range(columns):
                moved = frame[x] * (factor * along[x])
                real[x] += moved.real
                imaginary[x] += moved.imag
                each[x] += moved.real * moved.real + moved.imag * moved.imag
        for x in range(columns):
            total[x] += real[x] * real[x] + imaginary[x] * imaginary[x]
