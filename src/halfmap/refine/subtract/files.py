"""Subtraction's inputs and outputs as files: tasks by stack, the new table, the new maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.records import ImageSet, Volume
from halfmap.data.table import Table
from halfmap.io.mrc import write_volume
from halfmap.io.paths import split_image_name
from halfmap.refine.images.observations import CTF_COLUMNS
from halfmap.refine.session import Session
from halfmap.refine.subtract.grey_scale import GreyScale
from halfmap.refine.subtract.options import SubtractOptions
from halfmap.refine.subtract.parts import Parts
from halfmap.refine.subtract.stacks import StackTask, SubtractionPlan, new_origins
from halfmap.typing import Array

IMAGES_PER_TASK = 1000
"""Images of one stack that are one unit of work, and one new stack."""
FITTED_IMAGES = 1024
"""Images of each optics group that the grey scale is fitted to."""
FAULTS_SHOWN = 20
"""Images left out that are named one by one."""
NEEDED = ("rot_rad", "tilt_rad", "psi_rad", *CTF_COLUMNS)
SHARPENED = 0.75
"""Grey scale of fine relative to coarse detail below which the map counts as sharpened."""
_TAKEN_ALONG = (
    "image_name", "optics_group", "rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "defocus_u_A",
    "defocus_v_A", "defocus_angle_rad", "phase_shift_rad", "ctf_bfactor_A2", "ctf_scale",
)  # fmt: skip
"""Columns that a unit of work takes to its worker."""
_COORDINATES = ("coordinate_x_px", "coordinate_y_px")


def plan_of(parts: Parts, options: SubtractOptions, folder: Path) -> SubtractionPlan:
    """What all stacks share before the grey scale is known."""
    box_A = None if options.box_px is None else options.box_px * parts.grid.pixel_size_A
    return SubtractionPlan(parts.grid, parts.whole_diameter_A, parts.centre_A, box_A, {}, folder, options.storage)


def stack_tasks(images: ImageSet, star: Path, stems: Mapping[str, str], rows: Array) -> list[StackTask]:
    """Units of work for some rows: the images of one stack and optics group, in parts where they are many.

    Parameters
    ----------
    images
        All particles.
    star
        The file that they were read from.
    stems
        Names of new stacks by the old ones' (:func:`stack_names`).
    rows
        Rows to work on.
    """
    groups, names = images["optics_group"], stack_names(images, star)
    members: dict[tuple[str, int], list[int]] = {}
    for row in rows.tolist():
        members.setdefault((names[row], int(groups[row])), []).append(row)
    parts: dict[str, list[list[int]]] = {}
    for (name, _), mine in members.items():
        chunks = [mine[start : start + IMAGES_PER_TASK] for start in range(0, len(mine), IMAGES_PER_TASK)]
        parts.setdefault(stems[name], []).extend(chunks)
    table = Table({name: values for name, values in images.rows.columns.items() if name in _TAKEN_ALONG})
    tasks = []
    for stem, chunks in parts.items():
        for number, chunk in enumerate(chunks, start=1):
            index = np.array(chunk)
            own = ImageSet("particles", table.select(index), images.optics)
            tasks.append(StackTask(stem if len(chunks) == 1 else f"{stem}_part{number:04d}", index, own, star))
    return tasks


def stack_names(images: ImageSet, star: Path) -> list[str]:
    """The stack of each image."""
    return [split_image_name(name, star)[1] for name in images["image_name"].tolist()]


def fitted_rows(images: ImageSet) -> Array:
    """A sample of each optics group, evenly spread over the table."""
    group = images.optics_index()
    chosen = []
    for position in range(len(images.optics)):
        rows = np.flatnonzero(group == position)
        chosen.append(rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), FITTED_IMAGES)).astype(int))])
    return np.sort(np.concatenate(chosen))


def report_scale(found: GreyScale, images: ImageSet, session: Session) -> None:
    """Tell the grey scale of each optics group, and what speaks against it."""
    for position, number in enumerate(images.optics["optics_group"].tolist()):
        scale, error = found.scale[position], found.error[position]
        if found.fitted[position]:
            session.log(f"optics group {number}: grey scale {scale:.4g} ± {error:.2g}")
        elif np.isfinite(error):
            session.warn(f"optics group {number}: its images do not tell their grey scale (± {error:.2g}); that of the "
                         f"others was taken, {scale:.4g}")  # fmt: skip
    ratio = found.fine_to_coarse
    if ratio is not None and ratio < SHARPENED:
        session.warn(
            f"the grey scale of the map's finer detail is {ratio:.2f} times that of the coarser: the map is "
            "sharpened, or the poses are not its own, and too much is subtracted; give the map.mrc of refine"
        )


def subtracted_table(
    images: ImageSet, results: Sequence[Mapping[str, Any] | None], parts: Parts, session: Session
) -> ImageSet:
    """The particles whose images were written, in the order of the input.

    New are the image's name and, where boxes moved, shift and coordinates; the old name stands in
    ``original_image_name``. The diameter is that of what is left. ``results`` are those of ``subtract_stack``, None
    for stacks that failed.
    """
    names = np.full(len(images), "", dtype=object)
    box_px: dict[int, int] = {}
    for result in results:
        if result is not None:
            rows = np.array(result["rows"])
            names[rows] = [f"{i:06d}@{result['stack']}" for i in range(1, len(rows) + 1)]
            box_px[int(images["optics_group"][rows[0]])] = result["box_px"]
    kept = np.flatnonzero(names != "")
    old = images.select(kept)
    moved_px, shift = new_origins(old, parts.centre_A)
    table = old.rows.with_columns(
        image_name=names[kept], original_image_name=old["image_name"], shift_x_A=shift[:, 0], shift_y_A=shift[:, 1],
        particle_diameter_A=np.full(len(kept), parts.diameter_A), **_moved_coordinates(old, moved_px, session),
    )  # fmt: skip
    described: Array = np.isin(images.optics["optics_group"], list(box_px))
    optics = images.optics.select(described)
    optics = optics.with_columns(box_px=[box_px[group] for group in optics["optics_group"].tolist()])
    return ImageSet("particles", table, optics, images.foreign_blocks)


def _moved_coordinates(images: ImageSet, moved_px: Array, session: Session) -> dict[str, Array]:
    """Places in the micrographs of boxes that moved by so many pixels of the images."""
    if not all(name in images for name in _COORDINATES) or not moved_px.any():
        return {}
    if "micrograph_pixel_size_A" not in images:
        session.warn("the pixel size of the micrographs is not stated: coordinates are those of the boxes as they were")
        return {}
    moved = moved_px * (images.pixel_size_A() / images["micrograph_pixel_size_A"])[:, None]
    return {name: images[name] + moved[:, axis] for axis, name in enumerate(_COORDINATES)}


def write_parts(folder: Path, parts: Parts) -> None:
    """Write what is kept of the map, and the mask, in the frame of the new images."""
    for name, volume in (("map.mrc", parts.kept), ("mask.mrc", parts.mask)):
        write_volume(folder / name, Volume(parts.in_new_box(volume).numpy(), parts.grid.pixel_size_A))


def summary(
    images: ImageSet,
    left: ImageSet,
    results: Sequence[Mapping[str, Any] | None],
    parts: Parts,
    found: GreyScale,
    session: Session,
) -> dict[str, Any]:
    """Counts and figures for the record, said aloud as well."""
    faults = [fault for result in results if result is not None for fault in result["faults"]]
    for fault in faults[:FAULTS_SHOWN]:
        session.warn(f"particle left out: {fault}")
    lost = len(images) - len(left) - len(faults)
    session.log(f"{len(images)} particles in, {len(left)} out, {len(faults)} unusable, {lost} in stacks that failed")
    session.log(
        f"what is kept lies in a sphere of {parts.diameter_A:.0f} Å about the origin; give --diameter accordingly"
    )
    return {
        "items_in": len(images),
        "items_out": len(left),
        "unusable": len(faults),
        "stack_failed": lost,
        "grey_scale": [float(f"{scale:.6g}") for scale in found.scale],
        "grey_scale_error": [float(f"{error:.3g}") for error in found.error],
        "fine_to_coarse": found.fine_to_coarse,
        "removed_frac": _share(parts),
        "diameter_A": round(parts.diameter_A, 1),
        "moved_A": parts.centre_A,
    }


def _share(parts: Parts) -> float:
    """Power of what is removed relative to that of the whole map."""
    return round(float(parts.removed.double().square().sum() / parts.whole.double().square().sum()), 4)
