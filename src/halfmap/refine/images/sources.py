"""Particles from files for the passes that work on rings, and the diameter that masks them."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from halfmap.data.halves import assign_half_sets
from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.images import ParticleImages
from halfmap.refine.images.close_up import CloseUp
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import Observations
from halfmap.refine.session import Session
from halfmap.typing import Array, PathLike

MOST_FAULTS_FRAC = 0.05
"""Share of particles that may be unreadable before the job fails."""
BOX_FRAC = 0.75
"""Diameter, as a share of the box, of particles whose diameter is stated nowhere."""
PIXELS_PER_RESOLUTION = 2.2
"""Sampling of the working grid: the finest resolution ends a little before its Nyquist frequency."""


@dataclass(frozen=True)
class WorkingSource:
    """Particles that are to be read, and the grids of that.

    Attributes
    ----------
    images, reader
        The particles, and what reads their pixels.
    native
        The grid of their boxes as they are in the files.
    grid
        The grid that they are to be read onto.
    diameter_A
        Of the particle.
    """

    images: ImageSet
    reader: ParticleImages
    native: MapGrid
    grid: MapGrid
    diameter_A: float


def working_source(
    images: ImageSet, star: PathLike, diameter_A: float | None, resolution_A: float, session: Session
) -> WorkingSource:
    """Particles for a grid just fine enough for a resolution.

    Raises
    ------
    BadInputError
        If the diameter is larger than the box.
    """
    reader = ParticleImages(images, star)
    native = map_grid(images, reader)
    if diameter_A is None:
        diameter_A = BOX_FRAC * native.length_A
        if "particle_diameter_A" in images:
            diameter_A = min(float(images["particle_diameter_A"].max()), native.length_A)
        session.log(f"particles are taken to be {diameter_A:.0f} Å in diameter")
    check_diameter(star, diameter_A, native)
    box_px = min(native.box_px, 2 * math.ceil(native.length_A * PIXELS_PER_RESOLUTION / resolution_A / 2) + 2)
    return WorkingSource(images, reader, native, MapGrid(box_px, native.length_A / box_px), diameter_A)


def close_ups(
    source: WorkingSource, slack_A: float, memory_GB: float, folder: Path, device: str, session: Session
) -> CloseUp:
    """Read particles into boxes just large enough for shifts up to ``slack_A``.

    Transforms are kept in memory up to ``memory_GB``, and in temporary files in the folder beyond it.

    Raises
    ------
    HalfmapError
        If more than 5 % of the particles cannot be used.
    """
    observations = Observations(
        source.images, source.reader, source.grid, source.diameter_A, device=device,
        memory_GB=memory_GB, cache_folder=folder,
    )  # fmt: skip
    report_faults(observations, session)
    return CloseUp(observations, slack_A, memory_GB=memory_GB, cache_folder=folder)


def native_box_px(grid: MapGrid, native: MapGrid) -> int:
    """Pixels of a working grid that span the boxes in the files."""
    return round(native.length_A / grid.pixel_size_A)


def report_faults(observations: Observations, session: Session) -> int:
    """Warn of particles that cannot be used; how many there are.

    Raises
    ------
    HalfmapError
        If they are more than 5 %.
    """
    n_bad = int((~observations.usable).sum())
    for fault in observations.faults:
        session.warn(f"particle left out: {fault}")
    if n_bad > MOST_FAULTS_FRAC * len(observations):
        first = observations.faults[0] if observations.faults else "they are constant or not finite"
        raise HalfmapError(f"{n_bad} of {len(observations)} particles cannot be used: {first}")
    return n_bad


def check_diameter(star: PathLike, diameter_A: float, grid: MapGrid) -> None:
    """Refuse a diameter that the box cannot hold.

    Raises
    ------
    BadInputError
        If it is larger than the box.
    """
    if diameter_A > grid.length_A:
        raise BadInputError(
            Path(star), "box", found=f"{grid.length_A:.0f} Å", expected=f"at least the diameter, {diameter_A:g} Å",
            remedy="Extract the particles with a larger box, or give a smaller --diameter.",
        )  # fmt: skip


def half_sets(images: ImageSet, session: Session) -> Array:
    """The halves that the particles have, or new ones by micrograph (by particle if there is only one micrograph).

    Raises
    ------
    HalfmapError
        If the column holds anything but 1 and 2, or only one of them.
    """
    micrographs = set(images["micrograph_name"].tolist()) if "micrograph_name" in images else set()
    if "half_set" in images:
        found = set(np.unique(images["half_set"]).tolist())
        if found == {1, 2}:
            return images["half_set"]
        if len(micrographs) != 1 or not found < {1, 2}:
            raise HalfmapError(
                f"half_set holds {sorted(found)}, expected 1 and 2",
                remedy="Take the column rlnRandomSubset out of the file; halves are then drawn by micrograph.",
            )
        session.warn("all particles are of one micrograph, and so of one half: halves were drawn by particle")
    elif len(micrographs) > 1:
        session.log("half-sets were drawn by micrograph")
        return assign_half_sets(images["micrograph_name"].tolist(), session.seed)
    else:
        session.log("half-sets were drawn by particle: the file does not tell micrographs apart")
    return assign_half_sets([str(uid) for uid in images["uid"].tolist()], session.seed)


def map_grid(images: ImageSet, reader: ParticleImages) -> MapGrid:
    """Box and pixel size of the optics group with most particles; the others are brought onto it."""
    index = np.asarray(images.optics_index())
    group, _ = Counter(index.tolist()).most_common(1)[0]
    first = int(np.flatnonzero(index == group)[0])
    box_y, box_x = reader.shape(first)
    if box_y != box_x:
        raise BadInputError(
            images["image_name"][first], "shape", found=f"{box_x} x {box_y}", expected="a square image",
            remedy="Extract the particles again.",
        )  # fmt: skip
    return MapGrid(box_y, float(images.optics["image_pixel_size_A"][group]))
