"""Independent halves: drawn once, per micrograph or tilt series, and never again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from halfmap.typing import Array


def assign_half_sets(names: Sequence[str], seed: int) -> Array:
    """Draw the half-set (1 or 2) of each row by the micrograph it belongs to.

    Rows of one name share a half; the two halves hold equally many names (to one). The draw
    depends on the names and the seed alone, not on the order of the rows.

    >>> assign_half_sets(["a", "b", "a"], seed=0).tolist()
    [1, 2, 1]
    """
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    half_of = {name: 1 + i % 2 for i, name in enumerate(order)}
    return np.array([half_of[name] for name in names], dtype=np.int64)
