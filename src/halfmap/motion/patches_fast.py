"""The numba twins of what ``patches`` does to each frame: shifting its band into place, and cutting cells."""

from __future__ import annotations

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, fastmath=True, nogil=True)
def place_moved(frame: Array, along_y: Array, along_x: Array, out: Array) -> None:
    """Shift a frame's low frequencies ``[ky, kx]``, and put them where they belong in a larger rfft2 of zeros else."""
    rows, columns = frame.shape
    up = rows // 2
    wide = out.shape[1]
    for y in range(up + 1, len(out) - up):
        for x in range(wide):
            out[y, x] = 0.0
    for y in range(rows):
        to = y - up if y >= up else len(out) + y - up
        c, d = along_y[y].real, along_y[y].imag
        for x in range(columns):
            p, q = c * along_x[x].real - d * along_x[x].imag, c * along_x[x].imag + d * along_x[x].real
            a, b = frame[y, x].real, frame[y, x].imag
            out[to, x] = complex(a * p - b * q, a * q + b * p)
        for x in range(columns, wide):
            out[to, x] = 0.0


@numba.njit(cache=True, fastmath=True, nogil=True)
def cut_cells(picture: Array, corners_y: Array, corners_x: Array, along_y: Array, along_x: Array, out: Array) -> None:
    """Cells ``[p, y, x]`` of a picture less their mean, with soft edges: ``along_y`` times ``along_x``."""
    _, rows, columns = out.shape
    full = along_y.sum() * along_x.sum()
    for row in range(len(corners_y)):
        for column in range(len(corners_x)):
            cell = row * len(corners_x) + column
            top, left = corners_y[row], corners_x[column]
            of_cell = 0.0
            for y in range(rows):
                of_row = np.float32(0.0)
                for x in range(columns):
                    of_row += picture[top + y, left + x] * along_x[x]
                of_cell += of_row * along_y[y]
            mean = np.float32(of_cell / full)
            for y in range(rows):
                for x in range(columns):
                    out[cell, y, x] = (picture[top + y, left + x] - mean) * (along_y[y] * along_x[x])
