"""Particles from files for the passes that work on rings, and the diameter that masks them."""

from __future__ import annotations

import math
from pathlib import Path

from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.images import ParticleImages
from halfmap.refine.closeup import CloseUp
from halfmap.refine.lattice import MapGrid
from halfmap.refine.observations import Observations
from halfmap.refine.refine3d_files import CACHE_SHARE, MOST_FAULTS_FRAC, map_grid
from halfmap.refine.session import Session
from halfmap.typing import PathLike

BOX_FRAC = 0.75
"""Diameter, as a share of the box, of particles whose diameter is stated nowhere."""
PIXELS_PER_RESOLUTION = 2.2
"""Sampling of the working grid: the finest resolution ends a little before its Nyquist frequency."""


def working_observations(
    images: ImageSet,
    star: PathLike,
    diameter_A: float | None,
    resolution_A: float,
    slack_A: float,
    folder: Path,
    device: str,
    session: Session,
) -> tuple[CloseUp, MapGrid]:
    """Read particles onto a grid just fine enough for a resolution and just large enough for shifts up to ``slack_A``.

    Returns
    -------
    The particles, and the grid of their boxes as they are in the files.

    Raises
    ------
    BadInputError
        If the diameter is larger than the box.
    HalfmapError
        If more than 5 % of the particles cannot be used.
    """
    reader = ParticleImages(images, star)
    native = map_grid(images, reader)
    if diameter_A is None:
        diameter_A = BOX_FRAC * native.length_A
        if "particle_diameter_A" in images:
            diameter_A = min(float(images["particle_diameter_A"].max()), native.length_A)
        session.log(f"particles are taken to be {diameter_A:.0f} Å in diameter")
    if diameter_A > native.length_A:
        raise BadInputError(
            Path(star), "box", found=f"{native.length_A:.0f} Å", expected=f"at least the diameter, {diameter_A:g} Å",
            remedy="Extract the particles with a larger box, or give a smaller --diameter.",
        )  # fmt: skip
    box_px = min(native.box_px, 2 * math.ceil(native.length_A * PIXELS_PER_RESOLUTION / resolution_A / 2) + 2)
    grid = MapGrid(box_px, native.length_A / box_px)
    memory_GB = CACHE_SHARE * session.memory_GB / 2
    observations = Observations(
        images, reader, grid, diameter_A, device=device, memory_GB=memory_GB, cache_folder=folder
    )
    n_bad = int((~observations.usable).sum())
    for fault in observations.faults:
        session.warn(f"particle left out: {fault}")
    if n_bad > MOST_FAULTS_FRAC * len(images):
        first = observations.faults[0] if observations.faults else "they are constant or not finite"
        raise HalfmapError(f"{n_bad} of {len(images)} particles cannot be used: {first}")
    close_up = CloseUp(observations, slack_A, memory_GB=memory_GB, cache_folder=folder)
    return close_up, native


def native_box_px(grid: MapGrid, native: MapGrid) -> int:
    """Pixels of a working grid that span the boxes in the files."""
    return round(native.length_A / grid.pixel_size_A)
