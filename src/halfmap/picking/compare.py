"""Two lists of coordinates against each other: precision and recall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from halfmap.typing import Array, FloatArray


@dataclass(frozen=True)
class Comparison:
    """Counts of one comparison, or of several added up."""

    picked: int
    expected: int
    matched: int

    @property
    def precision(self) -> float:
        """Share of the picks that are expected; 0 without picks."""
        return self.matched / self.picked if self.picked else 0.0

    @property
    def recall(self) -> float:
        """Share of the expected that was picked; 0 where nothing is expected."""
        return self.matched / self.expected if self.expected else 0.0

    def __add__(self, other: Comparison) -> Comparison:
        return Comparison(self.picked + other.picked, self.expected + other.expected, self.matched + other.matched)


def match_points(picked: FloatArray, expected: FloatArray, tolerance: float) -> Array:
    """Pair points one to one, nearest pairs first.

    Parameters
    ----------
    picked, expected
        ``[n, 2]`` and ``[m, 2]``, in one unit.
    tolerance
        Largest distance of a pair.

    Returns
    -------
    int array ``[pairs, 2]``
        Indices into ``picked`` and ``expected``, nearest pair first.
    """
    if len(picked) == 0 or len(expected) == 0:
        return np.zeros((0, 2), dtype=np.int64)
    near = cKDTree(picked).sparse_distance_matrix(cKDTree(expected), tolerance, output_type="coo_matrix")
    order = np.lexsort((near.col, near.row, near.data))
    taken_a, taken_b, pairs = set(), set(), []
    for a, b in zip(near.row[order].tolist(), near.col[order].tolist(), strict=True):
        if a not in taken_a and b not in taken_b:
            taken_a.add(a)
            taken_b.add(b)
            pairs.append((a, b))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def compare_points(picked: FloatArray, expected: FloatArray, tolerance: float) -> Comparison:
    """Count the picks that have a partner of their own within ``tolerance``."""
    return Comparison(len(picked), len(expected), len(match_points(picked, expected, tolerance)))
