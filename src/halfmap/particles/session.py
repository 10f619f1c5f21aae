"""The particles of a whole session: what is cut from which micrograph, and the table of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.halves import assign_half_sets
from halfmap.data.names import rows_by_name
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import HalfmapError
from halfmap.optics.defocus_surface import SURFACE_COLUMNS, surface_offsets_A
from halfmap.particles.box import BoxPlan, plan_box
from halfmap.particles.extract import MicrographTask
from halfmap.particles.options import ExtractOptions
from halfmap.typing import Array

CTF_COLUMNS = (
    "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "phase_shift_rad", "ctf_bfactor_A2", "ctf_scale",
    "ctf_fit_resolution_A", "ctf_figure_of_merit",
)  # fmt: skip
_DEFOCUS = ("defocus_u_A", "defocus_v_A", "defocus_angle_rad", "phase_shift_rad")


def joined_with_micrographs(coordinates: ImageSet, micrographs: ImageSet) -> ImageSet:
    """Give each particle the optics group, half-set, file and CTF of its micrograph.

    Micrographs are found by their name, or by the name without folders where that is unique.
    A half-set or CTF that the particles have already is kept; with a defocus of their own they get
    no surface of defocus.

    Raises
    ------
    HalfmapError
        Particles whose micrograph is not in the set.
    """
    row_of = rows_by_name(micrographs["micrograph_name"].tolist())
    names = coordinates["micrograph_name"].tolist()
    rows = np.array([row_of.get(name, row_of.get(Path(name).name, -1)) for name in names], dtype=np.int64)
    if (rows < 0).any():
        missing = sorted({name for name, row in zip(names, rows.tolist(), strict=True) if row < 0})
        raise HalfmapError(
            f"{len(missing)} of the particles' micrographs are not among the micrographs, such as {missing[0]}.",
            remedy="Give the STAR file of the micrographs that were picked in.",
        )
    found = {"micrograph_name": micrographs["micrograph_name"][rows], "optics_group": micrographs["optics_group"][rows]}
    surface = () if "defocus_u_A" in coordinates.rows else SURFACE_COLUMNS
    for column in ("half_set", *CTF_COLUMNS, *surface):
        if column in micrographs.rows and column not in coordinates.rows:
            found[column] = micrographs.rows[column][rows]
    return ImageSet("coordinates", coordinates.rows.with_columns(**found), micrographs.optics)


def prepared(coordinates: ImageSet, options: ExtractOptions, seed: int) -> ImageSet:
    """Coordinates with half-sets, about the particles' true centres, with the defocus of the place."""
    return with_defocus_of_place(centred(with_half_sets(coordinates, seed)), follow=options.local_defocus)


def centred(coordinates: ImageSet) -> ImageSet:
    """Move the places by the particles' shifts, so that images are cut about the true centres.

    The shift that is left is the fraction of a pixel between a place and the pixel nearest to it.
    """
    pixel_A = coordinates.pixel_size_A()
    moved = {}
    for axis in ("x", "y"):
        place = coordinates.rows[f"coordinate_{axis}_px"] - coordinates.rows.get(f"shift_{axis}_A", 0.0) / pixel_A
        moved[f"coordinate_{axis}_px"] = place
        moved[f"shift_{axis}_A"] = np.round((np.rint(place) - place) * pixel_A, 6)
    return coordinates.with_columns(**moved)


def with_defocus_of_place(coordinates: ImageSet, *, follow: bool) -> ImageSet:
    """Give each particle the defocus of its micrograph's surface at its place, and take the surface away.

    Without ``follow`` the surface is taken away only, and the particles keep the defocus at the centre.

    Raises
    ------
    HalfmapError
        If only a part of the surface's columns is there.
    """
    if not any(name in coordinates for name in SURFACE_COLUMNS):
        return coordinates
    coordinates.require((*SURFACE_COLUMNS, "defocus_u_A", "defocus_v_A"), needed_for="a surface of defocus")
    rows = coordinates.rows
    if follow:
        surface = {name: rows[name] for name in SURFACE_COLUMNS}
        place = rows["coordinate_x_px"], rows["coordinate_y_px"]
        offset_A = surface_offsets_A(surface, *place, coordinates.pixel_size_A())
        rows = rows.with_columns(defocus_u_A=rows["defocus_u_A"] + offset_A, defocus_v_A=rows["defocus_v_A"] + offset_A)
    return coordinates.with_rows(rows.without(SURFACE_COLUMNS))


def with_half_sets(coordinates: ImageSet, seed: int) -> ImageSet:
    """Draw half-sets by micrograph where there are none."""
    if "half_set" in coordinates:
        return coordinates
    names = coordinates["micrograph_name"].tolist()
    return coordinates.with_columns(half_set=assign_half_sets(names, seed))


def diameter_of(coordinates: ImageSet, options: ExtractOptions) -> float | None:
    """The diameter given, or the largest that the particles bring along; None if nothing tells."""
    if options.diameter_A is not None:
        return options.diameter_A
    if "particle_diameter_A" not in coordinates.rows or len(coordinates) == 0:
        return None
    return float(coordinates.rows["particle_diameter_A"].max())


