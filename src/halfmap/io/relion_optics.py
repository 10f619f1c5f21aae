"""Optics groups of RELION files, old and new, and the pixel sizes that they give in several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.data.columns import COLUMNS, OPTICS_COLUMNS, PIXEL_SIZE_COLUMN, Kind
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.files import check_pixel_size
from halfmap.typing import Array
from halfmap.units import A_PER_UM

MAGNIFICATION, DETECTOR_PIXEL_SIZE, PIXEL_SIZE = "rlnMagnification", "rlnDetectorPixelSize", "rlnPixelSize"
_OLDER_OPTICS = (MAGNIFICATION, DETECTOR_PIXEL_SIZE, PIXEL_SIZE)
_CORRECT = "Find out which one is right and correct the other."

Note = Callable[[str], None]


def optics_from_rows(rows: Table, note: Note) -> tuple[Table, Table]:
    """Make optics groups for a file that has none (RELION 3.0 and before, or coordinates alone).

    Rows that agree in all optical columns form a group, numbered by first appearance; groups that
    the rows already name are kept. Returns (rows without these columns, optics).
    """
    declared = [name for name in rows.columns if name in OPTICS_COLUMNS]
    older = [label for label in _OLDER_OPTICS if label in rows.foreign]
    keys = [rows[name] for name in declared] + [rows.foreign[label] for label in older]
    first: Array = np.zeros(min(len(rows), 1), np.int64)
    member: Array = np.zeros(len(rows), np.int64)
    if keys:
        codes = np.stack([np.unique(key, return_inverse=True)[1] for key in keys], axis=1)
        _, first, member = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        order = np.argsort(first)
        first, member = first[order], np.argsort(order)[member.reshape(-1)]
    described = rows.select(first)
    optics = Table({name: described[name] for name in declared}, {label: described.foreign[label] for label in older})
    if "optics_group" not in optics:
        groups = np.arange(1, max(len(first), 1) + 1)
        columns = {"optics_group": groups} if not keys else {"optics_group": groups, **optics.columns}
        optics = Table(columns, optics.foreign)
        rows = rows.with_columns(optics_group=member + 1)
    elif len(np.unique(optics["optics_group"])) != len(optics):
        raise HalfmapError(f"rows of one optics group differ in {[*declared, *older]}")
    if "optics_group_name" not in optics:
        optics = optics.with_columns(optics_group_name=[f"opticsGroup{n}" for n in optics["optics_group"]])
    note(f"no optics groups in the file: made {len(optics)} from {[*declared, *older] or 'nothing'}")
    rows = rows.without(set(declared) - {"optics_group"})
    return Table(rows.columns, {k: v for k, v in rows.foreign.items() if k not in older}), optics


def merge_row_optics(rows: Table, optics: Table, path: Path, note: Note) -> tuple[Table, Table]:
    """Compare optical columns that a file repeats in its rows with its optics groups, and drop them there.

    A column that only the rows have moves to the groups if it is the same within each group.
    """
    names = [name for name in rows.columns if name in OPTICS_COLUMNS and name != "optics_group"]
    if not names:
        return rows, optics
    groups, first, member = np.unique(rows["optics_group"], return_index=True, return_inverse=True)
    for name in names:
        label = COLUMNS[name].relion
        values = rows[name]
        of_group = values[first]
        if not np.array_equal(of_group[member], values):
            raise BadInputError(
                path, f"{label} of the rows", found="different within an optics group", expected="one value a group",
                remedy="Give rows with different optics different optics groups.",
            )  # fmt: skip
        by_group = dict(zip(groups.tolist(), of_group.tolist(), strict=True))
        if name in optics:
            described = dict(zip(optics["optics_group"].tolist(), optics[name].tolist(), strict=True))
            for group, value in by_group.items():
                _check_same(path, f"{label} of the rows", value, described[group], f"optics group {group}")
        elif set(by_group) == set(optics["optics_group"].tolist()):
            optics = optics.with_columns(**{name: [by_group[g] for g in optics["optics_group"].tolist()]})
            note(f"{label} taken from the rows")
    return rows.without(names), optics


def with_pixel_size(optics: Table, kind: Kind, path: Path, note: Note) -> Table:
    """Take the pixel size from older labels where the one of this kind is absent; compare where it is not."""
    column = PIXEL_SIZE_COLUMN[kind]
    for source, values in implied_pixel_sizes(optics.foreign, path).items():
        if column in optics:
            for found, expected in zip(values.tolist(), optics[column].tolist(), strict=True):
                check_pixel_size(path, found, expected, f"{COLUMNS[column].relion} (found: {source})")
        else:
            optics = optics.with_columns(**{column: values})
            note(f"pixel size {_listed(values)} Å taken from {source}")
    return optics


def with_defaults(optics: Table, defaults: Mapping[str, float], path: Path, note: Note) -> Table:
    """Fill in optics columns that are absent; values that are there have to agree with the ones given."""
    for name, value in defaults.items():
        if name not in OPTICS_COLUMNS:
            raise HalfmapError(f"{name} is not a column of optics groups")
        if name in optics:
            for found in optics[name].tolist():
                _check_same(path, f"{COLUMNS[name].relion}", found, value, "the options")
        else:
            optics = optics.with_columns(**{name: np.full(len(optics), value)})
            note(f"{name} = {value} taken from the options: the file has no {COLUMNS[name].relion}")
    return optics


def implied_pixel_sizes(foreign: Mapping[str, Array], path: Path) -> dict[str, Array]:
    """Pixel sizes in Å that the labels of RELION 3.0 and before give, by source."""
    implied = {}
    if MAGNIFICATION in foreign and DETECTOR_PIXEL_SIZE in foreign:
        detector_um = _floats(foreign, DETECTOR_PIXEL_SIZE, path)
        sizes = detector_um * A_PER_UM / _floats(foreign, MAGNIFICATION, path)
        implied[f"{DETECTOR_PIXEL_SIZE} / {MAGNIFICATION}"] = np.array([float(f"{s:.12g}") for s in sizes])
    if PIXEL_SIZE in foreign:
        implied[PIXEL_SIZE] = _floats(foreign, PIXEL_SIZE, path)
    return implied


def without_stale_pixel_sizes(image_set: ImageSet, path: Path) -> ImageSet:
    """Drop the older labels of the pixel size if the images have been given another one since."""
    column = PIXEL_SIZE_COLUMN[image_set.kind]
    if column not in image_set.optics:
        return image_set

    def pruned(table: Table, pixel_size_A: Array) -> Table:
        implied = implied_pixel_sizes(table.foreign, path).values()
        if all(np.all(np.abs(sizes / pixel_size_A - 1.0) <= PIXEL_SIZE_TOLERANCE) for sizes in implied):
            return table
        return Table(table.columns, {k: v for k, v in table.foreign.items() if k not in _OLDER_OPTICS})

    rows = pruned(image_set.rows, image_set.pixel_size_A())
    optics = pruned(image_set.optics, image_set.optics[column])
    return ImageSet(image_set.kind, rows, optics, image_set.foreign_blocks)


def _floats(foreign: Mapping[str, Array], label: str, path: Path) -> Array:
    try:
        values = foreign[label].astype(np.float64)
    except ValueError as error:
        raise BadInputError(path, label, found=str(error), expected="numbers", remedy="Correct the file.") from error
    if not (np.isfinite(values) & (values > 0)).all():
        raise BadInputError(path, label, found=_listed(values), expected="positive numbers", remedy="Correct the file.")
    return values


def _check_same(path: Path, field: str, found: object, expected: object, what: str) -> None:
    if isinstance(found, float) and isinstance(expected, int | float):
        close = abs(found - expected) <= PIXEL_SIZE_TOLERANCE * abs(expected)
        if not close:
            ratio = f": ratio {found / expected:.5f}" if expected else ""
            raise BadInputError(path, field, found=found, expected=f"{expected} as in {what}{ratio}", remedy=_CORRECT)
    elif found != expected:
        raise BadInputError(path, field, found=found, expected=f"{expected} as in {what}", remedy=_CORRECT)


def _listed(values: Array) -> str:
    return ", ".join(f"{value:.6g}" for value in np.unique(values))
