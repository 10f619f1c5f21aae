"""Independent halves: drawn once, per micrograph or tilt series, and never again."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from halfmap.typing import Array


def assign_half_sets(names: Sequence[str], seed: int, known: Mapping[str, int] | None = None) -> Array:
    """Draw the half-set (1 or 2) of each row by the micrograph it belongs to.

    Rows of one name share a half; the two halves hold equally many names (to one). The draw
    depends on the names and the seed alone, not on the order of the rows. Names that are ``known``
    keep their half; the others fill up whichever half has fewer.

    >>> assign_half_sets(["a", "b", "a"], seed=0).tolist()
    [1, 2, 1]
    """
    order = sorted(set(names), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    half_of = {name: known[name] for name in order if name in known} if known else {}
    count = Counter(half_of.values())
    for name in order:
        if name not in half_of:
            half_of[name] = 1 if count[1] <= count[2] else 2
            count[half_of[name]] += 1
    return np.array([half_of[name] for name in names], dtype=np.int64)
