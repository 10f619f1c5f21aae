"""How much memory a refinement, a 2D classification or a first map will take: all formulae, before anything is made.

Everything is counted at its largest: the last iteration, which goes to Nyquist. What grows with the number of particles
(their transforms) goes to a file where it does not fit, and batches are worked on fewer at a time where those do not:
both change nothing but the time that it takes. The rest grows with the box alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from halfmap.fourier.grid import SLAB_ELEMENTS
from halfmap.fourier.slices import volume_edge
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.alignment_box import AlignmentBox
from halfmap.refine.images.close_up import close_grid
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import batch_size
from halfmap.refine.images.sources import WorkingSource
from halfmap.refine.rings.expectation import particles_at_once
from halfmap.refine.rings.sampling import CHUNK_ELEMENTS
from halfmap.refine.rings.search import SEARCH_GB
from halfmap.refine.rings.transform import N_TAPS, RingGrid, ring_grid
from halfmap.refine.search.poses import plan_search, rings_of_search, shift_grid
from halfmap.refine.session import Session
from halfmap.refine.volume.reconstruct import PADDING
from halfmap.refine.work import AHEAD

COMPLEX, REAL = 8.0, 4.0
PROGRAM_BYTES = 0.45e9
"""Python, the libraries and the compiled loops; measured."""
PARTICLE_BYTES = 4000.0
"""Row of the table, poses of eight modes while they are put in order, and what is written of them; measured."""
READ_BYTES = 48.0
"""Of each pixel of a batch of images, while these are normalised and transformed; measured."""
WORK_BYTES = 150.0
"""Of each Fourier pixel of a batch while it is scored or inserted: values, weights, phases, models; measured."""
MAP_BYTES = 44.0
"""Of each voxel of a map, all maps and correlations of the end of an iteration together; measured."""


@dataclass(frozen=True)
class Stage:
    """What one part of the work holds, besides what is kept all the time."""

    shared_bytes: float
    thread_bytes: float = 0.0
    """Of each batch that is worked on at the same time."""


@dataclass(frozen=True)
class Need:
    """What a job would like to hold, in bytes.

    Attributes
    ----------
    kept
        All the time.
    stages
        One after the other.
    transforms
        Of the particles, all the time; they may go to a file.
    first_transforms
        The same, while images are read alone.
    """

    kept: Mapping[str, float]
    stages: Mapping[str, Stage]
    transforms: float
    first_transforms: float = 0.0

    def peak_bytes(self, threads: int, *, in_file: bool) -> float:
        """The most that is held at any time."""
        held = 0.0 if in_file else self.transforms + self.first_transforms
        return sum(self.kept.values()) + held + max(self.stage_bytes(name, threads) for name in self.stages)

    def stage_bytes(self, name: str, threads: int) -> float:
        """What a stage holds."""
        stage = self.stages[name]
        return stage.shared_bytes + threads * stage.thread_bytes


@dataclass(frozen=True)
class MemoryPlan:
    """What will be held, and where.

    Attributes
    ----------
    need
        What was counted.
    limit_GB
        Memory that may be used.
    in_file
        Whether the transforms of the particles are kept in a file.
    threads, asked
        Batches worked on at once, and how many there would be if memory were no matter.
    """

    need: Need
    limit_GB: float | int
    in_file: bool
    threads: int
    asked: int

    @property
    def peak_GB(self) -> float:
        """Largest memory that is expected."""
        return self.need.peak_bytes(self.threads, in_file=self.in_file) / 1e9

    @property
    def transforms_GB(self) -> float:
        """Memory that the transforms of the particles may take before they go to a file."""
        return 0.0 if self.in_file else math.inf

    def tell(self, session: Session) -> None:
        """State the plan; warn if it does not fit."""
        need = self.need
        largest = max(need.stages, key=lambda name: need.stage_bytes(name, self.threads))
        parts = {**need.kept, largest: need.stage_bytes(largest, self.threads)}
        size_GB = (need.transforms + need.first_transforms) / 1e9
        where = f"in a file, {size_GB:.3g} GB" if self.in_file else f"in memory, {size_GB:.3g} GB"
        listed = ", ".join(f"{name} {size / 1e9:.2g}" for name, size in parts.items())
        session.log(
            f"memory: at most {self.peak_GB:.2g} GB expected of {self.limit_GB:.3g} GB ({listed}); "
            f"transforms of the particles {where}"
        )
        if self.threads < self.asked:
            session.log(f"memory: {self.threads} of {self.asked} threads are used, so that it suffices")
        if self.peak_GB > self.limit_GB:
            name = max(parts, key=lambda part: parts[part])
            session.warn(
                f"{self.peak_GB:.2g} GB of memory will be needed and {self.limit_GB:.3g} GB may be used: most of it "
                f"({parts[name] / 1e9:.2g} GB) is for {name}. Extract the particles with larger pixels or a smaller "
                "box, or use a machine with more memory; the job goes on and may be ended by the system."
            )


def planned(need: Need, limit_GB: float | int, threads: int) -> MemoryPlan:
    """The fastest way to do it within a limit; the one that takes least if none is."""
    for in_file, count in ((False, threads), *((True, count) for count in range(threads, 0, -1))):
        if need.peak_bytes(count, in_file=in_file) <= limit_GB * 1e9:
            break
    return MemoryPlan(need, limit_GB, in_file, count, threads)


# --- parts, in bytes ----------------------------------------------------------------------------------------------


def pixels_within(radius_px: int) -> float:
    """Fourier pixels of half the plane up to a shell."""
    return math.pi / 2 * (radius_px + 0.5) ** 2


def reading_bytes(box_px: int) -> float:
    """A batch of images while it is read."""
    return READ_BYTES * batch_size(box_px**2) * box_px**2


def transforms_bytes(n_images: int, grid: MapGrid) -> float:
    """Transforms of particles up to Nyquist."""
    return COMPLEX * n_images * pixels_within(grid.nyquist_px)


def padded_voxels(radius_px: int) -> int:
    """Voxels of the half layout that holds slices up to a shell."""
    edge = volume_edge(float(radius_px + 1), PADDING)
    return edge * edge * (edge // 2 + 1)


def sums_bytes(radius_px: int) -> float:
    """Numerator and denominator of one half."""
    return (COMPLEX + REAL) * padded_voxels(radius_px)


def slabs_bytes() -> float:
    """Parts of volumes that are worked on a few planes at a time."""
    return 12 * COMPLEX * SLAB_ELEMENTS


def prepared_bytes(box_px: int, radius_px: int) -> float:
    """A map's transform for slices, and the planes that it is made of."""
    edge = volume_edge(float(radius_px + 1), PADDING)
    return COMPLEX * (padded_voxels(radius_px) + box_px * edge * (edge // 2 + 1))


def batch_bytes(n_pixels: float) -> float:
    """A batch of images at so many Fourier pixels while it is scored or inserted."""
    return WORK_BYTES * batch_size(math.ceil(n_pixels)) * n_pixels


def references_bytes(rings: RingGrid, n_directions: float | int) -> float:
    """References on rings, and half as much again while they are made."""
    return 1.5 * 8 * REAL * rings.n_orders * rings.n_rings * n_directions


def transform_bytes(rings: RingGrid, n_pixels: float) -> float:
    """Matrices between pixels and rings, with what they are made of in double precision."""
    return n_pixels * (2 * REAL * N_TAPS * rings.n_orders + 6 * 8 * N_TAPS * rings.n_rings)


def scores_bytes(rings: RingGrid, n_directions: float | int, n_shifts: int, n_pixels: float, n_images: int) -> float:
    """Scores of all poses of some images, and the products that they come from."""
    scores = 4 * n_directions * rings.n_angles
    coefficients = 4 * (n_pixels + rings.n_orders * rings.n_rings)
    return REAL * n_images * n_shifts * (scores + coefficients)


def ring_sums_bytes(rings: RingGrid, n_directions: float | int) -> float:
    """Sums of images on the rings of all directions."""
    return COMPLEX * rings.n_rings * n_directions * (rings.n_orders + N_TAPS)


# --- jobs ---------------------------------------------------------------------------------------------------------


def refinement_need(n_images: int, grid: MapGrid, diameter_A: float, symmetry: str, shift_range_A: float) -> Need:
    """Of a 3D refinement: particles, sampling of the map, the particle, and the largest shift that is searched."""
    nyquist, group = grid.nyquist_px, point_group(symmetry)
    box = AlignmentBox(grid, nyquist, diameter_A, shift_range_A)
    plan = plan_search(grid, nyquist, diameter_A, symmetry, shift_range_A, 1.0, 0)
    rings, n_directions = rings_of_search(box, plan, diameter_A), 12 * 4**plan.order / len(group)
    n_shifts = len(shift_grid(plan.shift_range_A, plan.shift_step_A))
    sums, n_pixels, n_inner = sums_bytes(nyquist), pixels_within(nyquist), pixels_within(rings.n_rings - 1)
    source = prepared_bytes(box.box_px, box.lattice.radius_px)
    engine = references_bytes(rings, n_directions) + transform_bytes(rings, n_inner)
    at_once = batch_size(math.ceil(n_pixels))
    scores = min(SEARCH_GB * 1e9, scores_bytes(rings, n_directions, n_shifts, n_inner, at_once))
    inserting = prepared_bytes(grid.box_px, nyquist) + batch_bytes(n_pixels)
    references = 4 * REAL * grid.box_px**3  # Both halves', the mask, and the mask on another sampling.
    making = COMPLEX * grid.box_px * volume_edge(float(nyquist + 1), PADDING) ** 2 / 2
    return Need(
        _kept(n_images),
        {
            "reading the images": Stage(reading_bytes(grid.box_px)),
            "the search": Stage(sums + source + engine, batch_bytes(n_pixels) + scores),
            "the sums of both halves": Stage(2 * sums + inserting + slabs_bytes() + references),
            "the maps": Stage(2 * sums + making + MAP_BYTES * grid.box_px**3 + slabs_bytes()),
        },
        transforms_bytes(n_images, grid),
    )


def rings_need(
    source: WorkingSource, resolution_A: float, slack_A: float, n_directions: float | int, n_shifts: int,
    *, angles: int, searches: int = 0, n_rows: int = 0,
) -> Need:  # fmt: skip
    """Of the passes on rings: 2D classification, and a first map.

    Parameters
    ----------
    source, slack_A
        The particles, and the largest shift that will be tried.
    resolution_A
        The finest one.
    n_directions, n_shifts
        Classes or views, and shifts tried.
    angles
        How many times more angles than the band limit asks for.
    searches
        Searches for a map that go on side by side; none in two dimensions.
    n_rows
        Rows of the table, if there are more than particles in use.
    """
    n_images, whole, native_px = len(source.images), source.grid, source.native.box_px
    close = close_grid(whole, source.diameter_A, slack_A)
    radius_px = min(math.floor(close.length_A / resolution_A), close.nyquist_px)
    base = ring_grid(radius_px + 0.499, 0.5)
    rings = RingGrid(base.n_rings, angles * base.n_angles, base.object_radius_frac)
    n_pixels, sums = pixels_within(radius_px), ring_sums_bytes(rings, n_directions)
    at_once = particles_at_once(rings.n_angles, math.ceil(n_directions), n_shifts)
    shared = references_bytes(rings, n_directions) + transform_bytes(rings, n_pixels) + 16 * sums
    batch = scores_bytes(rings, n_directions, n_shifts, n_pixels, at_once) + (1 + AHEAD) * sums
    turning = 2 * COMPLEX * CHUNK_ELEMENTS  # Averages turned into images; what the batches held is not given back.
    volumes = searches * (2 * sums_bytes(rings.n_rings) + MAP_BYTES * close.box_px**3 + slabs_bytes())
    cutting = READ_BYTES * batch_size(whole.box_px**2) * whole.box_px**2
    written = MAP_BYTES * native_px**3 if searches else 6 * REAL * n_directions * native_px**2
    return Need(
        _kept(max(n_images, n_rows)),
        {
            "reading the images": Stage(reading_bytes(native_px) + cutting),
            "the search": Stage(max(1, searches) * shared + volumes + turning, batch),
            "what is written": Stage(written),
        },
        (COMPLEX + REAL) * n_images * pixels_within(close.nyquist_px),
        transforms_bytes(n_images, whole),
    )


def _kept(n_images: int) -> dict[str, float]:
    return {"the program": PROGRAM_BYTES, "particles": PARTICLE_BYTES * n_images}
