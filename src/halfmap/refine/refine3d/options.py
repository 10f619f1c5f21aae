"""Options of 3D refinement."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from halfmap.geometry.options import SymmetryOptions
from halfmap.options import option

FIRST_RESOLUTIONS_A = (20.0, 60.0)
"""The finest and the coarsest resolution that a starting map is low-passed to where none is asked for."""


class RefineOptions(SymmetryOptions):
    """3D refinement of two independent halves against a starting map."""

    reference: Path = option(..., help="Starting map, on any grey scale, pixel size and box.")
    diameter_A: float = option(..., help="Diameter of the particle; what lies outside of it counts as solvent.", gt=0)
    initial_resolution_A: float | None = option(
        None, help="The starting map is low-passed to this, so that it cannot impose details; "
        "a quarter of the diameter, between 20 and 60 Å, if not given.", ge=5, le=200,
    )  # fmt: skip
    shift_range_A: float | None = option(
        None, help="Largest shift searched; 8 % of the diameter, and 3 pixels at least, if not given.", gt=0
    )
    mask: Path | None = option(
        None, help="Soft mask on the grid of the particles' box; a sphere of the diameter if not given."
    )
    tighten_mask: bool = option(
        True, help="Replace the sphere by a mask around the map, made anew from it in each iteration once its "
        "resolution is better than 15 Å or an eighth of the diameter. A given mask is kept as it is.",
    )  # fmt: skip
    local_angle_deg: float | None = option(
        None, help="Search only near the poses that the particles come with: standard deviation of the turns that "
        "are expected. Everything is searched if not given.", gt=0, le=60,
    )  # fmt: skip
    local_shift_A: float = option(
        5.0, help="The same of the shifts, in a search near given poses.", gt=0, le=200, advanced=True
    )
    relax_symmetry: str | None = option(
        None, help="Point group of an earlier refinement: each particle is tried at all poses that were equivalent "
        "under it, and near those, while --symmetry holds.",
        pattern=r"^([CcDd][1-9][0-9]*|[Tt]|[Oo]|[Ii][1-4]?)$",
    )  # fmt: skip
    fulcrum_A: tuple[float, float, float] | None = option(
        None, help="Point about which particles turn in a search near given poses (x, y, z from the centre of the "
        "box); the centre of --mask if not given, the centre of the box without one.", advanced=True,
    )  # fmt: skip
    max_iterations: int = option(30, help="Refinement ends after so many iterations in any case.", ge=1, le=200)
    join_below_A: float = option(
        40.0, help="The halves share their references at resolutions worse than this, to keep one frame.",
        advanced=True, ge=0, le=1000,
    )  # fmt: skip
    regularisation: Literal["uniform", "local"] = option(
        "uniform", help="How the references of the next search are filtered: alike everywhere, by the FSC; or by a "
        "low-pass filter of its own at each place, chosen by how well the halves predict each other there.",
    )  # fmt: skip
