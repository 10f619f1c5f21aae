"""Rows of a table by the names of their files, as other tables and people write them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def rows_by_name(names: Sequence[str]) -> dict[str, int]:
    """Rows by full name, and by the name without folders where only one row has it.

    >>> rows_by_name(["day1/a.mrc", "day2/b.mrc"])["b.mrc"]
    1
    """
    short = [Path(name).name for name in names]
    count = Counter(short)
    rows = {name: row for row, name in enumerate(short) if count[name] == 1}
    return rows | {name: row for row, name in enumerate(names)}
