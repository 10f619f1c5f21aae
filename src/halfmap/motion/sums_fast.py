"""The numba twin of ``sums.add_frames_plainly``: one pass over the frames, row by row."""

from __future__ import annotations

import math

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def accumulate(
    frames: Array,
    phase_y: Array,
    phase_x: Array,
    fy: Array,
    fx: Array,
    weights: Array,
    ends: Array,
    weighted: Array,
    unweighted: Array,
    group: Array,
    power: Array,
) -> None:
    """Add shifted frames to the sums; see ``sums.add_frames_plainly`` for the meaning of each array."""
    n, rows, columns = frames.shape
    last = weights.shape[1] - 1
    scale = last / math.sqrt(0.5)
    radius = np.empty(columns, np.int32)
    for y in range(rows):
        for x in range(columns):
            radius[x] = min(int(math.sqrt(fy[y] * fy[y] + fx[x] * fx[x]) * scale + 0.5), last)
        for i in range(n):
            along_y = phase_y[i, y]
            for x in range(columns):
                moved = frames[i, y, x] * (along_y * phase_x[i, x])
                group[y, x] += moved
                unweighted[y, x] += moved
                weighted[y, x] += moved * weights[i, radius[x]]
            if ends[i]:
                for x in range(columns):
                    power[y, x] += group[y, x].real * group[y, x].real + group[y, x].imag * group[y, x].imag
                    group[y, x] = 0.0
