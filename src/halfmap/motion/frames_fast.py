"""Counts of frames in one pass each: what numpy does in four, each as long as the memory is slow."""

from __future__ import annotations

import math

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, nogil=True)
def add_counts(frame: Array, total: Array) -> tuple[float, float, float]:
    """Add a frame of integers to a total; returns its least and largest value, and its sum."""
    rows, columns = frame.shape
    low, high, everything = frame[0, 0], frame[0, 0], np.int64(0)
    for y in range(rows):
        row, into = frame[y], total[y]
        least, most, of_row = row[0], row[0], np.int64(0)
        for x in range(columns):
            least = min(least, row[x])
            most = max(most, row[x])
        for x in range(columns):
            of_row += row[x]
            into[x] += np.float32(row[x])
        low, high, everything = min(low, least), max(high, most), everything + of_row
    return float(low), float(high), float(everything)


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
def mean_and_sd(total: Array, gain: Array, known: Array) -> tuple[float, float, float]:
    """Mean and standard deviation of a total times a gain, and mean of the total, where ``known`` is false."""
    rows, columns = total.shape
    n, first, second, counts = 0, 0.0, 0.0, 0.0
    for y in range(rows):
        row, factor, skip = total[y], gain[y], known[y]
        for x in range(columns):
            if not skip[x]:
                value = float(row[x] * factor[x])
                first += value
                second += value * value
                counts += row[x]
                n += 1
    n = max(n, 1)
    mean = first / n
    return mean, math.sqrt(max(second / n - mean * mean, 0.0)), counts / n


@numba.njit(cache=True, nogil=True)
def above(total: Array, gain: Array, known: Array, limit: float, counted: float, flags: Array) -> None:
    """Flag where a total times a gain is above a limit, and itself above another, and ``known`` is false."""
    rows, columns = total.shape
    for y in range(rows):
        row, factor, skip, flag = total[y], gain[y], known[y], flags[y]
        for x in range(columns):
            flag[x] = (row[x] * factor[x] > limit) & (row[x] > counted) & (not skip[x])
