"""The numba twin of the wide search's correlations: each frame against the sum of the others."""

from __future__ import annotations

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def place_crosses(frames: Array, along_y: Array, along_x: Array, weight: Array, out: Array) -> None:
    """Weighted correlation of each frame with the sum of the other, shifted ones, as coefficients of its map.

    ``frames [ky, n, kx]``; ``along_y [n, ky]`` and ``along_x [n, kx]`` shift them; ``weight [ky, kx]``; ``out`` is
    ``[n, y, kx]`` of a larger rfft2, and zero where there are no coefficients.
    """
    rows, n, columns = frames.shape
    up = rows // 2
    moved = np.empty((n, columns), np.complex64)
    total = np.empty(columns, np.complex64)
    for y in range(rows):
        to = y - up if y >= up else out.shape[1] + y - up
        for x in range(columns):
            total[x] = 0.0
        for i in range(n):
            for x in range(columns):
                moved[i, x] = frames[y, i, x] * (along_y[i, y] * along_x[i, x])
                total[x] += moved[i, x]
        for i in range(n):
            for x in range(columns):
                others = total[x] - moved[i, x]
                a, b = frames[y, i, x].real * weight[y, x], frames[y, i, x].imag * weight[y, x]
                out[i, to, x] = complex(a * others.real + b * others.imag, a * others.imag - b * others.real)