def box_plans(coordinates: ImageSet, diameter_A: float, options: ExtractOptions) -> dict[int, BoxPlan]:
    """The box of each optics group in use, for the median defocus of its particles."""
    groups = coordinates["optics_group"]
    defocus_A = np.zeros(len(coordinates))
    if "defocus_u_A" in coordinates and "defocus_v_A" in coordinates:
        defocus_A = (coordinates["defocus_u_A"] + coordinates["defocus_v_A"]) / 2.0
    plans = {}
    for group in np.unique(groups).tolist():
        mine = np.flatnonzero(groups == group)
        plans[group] = plan_box(
            diameter_A=diameter_A,
            defocus_A=float(np.median(defocus_A[mine])),
            pixel_size_A=float(coordinates.pixel_size_A()[mine[0]]),
            voltage_kV=float(coordinates["voltage_kV"][mine[0]]),
            resolution_A=options.resolution_A,
            cut_px=options.box_px,
            binned_pixel_size_A=options.binned_pixel_size_A,
            binned_box_px=options.binned_box_px,
        )
    return plans


def extraction_tasks(
    coordinates: ImageSet, plans: Mapping[int, BoxPlan], diameter_A: float, stems: Mapping[str, str]
) -> list[MicrographTask]:
    """One task a micrograph (and optics group), in the order in which they first occur."""
    names = coordinates["micrograph_name"].tolist()
    groups = coordinates["optics_group"].tolist()
    rows_of: dict[tuple[str, int], list[int]] = {}
    for row, key in enumerate(zip(names, groups, strict=True)):
        rows_of.setdefault(key, []).append(row)
    fitted = all(column in coordinates for column in _DEFOCUS[:3])
    tasks = []
    for (name, group), rows in rows_of.items():
        mine = coordinates.select(np.array(rows))
        stem = stems[name] if sum(key[0] == name for key in rows_of) == 1 else f"{stems[name]}_group{group}"
        tasks.append(
            MicrographTask(
                micrograph=name, stem=stem, rows=np.array(rows), plan=plans[group], diameter_A=diameter_A,
                x_px=mine["coordinate_x_px"], y_px=mine["coordinate_y_px"],
                optics={c: float(mine[c][0]) for c in ("voltage_kV", "cs_mm", "amplitude_contrast")},
                defocus={c: mine.rows[c] for c in _DEFOCUS if c in mine.rows} if fitted else {},
            )
        )  # fmt: skip
    return tasks


@dataclass(frozen=True, eq=False)
class Extracted:
    """The table of the images, and what became of all the others."""

    particles: ImageSet
    counts: dict[str, int]
    plans: Mapping[int, BoxPlan]

    @property
    def boxes(self) -> str:
        """The boxes in words."""
        return ", ".join(sorted({plan.description for plan in self.plans.values()}))

    def record(self) -> dict[str, Any]:
        """Counts and sizes, JSON-able."""
        return {
            "items_out": len(self.particles),
            **self.counts,
            "diameter_A": float(self.particles["particle_diameter_A"][0]),
            "box_px": max(plan.box_px for plan in self.plans.values()),
            "pixel_size_A": round(min(plan.pixel_size_A for plan in self.plans.values()), 5),
        }


def collect(
    coordinates: ImageSet, results: Sequence[Mapping[str, Any] | None], plans: Mapping[int, BoxPlan], diameter_A: float
) -> Extracted | None:
    """Make the table of the images that were written; rows keep the order of the coordinates.

    Coordinates become whole, those of the pixel at the origin of each image; the fraction is in its shift.
    A place is then its coordinate less its shift, for us, for RELION, and when particles are cut again.

    ``results`` are those of :func:`halfmap.particles.extract.extract_micrograph`, None for micrographs
    that failed. None is returned if no particle is left.
    """
    names = np.full(len(coordinates), "", dtype=object)
    for result in results:
        if result is not None and result["stack"]:
            names[result["rows"]] = [f"{i:06d}@{result['stack']}" for i in range(1, len(result["rows"]) + 1)]
    kept = np.flatnonzero(names != "")
    done = [result for result in results if result is not None]
    counts = {name: sum(int(result[name]) for result in done) for name in ("at_edge", "constant", "mirrored")}
    counts["micrograph_failed"] = len(coordinates) - len(kept) - counts["at_edge"] - counts["constant"]
    if len(kept) == 0:
        return None
    rows = coordinates.select(kept).rows
    rows = rows.with_columns(
        image_name=names[kept],
        particle_diameter_A=np.full(len(kept), diameter_A),
        coordinate_x_px=np.rint(rows["coordinate_x_px"]),
        coordinate_y_px=np.rint(rows["coordinate_y_px"]),
    )
    return Extracted(ImageSet("particles", rows, _optics(coordinates.optics, plans)), counts, plans)


def _optics(optics: Table, plans: Mapping[int, BoxPlan]) -> Table:
    """The optics groups in use, with pixel size and box of the images."""
    used: Array = np.flatnonzero(np.isin(optics["optics_group"], list(plans)))
    table = optics.select(used)
    mine = [plans[group] for group in table["optics_group"].tolist()]
    return table.with_columns(
        image_pixel_size_A=[plan.pixel_size_A for plan in mine],
        box_px=[plan.box_px for plan in mine],
        image_dimensions=[2] * len(mine),
    )
