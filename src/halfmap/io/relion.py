"""RELION's STAR files (3.0, 3.1, 4, 5) to and from image sets. Our own files have the same form.

Declared columns (``data/columns.py``) are converted to our units; columns and blocks that are not
declared are kept as text and written again as they came. A value that was read and not changed is
written with the digits that it was read with, trailing zeros apart.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from halfmap.data.columns import (
    COLUMN_OF_RELION,
    COLUMNS,
    NAME_COLUMN,
    OPTICS_COLUMNS,
    PIXEL_SIZE_COLUMN,
    Column,
    Kind,
)
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.paths import resolve_path
from halfmap.io.relion_coordinates import COORDINATE_FILES, join_coordinate_files
from halfmap.io.relion_optics import (
    Note,
    merge_row_optics,
    optics_from_rows,
    with_defaults,
    with_pixel_size,
    without_stale_pixel_sizes,
)
from halfmap.io.star import StarBlock, ValueType, as_types, read_star, write_star
from halfmap.typing import Array, PathLike

__all__ = ["read_image_set", "resolve_path", "write_image_set"]

_TYPES: dict[str, ValueType] = {label: column.type for label, column in COLUMN_OF_RELION.items()}
_BLOCK_OF_KIND: dict[Kind, str] = {
    "movies": "movies",
    "micrographs": "micrographs",
    "coordinates": "particles",
    "particles": "particles",
}
_TYPED_BLOCKS = {"optics", "movies", "micrographs", "particles", "images", ""}
_LABEL_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "particles": ("rlnImageName",),
    "coordinates": ("rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"),
    "micrographs": ("rlnMicrographName",),
    "movies": ("rlnMicrographMovieName",),
}
"""Labels by which a kind is recognised, tried in this order."""

_FINITE = OPTICS_COLUMNS | {
    "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "phase_shift_rad", "coordinate_x_px", "coordinate_y_px",
    "rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "dose_per_frame_e_per_A2", "pre_exposure_e_per_A2",
}  # fmt: skip
"""Columns in which a NaN can only be a fault."""
_ORIGINS = {label: column.name for column in COLUMNS.values() for label in column.relion_older}
"""Shifts of RELION 3.0, in pixels."""
_SAME_SHIFT_PX = 0.01


def read_image_set(
    path: PathLike,
    kind: Kind | None = None,
    *,
    defaults: Mapping[str, float] | None = None,
    note: Note | None = None,
) -> ImageSet:
    """Read movies, micrographs, coordinates or particles with their optics groups.

    Parameters
    ----------
    path
        A STAR file of RELION 3.0 to 5 or of halfmap; a list of coordinate files, one a micrograph
        (autopick.star), is joined.
    kind
        What is wanted; by default what the file holds. Particles that have coordinates can be
        read as ``"coordinates"``.
    defaults
        Optics columns under our names (``{"micrograph_pixel_size_A": 1.5, "voltage_kV": 300}``) for a
        file that lacks them. Where the file has them, they must agree within 0.1 %.
    note
        Called with one sentence for every value that was not simply read: translated from older
        labels, filled in from ``defaults``, or made.

    Raises
    ------
    BadInputError
        Not such a file, columns missing, contradictory or not finite, pixel size unknown.

    Notes
    -----
    Particles and coordinates without a ``uid`` get one: the first 63 bits of the BLAKE2b hash of
    the image name (of micrograph and coordinates where there is no image), with the count of its
    earlier occurrences; it is the same whenever and wherever the file is read.
    """
    path = Path(path)
    note = note or _no_note
    blocks = read_star(path, lambda name: _TYPES if name in _TYPED_BLOCKS else {})
    optics_block = blocks.pop("optics", None)
    if COORDINATE_FILES in blocks and kind in (None, "coordinates"):
        note(f"coordinates joined from {blocks[COORDINATE_FILES].n_rows} files")
        blocks["particles"] = join_coordinate_files(blocks.pop(COORDINATE_FILES), _TYPES, path)
    kind, block_name = _find_rows(blocks, kind, path)
    rows = _table(as_types(blocks.pop(block_name), _TYPES, path, block_name))
    if optics_block is None:
        rows, optics = optics_from_rows(rows, note)
    else:
        optics = _table(optics_block)
        rows, optics = merge_row_optics(_with_group(rows, optics, path, note), optics, path, note)
    optics = with_defaults(with_pixel_size(optics, kind, path, note), defaults or {}, path, note)
    if PIXEL_SIZE_COLUMN[kind] not in optics:
        raise _missing(path, COLUMNS[PIXEL_SIZE_COLUMN[kind]].relion, "Give the pixel size as an option.")
    _check_values(rows, path)
    _check_values(optics, path)
    try:
        image_set = ImageSet(kind, rows, optics, blocks)
    except HalfmapError as error:
        raise BadInputError(
            path, "tables", found=f"inconsistent ({error})", expected="rows and optics groups that fit",
            remedy="Correct the file or write it again.",
        ) from error  # fmt: skip
    image_set = _with_shifts(image_set, path, note)
    return _with_uid(image_set, note)


def write_image_set(path: PathLike, image_set: ImageSet) -> None:
    """Write ``data_optics``, then the rows, then foreign blocks, as RELION 3.1 and later read them."""
    image_set = without_stale_pixel_sizes(image_set, Path(path))
    optics = image_set.optics
    if "optics_group_name" not in optics:
        optics = optics.with_columns(optics_group_name=[f"opticsGroup{n}" for n in optics["optics_group"]])
    blocks: dict[str, Mapping[str, Array]] = {"optics": _block(optics)}
    blocks[_BLOCK_OF_KIND[image_set.kind]] = _block(image_set.rows)
    for name, block in image_set.foreign_blocks.items():
        blocks[name] = block if isinstance(block, StarBlock) else {k: np.asarray(v) for k, v in block.items()}
    write_star(path, blocks)


def _no_note(message: str) -> None:
    """Say nothing."""


def _find_rows(blocks: Mapping[str, StarBlock], kind: Kind | None, path: Path) -> tuple[Kind, str]:
    kinds = list(_LABEL_OF_KIND) if kind is None else [kind]
    for candidate in kinds:
        names = [name for name, block in blocks.items() if set(_LABEL_OF_KIND[candidate]) <= set(block)]
        preferred = [name for name in names if name == _BLOCK_OF_KIND[candidate]] or names
        if len(preferred) > 1:
            raise BadInputError(
                path, f"blocks of {candidate}", found=f"{len(preferred)}: {preferred}", expected="one",
                remedy="Leave the one that is meant in the file.",
            )  # fmt: skip
        if preferred:
            return candidate, preferred[0]
    wanted = " or ".join(" with ".join(_LABEL_OF_KIND[candidate]) for candidate in kinds)
    raise BadInputError(
        path, "columns", found=f"none that tell {kind or 'images'}", expected=wanted,
        remedy="Check that this is the right STAR file.",
    )  # fmt: skip


def _table(block: StarBlock) -> Table:
    columns, foreign = {}, {}
    for label, values in block.items():
        column = COLUMN_OF_RELION.get(label)
        if column is None:
            foreign[label] = values
        else:
            columns[column.name] = values if column.relion_scale == 1.0 else values * column.relion_scale
    return Table(columns, foreign)


def _block(table: Table) -> StarBlock:
    columns: dict[str, Array] = {}
    for column in COLUMNS.values():
        if column.name in table:
            if column.relion is None:
                raise HalfmapError(f"column {column.name} has no RELION label")
            columns[column.relion] = _in_relion_units(table[column.name], column)
    return StarBlock({**columns, **table.foreign})


def _in_relion_units(values: Array, column: Column) -> Array:
    """Undo the conversion, giving back the very number that was read where there was one.

    ``x * scale / scale`` may miss ``x`` by one unit in the last place. The number with 15 digits
    that converts to the same value is the one that was read; where there is none, all 17 are kept.
    """
    if column.relion_scale == 1.0:
        return values
    exact = values / column.relion_scale
    # Nine decimals are what most files have, and quick to try.
    written = np.round(exact, 9)
    unlike = np.flatnonzero(written * column.relion_scale != values)
    short = np.array([float(f"{value:.15g}") for value in exact[unlike].tolist()], dtype=np.float64)
    written[unlike] = np.where(short * column.relion_scale == values[unlike], short, exact[unlike])
    return written


def _with_group(rows: Table, optics: Table, path: Path, note: Note) -> Table:
    if "optics_group" not in optics:
        raise _missing(path, "rlnOpticsGroup in data_optics", "Correct the file or write it again.")
    if "optics_group" in rows:
        return rows
    if len(optics) != 1:
        raise _missing(path, "rlnOpticsGroup of the rows", f"Say which of the {len(optics)} groups each row is of.")
    note("the rows name no optics group: all belong to the only one")
    return rows.with_columns(optics_group=np.full(len(rows), optics["optics_group"][0]))


def _check_values(table: Table, path: Path) -> None:
    for name, values in table.columns.items():
        if name in _FINITE and values.dtype.kind == "f" and not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise BadInputError(
                path, f"{COLUMNS[name].relion}, row {row + 1}", found=values[row], expected="a finite number",
                remedy="Leave the row out, or find out what went wrong where it was made.",
            )  # fmt: skip
        if name in PIXEL_SIZE_COLUMN.values() and not (values > 0).all():
            raise BadInputError(
                path, f"{COLUMNS[name].relion}", found=values.min(), expected="a positive number of Å",
                remedy="Correct the file.",
            )  # fmt: skip


def _with_shifts(image_set: ImageSet, path: Path, note: Note) -> ImageSet:
    """Translate the shifts of RELION 3.0, which are in pixels."""
    rows = image_set.rows
    older = {label: rows.foreign[label] for label in _ORIGINS if label in rows.foreign}
    if not older:
        return image_set
    pixel_size_A = image_set.pixel_size_A()
    rows = Table(rows.columns, {k: v for k, v in rows.foreign.items() if k not in older})
    block = as_types(StarBlock(older), dict.fromkeys(older, "float"), path, image_set.kind)
    for label, name in _ORIGINS.items():
        if label not in block:
            continue
        if name not in rows:
            rows = rows.with_columns(**{name: block[label] * pixel_size_A})
            note(f"{name} taken from {label}, in pixels")
            continue
        apart = np.abs(block[label] - rows[name] / pixel_size_A)
        if not (apart <= _SAME_SHIFT_PX).all():
            row = int(np.argmax(~(apart <= _SAME_SHIFT_PX)))
            raise BadInputError(
                path, f"{label}, row {row + 1}", found=f"{block[label][row]} px",
                expected=f"{rows[name][row] / pixel_size_A[row]:.6g} px as in {COLUMNS[name].relion}",
                remedy="Remove the column that is out of date.",
            )  # fmt: skip
    return image_set.with_rows(rows)


def _with_uid(image_set: ImageSet, note: Note) -> ImageSet:
    if "uid" in image_set.rows or image_set.kind not in ("particles", "coordinates"):
        return image_set
    rows = image_set.rows
    names = rows[NAME_COLUMN[image_set.kind]].tolist()
    if image_set.kind == "coordinates":
        x, y = rows["coordinate_x_px"].tolist(), rows["coordinate_y_px"].tolist()
        names = [f"{x},{y}@{name}" for name, x, y in zip(names, x, y, strict=True)]
    note("uid made from the names")
    return image_set.with_columns(uid=stable_uids(names))


def stable_uids(names: list[str]) -> Array:
    """Permanent numbers for named rows: 63 bits of a hash of the name; repeated names are told apart.

    >>> a, b = stable_uids(["1@a.mrcs", "1@a.mrcs"])
    >>> bool(a == stable_uids(["1@a.mrcs"])[0] and a != b)
    True
    """
    earlier: Counter[str] = Counter()
    uids = np.empty(len(names), np.int64)
    for i, name in enumerate(names):
        text = f"{name}#{earlier[name]}" if earlier[name] else name
        earlier[name] += 1
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
        uids[i] = int.from_bytes(digest, "big") >> 1
    return uids


def _missing(path: Path, what: str | None, remedy: str) -> BadInputError:
    return BadInputError(path, f"{what}", found="absent", expected="a value", remedy=remedy)
