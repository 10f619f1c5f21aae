"""Poses of particles against a map: global search by rings, then climbing; or climbing from where they were."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.shift import shifted_volume
from halfmap.geometry.rotations import in_plane
from halfmap.geometry.so3 import RotationGrid, grid
from halfmap.geometry.sphere import healpix_spacing_rad
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.alignment_box import AlignmentBox, Statistics
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.noise import NoiseModel
from halfmap.refine.images.observations import ObservationBatch, Observations
from halfmap.refine.rings.sampling import ring_points
from halfmap.refine.rings.search import search
from halfmap.refine.rings.transform import (
    RingGrid,
    RingReferences,
    RingTransform,
    ring_grid,
    ring_references,
    shift_phases,
)
from halfmap.refine.search.climb import Candidates, Landscape, climb, distinct
from halfmap.refine.search.local import SliceSource, interpolate, pose_scores
from halfmap.refine.search.prior import GivenPoses, PosePrior
from halfmap.typing import Array

MOST_DIRECTIONS = 1200
"""Directions of a global search at most; a finer grid is left to the climb."""
RADIANS_PER_RESOLUTION = 0.6
"""A grid of spacing s serves for features of ``s * diameter * this``: a climb starts within their reach."""
FINEST_GLOBAL_A = 6.0
"""Shells beyond this hardly help to find where to climb; a symmetric particle could pay for finer ones."""
GRID_MODES = 48
MODES_CLIMBED = 10
MODES_KEPT = 8
LEVEL_FACTOR = 1.5
"""Ratio of resolutions between stages of the climb."""
HARDLY_FEWER = 0.9
"""Poses that are at the optimum for this share of the shells or more need no stage with fewer of them."""
NARROW = 0.9
"""Posterior weight of the best pose from which on a particle is searched around its pose alone."""


@dataclass(frozen=True)
class SearchPlan:
    """Sampling of one iteration.

    Attributes
    ----------
    radius_px
        Shells of the map that take part.
    order
        HEALPix order of the global search.
    global_radius_px
        Shells that take part in the global search, on the map's lattice.
    shift_range_A, shift_step_A
        Shifts tried by the global search, around where the particle was.
    shift_sigma_A
        Prior of the shift.
    seed
        Of the turn of the global grid.
    climbed_px
        Shells with which poses were last brought to their optimum; 0 if they were not.
    """

    radius_px: int
    order: int
    global_radius_px: int
    shift_range_A: float
    shift_step_A: float
    shift_sigma_A: float
    seed: int
    climbed_px: int = 0

    @property
    def spacing_rad(self) -> float:
        """Distance of the global grid's directions."""
        return healpix_spacing_rad(self.order)


def plan_search(
    map_grid: MapGrid,
    radius_px: int,
    diameter_A: float,
    symmetry: str,
    shift_range_A: float,
    shift_sigma_A: float,
    seed: int,
    climbed_px: int = 0,
) -> SearchPlan:
    """Sampling that follows the resolution: no finer than the map can tell apart, and no finer than can be paid for."""
    n_operators = len(point_group(symmetry))
    resolution_A = map_grid.length_A / radius_px
    order = 1
    while 12 * 4**order < 8 * n_operators:
        order += 1
    wanted_A = max(resolution_A, FINEST_GLOBAL_A)
    while (
        healpix_spacing_rad(order) * diameter_A * RADIANS_PER_RESOLUTION > wanted_A
        and 12 * 4 ** (order + 1) <= MOST_DIRECTIONS * n_operators
    ):
        order += 1
    finest_A = max(wanted_A, healpix_spacing_rad(order) * diameter_A * RADIANS_PER_RESOLUTION)
    global_radius = max(4, min(radius_px, math.floor(map_grid.length_A / finest_A)))
    step_A = map_grid.length_A / global_radius / 3
    return SearchPlan(radius_px, order, global_radius, shift_range_A, step_A, shift_sigma_A, seed, climbed_px)


def rings_of_search(box: AlignmentBox, plan: SearchPlan, diameter_A: float) -> RingGrid:
    """Rings of the global search in the box around the particle."""
    share = min(0.5, 0.5 * (diameter_A + 20.0) / box.length_A)
    return ring_grid(box.shell_in_box(plan.global_radius_px) + 0.5, share)


