"""The numba twin of ``sums.sum_frames_plainly``: one pass over the frames, row by row."""

from __future__ import annotations

import math

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def accumulate(
    frames: Array, phase_y: Array, phase_x: Array, fy: Array, fx: Array, weights: Array, groups: Array
) -> tuple[Array, Array, Array]:
    """Add shifted frames; see ``sums.sum_frames_plainly`` for the meaning of each array."""
    n, rows, columns = frames.shape
    last = weights.shape[1] - 1
    scale = last / math.sqrt(0.5)
    weighted = np.zeros((rows, columns), np.complex64)
    unweighted = np.zeros((rows, columns), np.complex64)
    power = np.zeros((rows, columns), np.float32)
    radius = np.empty(columns, np.int32)
    group = np.zeros(columns, np.complex64)
    for y in range(rows):
        for x in range(columns):
            radius[x] = min(int(math.sqrt(fy[y] * fy[y] + fx[x] * fx[x]) * scale + 0.5), last)
        group[:] = 0.0
        for i in range(n):
            along_y = phase_y[i, y]
            for x in range(columns):
                moved = frames[i, y, x] * (along_y * phase_x[i, x])
                group[x] += moved
                weighted[y, x] += moved * weights[i, radius[x]]
            if i + 1 == n or groups[i + 1] != groups[i]:
                for x in range(columns):
                    unweighted[y, x] += group[x]
                    power[y, x] += group[x].real * group[x].real + group[x].imag * group[x].imag
                    group[x] = 0.0
    return weighted, unweighted, power
