"""The numba twin of ``sums.add_frames_plainly``: one pass over the frames, row by row."""

from __future__ import annotations

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def _add_row(frame: Array, along_y: complex, along_x: Array, factor: Array, sums: Array, group: Array) -> None:
    """Add one shifted row to one sum, weighted, and to another as it is; ``[2, columns]`` real and imaginary parts."""
    a, b = np.float32(along_y.real), np.float32(along_y.imag)
    along_real, along_imaginary, real, imaginary = along_x[0], along_x[1], sums[0], sums[1]
    group_real, group_imaginary = group[0], group[1]
    for x in range(len(factor)):
        c, d = a * along_real[x] - b * along_imaginary[x], a * along_imaginary[x] + b * along_real[x]
        e, f = frame[x].real, frame[x].imag
        moved_real, moved_imaginary = e * c - f * d, e * d + f * c
        group_real[x] += moved_real
        group_imaginary[x] += moved_imaginary
        real[x] += moved_real * factor[x]
        imaginary[x] += moved_imaginary * factor[x]


@numba.njit(cache=True, fastmath=True, nogil=True)
def accumulate(
    frames: Array,
    phase_y: Array,
    phase_x: Array,
    radius: Array,
    weights: Array,
    ends: Array,
    weighted: Array,
    unweighted: Array,
    group: Array,
    power: Array,
) -> None:
    """Add shifted frames to the sums; see ``sums.add_frames_plainly`` for the meaning of each array."""
    n, rows, columns = frames.shape
    factor = np.empty(columns, np.float32)
    along_x = np.empty((n, 2, columns), np.float32)
    along_x[:, 0], along_x[:, 1] = phase_x.real, phase_x.imag
    of_group, of_weighted = np.empty((2, columns), np.float32), np.empty((2, columns), np.float32)
    for y in range(rows):
        of_weighted[0], of_weighted[1] = weighted[y].real, weighted[y].imag
        of_group[0], of_group[1] = group[y].real, group[y].imag
        for i in range(n):
            table = weights[i]
            for x in range(columns):
                factor[x] = table[radius[y, x]]
            _add_row(frames[i, y], phase_y[i, y], along_x[i], factor, of_weighted, of_group)
            if len(unweighted):
                for x in range(columns):
                    unweighted[y, x] += frames[i, y, x] * (phase_y[i, y] * phase_x[i, x])
            if ends[i]:
                for x in range(columns):
                    power[y, x] += of_group[0, x] * of_group[0, x] + of_group[1, x] * of_group[1, x]
                of_group[:] = 0.0
        for x in range(columns):
            weighted[y, x] = complex(of_weighted[0, x], of_weighted[1, x])
            group[y, x] = complex(of_group[0, x], of_group[1, x])
