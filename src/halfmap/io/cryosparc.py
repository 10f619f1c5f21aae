"""CryoSPARC's particle tables (.cs, optionally with passthrough .cs files) to image sets.

How its conventions become ours:

- ``alignments3D/pose`` is a rotation vector ``e``; ``rot_img_from_map`` is the transpose of the
  right-handed rotation about ``e`` by ``|e|``.
- ``alignments3D/shift`` is in pixels of ``alignments3D/psize_A`` and has the sign of ``shift_A``.
- ``location/center_x_frac`` counts from the first column and row in fractions of the micrograph, whose
  ``micrograph_shape`` is (rows, columns).
- ``blob/idx`` counts from 0, ``split`` is 0 or 1; ``uid`` is unsigned and kept bit by bit, so that large
  ones appear negative.

Everything else, 2D alignments included, is kept as foreign text under the field's own name. float32
numbers become the shortest decimal number that means them (1.345, not 1.3450000286).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.columns import COLUMNS, Column, Kind
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError
from halfmap.geometry.rotations import euler_from_matrix, matrix_from_rotation_vector
from halfmap.io.files import existing_file
from halfmap.typing import Array, PathLike

_FIELDS_OF_OPTICS = ("ctf/exp_group_id", "ctf/accel_kv", "ctf/cs_mm", "ctf/amp_contrast", "blob/psize_A", "blob/shape",
                     "micrograph_blob/psize_A")  # fmt: skip
_PLAIN = tuple(
    COLUMNS[name]
    for name in (
        "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "phase_shift_rad", "ctf_bfactor_A2", "ctf_scale",
        "ctf_fit_resolution_A", "ctf_figure_of_merit",
    )
)  # fmt: skip
_POSE, _SHIFT, _SHIFT_PIXEL, _SPLIT = (f"alignments3D/{name}" for name in ("pose", "shift", "psize_A", "split"))
_X, _Y, _SHAPE, _MICROGRAPH = (
    f"location/{name}" for name in ("center_x_frac", "center_y_frac", "micrograph_shape", "micrograph_path")
)
_CLASS = "alignments2D/class"
_NEEDED: dict[Kind, tuple[str, ...]] = {
    "particles": ("uid", "blob/idx", "blob/psize_A"),
    "coordinates": ("uid", _X, _Y, _SHAPE, _MICROGRAPH),
}
_SAVE_AGAIN = "Export the particles from CryoSPARC again."


def read_cs(path: PathLike, passthrough: Sequence[PathLike] = ()) -> ImageSet:
    """Read particles or, where there are no particle images, picks.

    Parameters
    ----------
    path
        The .cs file of a job.
    passthrough
        Further .cs files of the same particles; fields that ``path`` lacks are taken from them,
        matched by ``uid``.

    Raises
    ------
    BadInputError
        Not a .cs file, particles missing in a passthrough file, neither images nor picks.
    """
    path = existing_file(path)
    fields = _load(path)
    for other in passthrough:
        _join(fields, path, _load(existing_file(other)), Path(other))
    kind: Kind = "particles" if "blob/path" in fields else "coordinates"
    needed = _NEEDED[kind]
    absent = [name for name in needed if name not in fields]
    if absent:
        raise BadInputError(
            path, "fields", found=f"without {absent}", expected="particles with images, or picks", remedy=_SAVE_AGAIN
        )
    rows: dict[str, Any] = {"uid": fields.pop("uid").astype(np.uint64).view(np.int64)}
    _take_images(fields, rows)
    _take_locations(fields, rows)
    _take_alignments(fields, rows)
    for column in _PLAIN:
        if column.cryosparc in fields:
            rows[column.name] = _shortest(fields.pop(column.cryosparc))
    rows["optics_group"], optics = _optics(fields, len(rows["uid"]))
    used = {"blob/psize_A", "blob/shape", *(c.cryosparc for c in _plain_optics())}
    foreign = {name: np.array(_text(values), object) for name, values in fields.items() if name not in used}
    return ImageSet(kind, Table(rows, foreign), optics)


def _load(path: Path) -> dict[str, Array]:
    try:
        records = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError) as error:
        raise BadInputError(
            path,
            "content",
            found=f"not readable ({error})",
            expected="a .cs table in numpy's format",
            remedy=_SAVE_AGAIN,
        ) from error
    names = getattr(getattr(records, "dtype", None), "names", None)
    if not names or records.ndim != 1 or len(records) == 0:
        raise BadInputError(
            path, "content", found="not a table with rows", expected="a .cs table", remedy="Give the .cs file of a job."
        )
    return {name: records[name] for name in names}


def _join(fields: dict[str, Array], path: Path, others: dict[str, Array], other: Path) -> None:
    """Add the fields that only ``others`` has, in the row order of ``fields``."""
    for file, table in ((path, fields), (other, others)):
        if "uid" not in table:
            raise BadInputError(file, "uid", found="absent", expected="a number for each row", remedy=_SAVE_AGAIN)
    order = np.argsort(others["uid"])
    sorted_uid = others["uid"][order]
    place = np.minimum(np.searchsorted(sorted_uid, fields["uid"]), len(order) - 1)
    missing = int((sorted_uid[place] != fields["uid"]).sum())
    if missing:
        raise BadInputError(
            other, "uid", found=f"without {missing} of the {len(place)} particles of {path}", expected="all of them",
            remedy="Give the passthrough file of the same job.",
        )  # fmt: skip
    fields.update({name: values[order[place]] for name, values in others.items() if name not in fields})


def _take_images(fields: dict[str, Array], rows: dict[str, Any]) -> None:
    if "blob/path" not in fields:
        return
    paths = _paths(fields.pop("blob/path"))
    numbers = (fields.pop("blob/idx").astype(np.int64) + 1).tolist()
    rows["image_name"] = [f"{number:06d}@{path}" for number, path in zip(numbers, paths, strict=True)]


def _take_locations(fields: dict[str, Array], rows: dict[str, Any]) -> None:
    if _MICROGRAPH in fields:
        rows["micrograph_name"] = _paths(fields.pop(_MICROGRAPH))
    if {_X, _Y, _SHAPE} <= set(fields):
        shape = fields.pop(_SHAPE).astype(np.float64)
        rows["coordinate_x_px"] = _shortest(fields.pop(_X)) * shape[:, 1]
        rows["coordinate_y_px"] = _shortest(fields.pop(_Y)) * shape[:, 0]


def _take_alignments(fields: dict[str, Array], rows: dict[str, Any]) -> None:
    if _POSE in fields:
        vectors = fields.pop(_POSE).astype(np.float64)
        euler = euler_from_matrix(matrix_from_rotation_vector(vectors).transpose(-1, -2)).numpy()
        rows["rot_rad"], rows["tilt_rad"], rows["psi_rad"] = euler.T
    if _SHIFT in fields and (_SHIFT_PIXEL in fields or "blob/psize_A" in fields):
        pixel_size_A = _shortest(fields.pop(_SHIFT_PIXEL) if _SHIFT_PIXEL in fields else fields["blob/psize_A"])
        shift = fields.pop(_SHIFT).astype(np.float64)
        rows["shift_x_A"], rows["shift_y_A"] = (shift * pixel_size_A[:, None]).T
    if _SPLIT in fields and set(np.unique(fields[_SPLIT]).tolist()) == {0, 1}:
        rows["half_set"] = fields.pop(_SPLIT).astype(np.int64) + 1
    if _CLASS in fields:
        rows["class_number"] = fields.pop(_CLASS).astype(np.int64) + 1


def _optics(fields: dict[str, Array], n_rows: int) -> tuple[Array, Table]:
    """Number the groups that agree in all optical fields from 1, by exposure group."""
    present = [name for name in _FIELDS_OF_OPTICS if name in fields]
    codes = np.zeros((n_rows, 1), np.int64)
    if present:
        codes = np.stack([np.unique(fields[n], axis=0, return_inverse=True)[1].reshape(-1) for n in present], axis=1)
    _, first, member = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    numbers = np.arange(1, len(first) + 1)
    columns: dict[str, Any] = {"optics_group": numbers, "optics_group_name": [f"opticsGroup{n}" for n in numbers]}
    for column in _plain_optics():
        if column.cryosparc in fields:
            columns[column.name] = _shortest(fields[column.cryosparc][first])
    if "blob/shape" in fields:
        columns["box_px"] = fields["blob/shape"][first].reshape(len(first), -1)[:, 0]
        columns["image_dimensions"] = [2] * len(first)
    return member.reshape(-1) + 1, Table(columns)


def _plain_optics() -> tuple[Column, ...]:
    names = ("voltage_kV", "cs_mm", "amplitude_contrast", "image_pixel_size_A", "micrograph_pixel_size_A")
    return tuple(COLUMNS[name] for name in names)


def _paths(values: Array) -> list[str]:
    """File names as text; CryoSPARC marks names relative to its project with ">"."""
    texts = (v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in values.tolist())
    return [text.removeprefix(">") for text in texts]


def _shortest(values: Array) -> Array:
    """float64 of the shortest decimal numbers that mean these (float32) values."""
    return np.array([float(str(v)) for v in values], dtype=np.float64)


def _text(values: Array) -> list[str]:
    if values.dtype.kind in "SUO":
        return [v.decode("utf-8", "surrogateescape") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    if values.ndim == 1:
        return [str(v) for v in values]
    return ["[" + ",".join(str(v) for v in row.reshape(-1)) + "]" for row in values]
