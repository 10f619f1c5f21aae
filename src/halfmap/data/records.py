"""Records that steps exchange: sets of images with their optics, volumes, half-maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from halfmap.data.columns import NAME_COLUMN, OPTICS_COLUMNS, PIXEL_SIZE_COLUMN, Kind
from halfmap.data.table import Table
from halfmap.errors import HalfmapError
from halfmap.typing import Array


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Movies, micrographs, coordinates or particles: rows, and the optics groups they belong to.

    Every row has an ``optics_group`` that occurs exactly once in ``optics``. ``foreign_blocks`` keeps
    foreign STAR blocks (name -> label -> values) so that writing the file again loses nothing.
    """

    kind: Kind
    rows: Table
    optics: Table
    foreign_blocks: Mapping[str, Mapping[str, Sequence[str] | Array]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for table, name in (
            (self.rows, NAME_COLUMN[self.kind]),
            (self.rows, "optics_group"),
            (self.optics, "optics_group"),
        ):
            if name not in table:
                raise HalfmapError(f"a table of {self.kind} needs the column {name}")
        groups = self.optics["optics_group"]
        if len(np.unique(groups)) != len(groups):
            raise HalfmapError(f"optics groups occur twice: {groups.tolist()}")
        missing = np.setdiff1d(self.rows["optics_group"], groups)
        if missing.size:
            raise HalfmapError(f"optics groups {missing.tolist()} are used but not described")
        misplaced = (set(self.rows.columns) & OPTICS_COLUMNS) - {"optics_group"}
        if misplaced:
            raise HalfmapError(f"columns {sorted(misplaced)} belong to the optics groups, not to the rows")

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: str) -> bool:
        return name in self.rows or name in self.optics

    def __getitem__(self, name: str) -> Array:
        """A column by name, one value a row; optics columns are looked up for each row."""
        if name in self.rows or name not in OPTICS_COLUMNS:
            return self.rows[name]
        return self.optics[name][self.optics_index()]

    def optics_index(self) -> Array:
        """For each row, the position of its optics group in ``optics``."""
        order = np.argsort(self.optics["optics_group"])
        return order[np.searchsorted(self.optics["optics_group"][order], self.rows["optics_group"])]

    def pixel_size_A(self) -> Array:
        """For each row, the pixel size of the images of this kind."""
        return self[PIXEL_SIZE_COLUMN[self.kind]]

    def with_rows(self, rows: Table) -> ImageSet:
        """The same optics with other rows."""
        return ImageSet(self.kind, rows, self.optics, self.foreign_blocks)

    def with_columns(self, **columns: Any) -> ImageSet:
        """Rows with some columns added or replaced."""
        return self.with_rows(self.rows.with_columns(**columns))

    def select(self, rows: Sequence[int] | Array) -> ImageSet:
        """Some rows, by indices or by a boolean mask."""
        return self.with_rows(self.rows.select(rows))

    def require(self, columns: Iterable[str], *, needed_for: str) -> None:
        """Raise an error naming the columns that are absent."""
        absent = [name for name in columns if name not in self]
        if absent:
            raise HalfmapError(f"{needed_for} needs the columns {absent}, which these {self.kind} do not have")


@dataclass(frozen=True, eq=False)
class Volume:
    """A density map ``[z, y, x]`` (float32), protein positive, with its pixel size.

    ``origin_A`` is the (x, y, z) position of the first voxel in the frame of the file.
    """

    data: Array
    pixel_size_A: float
    origin_A: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        if self.data.ndim != 3:
            raise HalfmapError(f"a volume has three dimensions, this one has shape {self.data.shape}")
        if not self.pixel_size_A > 0:
            raise HalfmapError(f"a volume needs a positive pixel size, found {self.pixel_size_A}")


@dataclass(frozen=True, eq=False)
class HalfMaps:
    """Two maps from independent halves of the particles, on one grid."""

    half1: Volume
    half2: Volume

    def __post_init__(self) -> None:
        if self.half1.data.shape != self.half2.data.shape:
            raise HalfmapError(f"half-maps differ in shape: {self.half1.data.shape}, {self.half2.data.shape}")
