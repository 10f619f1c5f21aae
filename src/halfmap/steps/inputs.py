"""What steps share in reading their inputs: one STAR file, or bare image files with optics options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.errors import BadInputError, HalfmapError
from halfmap.optics.options import OpticsOptions
from halfmap.steps.files import located

if TYPE_CHECKING:
    from halfmap.data.columns import Kind
    from halfmap.data.records import ImageSet


def image_set_from(paths: Sequence[Path], kind: Kind, optics: OpticsOptions, *, seed: int = 0) -> ImageSet:
    """Read one STAR file, or make rows from bare movies or micrographs; the optics are complete.

    The names of files in the result open from the current folder. Rows without a ``half_set``
    get one, by micrograph (movies and micrographs only). ``dose_per_frame_e_per_A2`` is a column
    where an option or the file states it.

    Raises
    ------
    BadInputError
        If options contradict the file by more than 0.1 %, or a needed value is stated nowhere.
    """
    from halfmap.data.columns import NAME_COLUMN
    from halfmap.data.halves import assign_half_sets
    from halfmap.io.relion import read_image_set
    from halfmap.optics.groups import agreed_optics, check_agreement, given_optics

    stars = [path for path in paths if path.suffix == ".star"]
    if stars and len(paths) > 1:
        raise HalfmapError(
            f"{len(paths)} inputs, among them {stars[0]}; a STAR file is read alone.",
            remedy="Give one STAR file, or image files only; halfmap import joins them.",
        )
    if stars:
        images = located(read_image_set(stars[0], kind, defaults=given_optics(optics, kind)), stars[0])
    else:
        images = _bare_files(paths, kind, optics)
    complete = agreed_optics(images.optics, optics, kind, paths[0])
    images = type(images)(images.kind, images.rows, complete, images.foreign_blocks)
    dose = optics.dose_per_frame_e_per_A2
    if dose is not None and kind in ("movies", "micrographs"):
        for found in set(images.rows.get("dose_per_frame_e_per_A2", dose).tolist()):
            check_agreement(paths[0], "dose_per_frame_e_per_A2", found=found, stated=dose, stated_by="--dose-per-frame")
        images = images.with_columns(dose_per_frame_e_per_A2=[dose] * len(images))
    if kind in ("movies", "micrographs") and "half_set" not in images:
        images = images.with_columns(half_set=assign_half_sets(images[NAME_COLUMN[kind]].tolist(), seed))
    return images


def _bare_files(paths: Sequence[Path], kind: Kind, optics: OpticsOptions) -> ImageSet:
    from halfmap.data.columns import NAME_COLUMN, PIXEL_SIZE_COLUMN
    from halfmap.data.records import ImageSet
    from halfmap.data.table import Table

    if kind not in ("movies", "micrographs"):
        raise BadInputError(paths[0], "format", found=paths[0].suffix, expected=f"a STAR file of {kind}",
                            remedy="Give the particles.star of an earlier step or of RELION.")  # fmt: skip
    stated = _stated_pixel_size_A(paths, kind, optics)
    groups: dict[str, Any] = {"optics_group": [1], "optics_group_name": ["opticsGroup1"]}
    if stated is not None:
        groups[PIXEL_SIZE_COLUMN[kind]] = [stated]
    rows: dict[str, Any] = {NAME_COLUMN[kind]: [str(path) for path in paths], "optics_group": [1] * len(paths)}
    return ImageSet(kind, Table(rows), Table(groups))


def _stated_pixel_size_A(paths: Sequence[Path], kind: Kind, optics: OpticsOptions) -> float | None:
    """Pixel size in the header of the first file that opens (of three); 1.0 is what writers put for unknown."""
    for path in paths[:3]:
        try:
            stated = _opened_pixel_size_A(path, kind, optics)
        except HalfmapError:
            continue  # The step itself reports bad files, one by one.
        unknown = not stated or (optics.pixel_size_A is not None and abs(stated - 1.0) < 1e-6)
        return None if unknown else stated
    return None


def _opened_pixel_size_A(path: Path, kind: Kind, optics: OpticsOptions) -> float | None:
    if kind == "movies":
        from halfmap.io.movies import open_movie

        dose, pixel = optics.dose_per_frame_e_per_A2, optics.pixel_size_A
        return open_movie(path, dose_per_frame=dose, pixel_size_A=pixel).pixel_size_A
    from halfmap.io.mrc import open_stack

    return open_stack(path).pixel_size_A
