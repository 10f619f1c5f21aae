"""An immutable table of declared columns, plus the foreign columns that a file brought along."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from halfmap.data.columns import COLUMNS
from halfmap.errors import HalfmapError
from halfmap.typing import Array

_DTYPES: dict[str, type] = {"float": np.float64, "int": np.int64, "str": object}


def _frozen(values: Any, dtype: type) -> Array:
    array: Array = np.array(values, dtype=dtype)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length.

    ``columns`` holds declared columns (``data/columns.py``) under our names in our units;
    ``foreign`` holds columns that we do not know, as text under their own labels: they travel
    with the rows and are written back unchanged.

    >>> table = Table.of(defocus_u_A=[1.0, 2.0], micrograph_name=["a", "b"])
    >>> len(table), table["defocus_u_A"].tolist()
    (2, [1.0, 2.0])
    >>> table.select([1])["micrograph_name"].tolist()
    ['b']
    """

    columns: Mapping[str, Array]
    foreign: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.columns) - set(COLUMNS))
        if unknown:
            raise HalfmapError(f"columns {unknown} are not declared in data/columns.py")
        columns = {name: _frozen(values, _DTYPES[COLUMNS[name].type]) for name, values in self.columns.items()}
        foreign = {name: _frozen(values, object) for name, values in self.foreign.items()}
        lengths = {name: len(values) for name, values in (columns | foreign).items()}
        if len(set(lengths.values())) > 1:
            raise HalfmapError(f"columns differ in length: {lengths}")
        object.__setattr__(self, "columns", columns)
        object.__setattr__(self, "foreign", foreign)

    @classmethod
    def of(cls, **columns: Any) -> Table:
        """Build a table from declared columns given by keyword."""
        return cls(columns)

    def __len__(self) -> int:
        for values in (*self.columns.values(), *self.foreign.values()):
            return len(values)
        return 0

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> Array:
        if name not in self.columns:
            raise HalfmapError(f"column {name} is missing; there are {sorted(self.columns)}")
        return self.columns[name]

    def get(self, name: str, default: float) -> Array:
        """Return a numeric column, or ``default`` repeated where it is absent."""
        if name in self.columns:
            return self.columns[name]
        return _frozen(np.full(len(self), default), _DTYPES[COLUMNS[name].type])

    def with_columns(self, **columns: Any) -> Table:
        """Return a table with some columns added or replaced."""
        return Table({**self.columns, **columns}, self.foreign)

    def without(self, names: Iterable[str]) -> Table:
        """Return a table without the named columns (absent ones are ignored)."""
        drop = set(names)
        return Table({name: values for name, values in self.columns.items() if name not in drop}, self.foreign)

    def select(self, rows: Sequence[int] | Array) -> Table:
        """Return the rows given by indices or by a boolean mask, in that order."""
        index = np.asarray(rows)
        if index.size == 0:
            index = index.astype(np.int64)
        return Table(
            {name: values[index] for name, values in self.columns.items()},
            {name: values[index] for name, values in self.foreign.items()},
        )


def concatenate(tables: Sequence[Table]) -> Table:
    """Join tables row-wise; all must have the same declared and foreign columns."""
    if not tables:
        raise HalfmapError("there are no tables to join")
    first = tables[0]
    for table in tables[1:]:
        if set(table.columns) != set(first.columns) or set(table.foreign) != set(first.foreign):
            differing = sorted((set(table.columns) ^ set(first.columns)) | (set(table.foreign) ^ set(first.foreign)))
            raise HalfmapError(f"tables cannot be joined: only some have the columns {differing}")
    return Table(
        {name: np.concatenate([t.columns[name] for t in tables]) for name in first.columns},
        {name: np.concatenate([t.foreign[name] for t in tables]) for name in first.foreign},
    )