@dataclass(frozen=True, eq=False)
class Poses:
    """Posterior of the poses of some particles.

    Attributes
    ----------
    rot_img_from_map, shift_A
        Modes, best first, ``[n, k, 3, 3]`` and ``[n, k, 2]``.
    weight
        Posterior weight of each mode, ``[n, k]``; rows sum to 1.
    log_likelihood
        Of the best mode, relative to an empty image, ``[n]``.
    sigma_rad, sigma_A
        Standard deviation of angles and shifts of the best mode (Laplace), ``[n]``.
    """

    rot_img_from_map: Float[Tensor, "n k 3 3"]
    shift_A: Float[Tensor, "n k 2"]
    weight: Float[Tensor, "n k"]
    log_likelihood: Float[Tensor, " n"]
    sigma_rad: Float[Tensor, " n"]
    sigma_A: Float[Tensor, " n"]


class PoseSearch:
    """Everything that one iteration's search against one map shares between particles.

    Parameters
    ----------
    reference
        The map, filtered, zero outside the particle.
    observations, noise
        The data.
    plan
        Sampling.
    diameter_A, symmetry
        Of the particle, or of the part of it that is in focus.
    fulcrum_A
        Centre of what is in focus, (x, y, z) from the centre of the box: poses are sought as those of a particle
        that is centred there, so that turns and shifts stay apart.
    """

    def __init__(
        self,
        reference: Float[Tensor, "z y x"],
        observations: Observations,
        noise: NoiseModel,
        plan: SearchPlan,
        diameter_A: float,
        symmetry: str,
        fulcrum_A: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> None:
        self.observations, self.noise, self.plan, self.diameter_A = observations, noise, plan, diameter_A
        device = observations.device
        reference = reference.to(device)
        self.fulcrum_A = torch.tensor(fulcrum_A, dtype=torch.float64, device=device)
        if any(fulcrum_A):
            reference = shifted_volume(reference, -self.fulcrum_A / observations.grid.length_A * reference.shape[0])
        self.fine = observations.lattice.within(plan.radius_px)
        self.box = AlignmentBox(observations.grid, plan.radius_px, diameter_A, plan.shift_range_A, device)
        self.source = SliceSource.of(self.box.map_in_box(reference), self.box.lattice.radius_px)
        self.operators = point_group(symmetry).to(device)
        self.rotations: RotationGrid = grid(plan.order, symmetry, seed=plan.seed)
        self.shifts_box = shift_grid(plan.shift_range_A, plan.shift_step_A).to(device) / self.box.length_A
        self.global_shell = self.box.shell_in_box(plan.global_radius_px)
        self._rings: tuple[RingTransform, RingReferences, Complex[Tensor, "s p"]] | None = None

    def _ring_engine(self) -> tuple[RingTransform, RingReferences, Complex[Tensor, "s p"]]:
        """References on rings, made when the first particle needs a global search."""
        if self._rings is None:
            inner = self.box.lattice.within(self.global_shell)
            rings = rings_of_search(self.box, self.plan, self.diameter_A)
            device = self.fine.kx_px.device
            transform = RingTransform(
                rings, inner.kx_px.double().cpu().numpy(), inner.ky_px.double().cpu().numpy(), device
            )
            polar = rings_of_slices(rings, self.source, self.rotations.directions().to(device))
            phases = shift_phases(inner.kx_px, inner.ky_px, self.shifts_box, 1.0)
            self._rings = (transform, ring_references(rings, polar), phases)
        return self._rings

    def prepare(self) -> None:
        """Make what is shared before the work is split between threads."""
        self._ring_engine()

    def _at_fulcrum(self, rot_img_from_map: Float[Tensor, "*n 3 3"]) -> Float[Tensor, "*n 2"]:
        """Where the fulcrum lies in images of these poses, from the particle's centre."""
        return rot_img_from_map[..., :2, :] @ self.fulcrum_A

    def landscape(
        self, batch: ObservationBatch, centre_A: Float[Tensor, "n 2"], given: GivenPoses | None = None
    ) -> Landscape:
        """The posterior of a batch's poses, its images shifted by ``centre_A``."""
        weighted, weights = self.noise.weighted(batch, self.fine)
        phases = shift_phases(self.fine.kx_px, self.fine.ky_px, centre_A, self.fine.length_A)
        statistics: Statistics = self.box.statistics(self.fine, weighted * phases, weights)
        if given is None:
            prior = PosePrior(centre_A / self.box.length_A, self.plan.shift_sigma_A / self.box.length_A)
        else:
            mean_A = given.shift_A.to(centre_A) - self._at_fulcrum(given.rot_img_from_map.to(centre_A))
            prior = PosePrior((centre_A - mean_A) / self.box.length_A, given.sigma_A / self.box.length_A, given)
        return Landscape(self.source, self.box.lattice, statistics, prior)

    def everywhere(self, rows: Array, centre_A: Float[Tensor, "n 2"]) -> Poses:
        """Search all poses, shifts around ``centre_A``, and climb from the best ones."""
        batch = self.observations.batch(rows, self.plan.radius_px)
        landscape = self.landscape(batch, centre_A)
        transform, references, phases = self._ring_engine()
        n_inner = self.box.lattice.count_within(self.global_shell)
        modes = search(
            transform, references, landscape.statistics.weighted[:, :n_inner],
            landscape.statistics.weights[:, :n_inner], phases, n_modes=GRID_MODES,
        )  # fmt: skip
        directions = self.rotations.directions().to(modes.psi_rad.device)
        rot = in_plane(modes.psi_rad) @ directions[modes.direction]
        image = torch.arange(len(batch), device=rot.device)[:, None].expand(modes.direction.shape)
        start = Candidates(
            image.flatten(), rot.flatten(0, 1), self.shifts_box[modes.shift].flatten(0, 1),
            modes.log_weight.flatten().double(), rot.new_zeros(image.numel(), 5, 5),
        )  # fmt: skip
        identity = self.operators[:1]
        near = 1.2 * self.plan.spacing_rad
        start = distinct(start, len(batch), MODES_CLIMBED, closer_than_rad=near, within=30.0, operators=identity)
        return self._refined(landscape, start, len(batch), centre_A, self.global_shell)

    def around(self, rows: Array, rot_img_from_map: Float[Tensor, "n 3 3"], centre_A: Float[Tensor, "n 2"]) -> Poses:
        """Climb from given poses."""
        batch = self.observations.batch(rows, self.plan.radius_px)
        landscape = self.landscape(batch, centre_A)
        image = torch.arange(len(batch), device=rot_img_from_map.device)
        radius = self.box.lattice.radius_px
        known = self.plan.climbed_px >= HARDLY_FEWER * self.plan.radius_px
        first = radius if known else max(self.global_shell, round(radius / LEVEL_FACTOR))
        start = Candidates(
            image, rot_img_from_map, torch.zeros_like(centre_A),
            centre_A.new_zeros(len(image)), centre_A.new_zeros(len(image), 5, 5),
        )  # fmt: skip
        return self._refined(landscape, start, len(batch), centre_A, first)

    def near(
        self,
        rows: Array,
        rot_img_from_map: Float[Tensor, "n 3 3"],
        shift_A: Float[Tensor, "n 2"],
        given: GivenPoses,
        turns: Float[Tensor, "starts 3 3"],
    ) -> Poses:
        """Climb from poses turned in several ways, held back by what is known of them.

        Parameters
        ----------
        rows, rot_img_from_map, shift_A
            Particles, and where they are thought to be now.
        given
            What is known of their poses.
        turns
            Rotations of the map to start from, the identity first.
        """
        batch = self.observations.batch(rows, self.plan.radius_px)
        centre_A = shift_A - self._at_fulcrum(rot_img_from_map)
        landscape = self.landscape(batch, centre_A, given)
        n, k = len(rows), len(turns)
        image = torch.arange(n, device=centre_A.device).repeat_interleave(k)
        rot = (rot_img_from_map[:, None] @ turns.to(rot_img_from_map)).flatten(0, 1)
        radius = self.box.lattice.radius_px
        coarse = round(radius / LEVEL_FACTOR)
        if k > 1 and math.isfinite(given.sigma_rad):
            within_reach = self.box.length_A / (given.sigma_rad * self.diameter_A * RADIANS_PER_RESOLUTION)
            coarse = min(coarse, math.floor(within_reach))
        coarse = min(max(coarse, 4), radius)
        start = landscape.scored(image, rot, rot.new_zeros(n * k, 2), coarse)
        identity = self.operators[:1]
        start = distinct(start, n, MODES_CLIMBED, closer_than_rad=1e-3, within=30.0, operators=identity)
        return self._refined(landscape, start, n, centre_A, coarse)

    def fit(
        self, rows: Array, rot_img_from_map: Float[Tensor, "n 3 3"], shift_A: Float[Tensor, "n 2"]
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """``sum image model / sigma2`` and ``sum model^2 / sigma2`` of images at given poses."""
        device = self.observations.device
        centre_A = shift_A.to(device) - self._at_fulcrum(rot_img_from_map.to(device))
        landscape = self.landscape(self.observations.batch(rows, self.plan.radius_px), centre_A)
        image = torch.arange(len(rows), device=device)
        n_pixels = torch.full_like(image, len(self.box.lattice))
        statistics = landscape.statistics
        values = []
        for weights in (statistics.weights, torch.zeros_like(statistics.weights)):
            scores = pose_scores(
                self.source, self.box.lattice.kx_px, self.box.lattice.ky_px, statistics.weighted, weights,
                image, rot_img_from_map.to(device), torch.zeros_like(shift_A).to(device), n_pixels,
            )  # fmt: skip
            values.append(scores.log_likelihood.cpu())
        return values[1], 2 * (values[1] - values[0])

    def _refined(
        self, landscape: Landscape, start: Candidates, n: int, centre_A: Float[Tensor, "n 2"], first_shell: int
    ) -> Poses:
        """Climb in stages of growing resolution, dropping modes that fall behind."""
        found = start
        for shell in stages(first_shell, self.box.lattice.radius_px):
            resolution_A = self.box.length_A / shell
            found = climb(
                landscape, found, shell, n_steps=5,
                max_turn_rad=resolution_A / self.diameter_A, max_shift_box=0.5 / shell,
            )  # fmt: skip
            same = 0.25 * resolution_A / self.diameter_A
            found = distinct(found, n, MODES_KEPT, closer_than_rad=same, within=20.0, operators=self.operators)
        return self._posterior(found, n, centre_A)

    def _posterior(self, found: Candidates, n: int, centre_A: Float[Tensor, "n 2"]) -> Poses:
        """Modes as a table, weighted by their evidence."""
        evidence = found.log_evidence()
        order = torch.argsort(evidence, descending=True, stable=True)
        order = order[torch.argsort(found.image[order], stable=True)]
        found, evidence = found.select(order), evidence[order]
        counts = torch.bincount(found.image, minlength=n)
        rank = torch.arange(len(found), device=order.device) - (torch.cumsum(counts, 0) - counts)[found.image]
        log_weight = evidence.new_full((n, MODES_KEPT), -torch.inf)
        log_weight[found.image, rank] = evidence
        best = torch.cumsum(counts, 0) - counts
        rot = found.rot_img_from_map[best][:, None].repeat(1, MODES_KEPT, 1, 1)
        shift = found.shift_box[best][:, None].repeat(1, MODES_KEPT, 1)
        rot[found.image, rank], shift[found.image, rank] = found.rot_img_from_map, found.shift_box
        covariance = torch.linalg.inv(found.information[best] + 1e-6 * torch.eye(5, dtype=torch.float64).to(rot))
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        return Poses(
            rot,
            shift * self.box.length_A + centre_A[:, None] + self._at_fulcrum(rot),
            torch.softmax(log_weight, dim=1),
            found.log_posterior[best],
            variance[:, :3].mean(dim=1).sqrt(),
            variance[:, 3:].mean(dim=1).sqrt() * self.box.length_A,
        )


def stages(first_shell: int, last_shell: int) -> list[int]:
    """Shells of a climb in stages: from the first to the last by factors, both included.

    >>> stages(10, 30)
    [10, 14, 20, 30]
    """
    n = max(1, math.ceil(math.log(max(last_shell / first_shell, 1.0)) / math.log(LEVEL_FACTOR) - 1e-9))
    shells = [math.floor(first_shell * (last_shell / first_shell) ** (i / n)) for i in range(n)]
    return [*shells, last_shell] if last_shell > first_shell else [last_shell]


def shift_grid(range_A: float, step_A: float) -> Float[Tensor, "s 2"]:
    """Shifts (x, y) on a square grid within a radius, none left out at the centre."""
    reach = math.floor(range_A / step_A + 1e-9)
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64) * step_A
    x, y = torch.meshgrid(axis, axis, indexing="xy")
    points = torch.stack([x.flatten(), y.flatten()], dim=-1)
    return points[points.norm(dim=-1) <= range_A + 1e-9]


def rings_of_slices(
    rings: RingGrid, source: SliceSource, directions: Float[Tensor, "d 3 3"]
) -> Complex[Tensor, "d r t"]:
    """Slices of a map on half rings, psi = 0."""
    points = ring_points(rings, directions.device)
    reach = (source.volume.shape[0] // 2 - 2) / source.scale
    inside = points.norm(dim=-1) <= reach
    flat = points[inside] * source.scale
    parts = []
    for chunk in torch.split(directions, 64):
        where = torch.einsum("dij,pi->dpj", chunk[:, :2], flat).float()
        values = source.volume.new_zeros(len(chunk), *inside.shape)
        values[:, inside] = interpolate(source.volume, where)[0]
        parts.append(values)
    return torch.cat(parts)
