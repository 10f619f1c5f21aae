"""A first map from particles alone: stochastic expectation-maximisation over all poses.

The search by rings gives every particle its posterior over all views, shifts and in-plane angles;
the sums over the particles of each view, corrected for the CTF, are inserted into the map as one
slice. Several random starts at low resolution, on small random batches, compete by their
likelihood; the best goes on to finer resolution with all particles. Where a point group is imposed,
views are searched in its asymmetric unit and slices inserted at all equivalent poses. A group that
is imposed from the start can hold a map at the average of both hands; every other start therefore
begins without symmetry, and is brought onto the axes of the group later on (``symmetry_axes``). The
hand of a map cannot be told from projections and stays undetermined.

With several classes a hypothesis has as many maps, and the posterior of a particle runs over the poses
in all of them together (Scheres et al. 2007, Nat. Methods 4, 27); see ``classes`` for their weights.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import fsc
from halfmap.fourier.grid import real_space_radius_px
from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.slices import prepare_volume
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.rotations import in_plane, random_rotations
from halfmap.geometry.so3 import RotationGrid, grid
from halfmap.geometry.sphere import healpix_spacing_rad
from halfmap.geometry.symmetry import canonical_name, point_group, symmetrise_poses
from halfmap.refine.abinitio.classes import ClassState
from halfmap.refine.abinitio.hypothesis import Hypothesis
from halfmap.refine.abinitio.options import AbInitioOptions
from halfmap.refine.abinitio.schedule import Step
from halfmap.refine.abinitio.symmetry_axes import find_axes, symmetrised_map
from halfmap.refine.images.observations import ParticleSource, batches
from halfmap.refine.rings.average import RingSums, averages
from halfmap.refine.rings.expectation import (
    Assignment,
    Classifier,
    DrawnPoses,
    Expectation,
    Maps,
    Search,
    disc_of_shifts,
    information,
)
from halfmap.refine.rings.sampling import insert_rings, rings_of_volume
from halfmap.refine.rings.transform import RingGrid, RingTransform, ring_grid, shift_phases
from halfmap.refine.volume.reconstruct import PADDING, Accumulator
from halfmap.typing import Array, FloatArray

MASK_EDGE_PX = 3.0
WIDEST_SPACING, GOOD_SPACING = 1.4, 0.7
"""Views are at most the first times resolution / radius apart, and the second where that is not too many."""
MANY_VIEWS = 400
FEWEST_PARTICLES = 50
START_SLICES = 40
"""Slices of a random start, symmetry mates counted: few, so that starts differ."""
FEWEST_VIEWS = 6
"""Views in the asymmetric unit at least."""
MOST_SHIFTS = len(disc_of_shifts(1.0, 1.5))
"""Shifts tried around each particle's present one, at most."""
UNHEARD = 1e4
"""Noise of shells that are not compared, relative to what it is."""
PUSH, MOMENTUM = 2.0, 0.5
"""How far a pushed step goes, and the share of the way of the step before that is added."""
JUDGES = 300
"""Particles of which the likelihoods of a map and of its spherical average are compared, at most."""


class AbInitio:
    """The search for a first map, one step of one hypothesis at a time.

    Parameters
    ----------
    observations
        The particles.
    half_set
        1 or 2 for each particle.
    options
        How to search.
    seed
        Of everything random.
    threads
        Batches worked on at once; the result does not depend on it.
    """

    def __init__(
        self,
        observations: ParticleSource,
        half_set: Array,
        options: AbInitioOptions,
        seed: int,
        *,
        threads: int = 1,
    ) -> None:
        self.observations, self.half_set, self.options, self.seed = observations, half_set, options, seed
        self.threads = threads
        self.symmetry = canonical_name(options.symmetry)
        self.rows = np.flatnonzero(observations.usable)
        if len(self.rows) < FEWEST_PARTICLES:
            raise HalfmapError(
                f"{len(self.rows)} usable particles are too few for a map from nothing.",
                remedy="Give at least some hundred particles.",
            )
        box = observations.grid
        edge_px = MASK_EDGE_PX
        radius_px = observations.diameter_A / 2 / box.pixel_size_A + edge_px
        self.object_radius_frac = min(0.5, radius_px / box.box_px)
        self.mask = soft_ball((box.box_px,) * 3, 2 * (radius_px - edge_px), edge_px, observations.device)

    def start(self, number: int, step: Step) -> Hypothesis:
        """Maps from a few particles at random poses, for this step to begin with: blobs with random detail."""
        symmetry = self.symmetry if number % 2 == 0 or step.symmetric else "C1"
        operators = self._operators(symmetry)
        count = max(2, START_SLICES // len(operators))
        volumes = []
        for map_number in range(self.options.classes):
            seeds = [self.seed, 1, number, map_number] if map_number else [self.seed, 1, number]
            generator = np.random.default_rng(seeds)
            rows = np.sort(generator.permutation(self.rows)[:count])
            torch_generator = torch.Generator().manual_seed(int(generator.integers(1 << 62)))
            poses = random_rotations(len(rows), torch_generator).to(self.observations.device)
            volumes.append(self._map_from(rows, poses, np.zeros((len(rows), 2)), operators, step))
        n = len(self.observations)
        return Hypothesis(
            number, symmetry, 0, tuple(volumes), Assignment.blank(n), np.tile(np.eye(3), (n, 1, 1)),
            np.zeros((len(volumes), step.radius_px + 1)), -math.inf, ClassState.even(n, len(volumes)),
        )  # fmt: skip

    def advance(self, hypothesis: Hypothesis, step: Step) -> Hypothesis:
        """Make a step of one hypothesis."""
        if step.symmetric and hypothesis.symmetry != self.symmetry:
            hypothesis = self._on_axes(hypothesis, step)
        # The last steps of a round meet the same particles and views in all starts: their likelihoods compare.
        number = 0 if step.compared else 1 + hypothesis.seed
        generator = np.random.default_rng([self.seed, 2, hypothesis.steps_done, number])
        rows = np.sort(generator.permutation(self.rows)[: step.n_images])
        views = self._views(step, hypothesis.symmetry, int(generator.integers(1 << 31)))
        directions = views.directions().to(self.observations.device)
        drawn = DrawnPoses(self.seed, hypothesis.steps_done) if step.drawn else None
        maps = Maps(hypothesis.classes.log_weight(step.balanced), hypothesis.classes.posterior.copy())
        classifier = self._classifier(hypothesis.volumes, directions, step, drawn, maps)
        assignment = hypothesis.assignment.copied()
        found = classifier.expectation(rows, self.half_set, self._search(step), assignment)
        poses = hypothesis.rot_img_from_map.copy()
        view = assignment.class_index[rows] % len(directions)
        poses[rows] = (in_plane(assignment.psi_rad[rows]) @ views.directions()[view]).numpy()
        if len(hypothesis.volumes) == 1:
            maps.posterior[rows] = 1.0
        after = replace(
            hypothesis,
            steps_done=hypothesis.steps_done + 1,
            assignment=assignment,
            rot_img_from_map=poses,
            log_likelihood=float(assignment.log_likelihood[rows].mean()),
            classes=hypothesis.classes.after(maps.posterior, rows),
        )
        after = self._with_maps(after, found, classifier.grid, directions, step)
        return self._with_classes_reused(after, step) if step.reused else after

    def _with_maps(
        self,
        hypothesis: Hypothesis,
        found: Expectation,
        rings: RingGrid,
        directions: Float[Tensor, "d 3 3"],
        step: Step,
    ) -> Hypothesis:
        """The maps after a step, centred; what is known of the particles of each follows."""
        operators = self._operators(hypothesis.symmetry)
        equivalent = symmetrise_poses(directions, operators)
        class_of = hypothesis.classes.class_of
        assignment = hypothesis.assignment.copied()
        volumes, velocities, correlations = [], [], []
        for number, before in enumerate(hypothesis.volumes):
            own = [sums.part(number * len(directions), len(directions)) for sums in found.halves]
            first, second = (self._inserted(rings, sums, equivalent, step) for sums in own)
            correlation, ssnr = self._signal([first, second], step.radius_px)
            first.add(second)
            volume = first.volume(ssnr) * self.mask
            velocity = None
            if step.pushed:
                earlier = None if hypothesis.velocities is None else hypothesis.velocities[number]
                volume, velocity = pushed(before, volume, earlier)
            if step.positive:
                volume = volume.clamp_min(0.0)
            shift_px = -free_part(centre_of_mass_px(volume), operators).round().long()
            self._follow(assignment, hypothesis.rot_img_from_map, class_of == number, shift_px)
            volumes.append(rolled(volume, shift_px) * self.mask)
            correlations.append(correlation)
            if velocity is not None:
                velocities.append(rolled(velocity, shift_px))
        return replace(
            hypothesis,
            volumes=tuple(volumes),
            assignment=assignment,
            correlation=np.stack(correlations),
            velocities=tuple(velocities) if velocities else None,
        )

    def _with_classes_reused(self, hypothesis: Hypothesis, step: Step) -> Hypothesis:
        """Empty classes begin anew with a few particles of the largest one, at their present poses."""
        for number in hypothesis.classes.empty():
            largest = int(hypothesis.classes.frac.argmax())
            generator = np.random.default_rng([self.seed, 5, hypothesis.steps_done, hypothesis.seed, int(number)])
            members = np.flatnonzero(hypothesis.classes.class_of == largest)
            operators = self._operators(hypothesis.symmetry)
            rows = np.sort(generator.permutation(members)[: max(2, START_SLICES // len(operators))])
            poses = torch.as_tensor(hypothesis.rot_img_from_map[rows], device=self.observations.device)
            volumes = list(hypothesis.volumes)
            volumes[number] = self._map_from(rows, poses, hypothesis.assignment.shift_A[rows], operators, step)
            hypothesis = replace(
                hypothesis, volumes=tuple(volumes), velocities=None, classes=hypothesis.classes.shared(int(number))
            )
        return hypothesis

    def _map_from(
        self,
        rows: Array,
        poses: Float[Tensor, "slices 3 3"],
        shift_A: FloatArray,
        operators: Float[Tensor, "operators 3 3"],
        step: Step,
    ) -> Float[Tensor, "n n n"]:
        """The map of some particles at given poses, up to the resolution of a step, unfiltered."""
        lattice = self.observations.lattice.within(step.radius_px)
        device = self.observations.device
        noise = torch.as_tensor(self.observations.background_sigma2, dtype=torch.float32, device=device)
        sums = Accumulator.empty(self.observations.grid, step.radius_px, device)
        for part in batches(np.arange(len(rows)), len(lattice)):
            batch = self.observations.batch(rows[part], step.radius_px)
            sigma2 = noise[batch.group][:, lattice.shell.long()]
            shifts = torch.as_tensor(shift_A[part], device=device)
            phases = shift_phases(lattice.kx_px, lattice.ky_px, shifts, self.observations.grid.length_A)
            weighted = batch.ft * phases * batch.ctf / sigma2
            sums.insert(lattice, weighted, batch.ctf.square() / sigma2, poses[part], operators)
        return sums.volume(torch.ones(step.radius_px + 1)) * self.mask

    def shape_gain(self, hypothesis: Hypothesis, step: Step, resolution_A: float | None = None) -> float:
        """Mean log-likelihood of some particles against the maps, less that against their spherical averages.

        Views are told apart by the difference alone: where it is near zero, poses are arbitrary. Shells, views
        and shifts are those of the step, the shells up to a coarser resolution if one is given.
        """
        if resolution_A is not None:
            radius_px = max(5, math.floor(self.observations.grid.length_A / resolution_A))
            step = replace(step, radius_px=min(step.radius_px, radius_px))
        averages = tuple(spherical_average(volume) for volume in hypothesis.volumes)
        return self.log_likelihood(hypothesis, hypothesis.volumes, step, JUDGES) - self.log_likelihood(
            hypothesis, averages, step, JUDGES
        )

    def log_likelihood(self, hypothesis: Hypothesis, volumes: tuple[Tensor, ...], step: Step, n_judges: int) -> float:
        """Mean log-likelihood of maps for some particles, always the same ones, from where a hypothesis has them."""
        generator = np.random.default_rng([self.seed, 4])
        rows = np.sort(generator.permutation(self.rows)[:n_judges])
        views = self._views(step, hypothesis.symmetry, int(generator.integers(1 << 31)))
        maps = Maps(hypothesis.classes.log_weight(0.0), hypothesis.classes.posterior.copy())
        classifier = self._classifier(volumes, views.directions().to(self.observations.device), step, None, maps)
        assignment = hypothesis.assignment.copied()
        classifier.expectation(rows, self.half_set, self._search(step), assignment)
        return float(assignment.log_likelihood[rows].mean())

    def with_threads(self, threads: int) -> AbInitio:
        """The same search on so many threads."""
        other = copy(self)
        other.threads = threads
        return other

    def _classifier(
        self,
        volumes: tuple[Tensor, ...],
        directions: Float[Tensor, "d 3 3"],
        step: Step,
        drawn: DrawnPoses | None,
        maps: Maps,
    ) -> Classifier:
        """Particles against views of the map of each class."""
        transform = self._transform(step.radius_px)
        rings = transform.grid
        known = self.observations.background_sigma2
        sigma2 = known[:, np.minimum(np.arange(rings.n_rings), known.shape[1] - 1)].copy()
        sigma2[:, : step.first_px] *= UNHEARD
        polar = []
        for volume in volumes:
            prepared = prepare_volume(volume, float(rings.n_rings))
            polar.append(rings_of_volume(rings, prepared, directions, PADDING, threads=self.threads))
        return Classifier(
            self.observations, step.radius_px, transform, sigma2, torch.cat(polar), threads=self.threads, drawn=drawn,
            maps=maps if len(volumes) > 1 else None,
        )  # fmt: skip

    def _operators(self, symmetry: str) -> Float[Tensor, "operators 3 3"]:
        return point_group(symmetry).to(self.observations.device)

    def _on_axes(self, hypothesis: Hypothesis, step: Step) -> Hypothesis:
        """Each map in the frame where it is most nearly symmetric, symmetrised; the poses follow."""
        pixel_size_A = self.observations.grid.pixel_size_A
        resolution_A = self.observations.grid.length_A / step.radius_px
        assignment, poses = hypothesis.assignment.copied(), hypothesis.rot_img_from_map.copy()
        volumes = []
        for number, volume in enumerate(hypothesis.volumes):
            axes = find_axes(volume, self.symmetry, pixel_size_A, resolution_A=resolution_A)
            volumes.append(symmetrised_map(volume, axes, self.symmetry, pixel_size_A) * self.mask)
            seen = hypothesis.classes.class_of == number
            assignment.shift_A[seen] -= (poses[seen] @ axes.shift_A)[:, :2]
            poses[seen] = poses[seen] @ axes.rot_map_from_axes
        return replace(
            hypothesis, symmetry=self.symmetry, volumes=tuple(volumes), assignment=assignment, rot_img_from_map=poses
        )

    def _transform(self, radius_px: int) -> RingTransform:
        rings = ring_grid(radius_px + 0.499, self.object_radius_frac)
        lattice = self.observations.lattice.within(radius_px)
        kx, ky = (k.cpu().double().numpy() for k in (lattice.kx_px, lattice.ky_px))
        return RingTransform(rings, kx, ky, self.observations.device)

    def _views(self, step: Step, symmetry: str, seed: int) -> RotationGrid:
        """Views of the asymmetric unit, as close as the resolution asks for, turned at random."""
        resolution_A = self.observations.grid.length_A / step.radius_px
        unit_rad = resolution_A / (self.observations.diameter_A / 2)
        order = order_of_views(unit_rad, len(self._operators(symmetry)), sparse=step.sparse)
        return grid(order, symmetry, seed=seed)

    def _search(self, step: Step) -> Search:
        resolution_A = self.observations.grid.length_A / step.radius_px
        range_A = max(resolution_A / 4, min(self.options.offset_range_A, 0.375 * resolution_A))
        step_A = range_A if step.sparse else resolution_A / 4
        return Search(disc_of_shifts(step_A, range_A), self.options.offset_range_A / 2)

    def _inserted(
        self, rings: RingGrid, sums: RingSums, poses: Float[Tensor, "d operators 3 3"], step: Step
    ) -> Accumulator:
        """One slice for each view that was met, at all equivalent poses."""
        sums_3d = Accumulator.empty(self.observations.grid, rings.n_rings - 1, self.observations.device)
        met = torch.nonzero(sums.count > 1e-3)[:, 0]
        if not len(met):
            return sums_3d
        met_sums = RingSums(sums.numerator[:, met], sums.normal[met], sums.count[met])
        known = information(rings, met_sums)
        floor = 1e-2 * known.amax(dim=1, keepdim=True).clamp_min(1e-12)
        slices = averages(rings, met_sums, (0.02 * known).clamp_min(floor))
        weight = (known * rings.pixels_per_point(known.device)).float()
        weight[:, step.radius_px + 1 :] = 0.0
        weights = weight[:, :, None].expand(slices.shape).contiguous()
        for pose in poses[met].unbind(1):
            insert_rings(rings, slices * weights, weights, pose, sums_3d.numerator, sums_3d.denominator, PADDING)
        return sums_3d

    def _signal(self, halves: list[Accumulator], radius_px: int) -> tuple[FloatArray, Float[Tensor, " shells"]]:
        """Shell correlation of the halves within the mask, and the SSNR of their sum, smoothed."""
        first, second = (half.volume() * self.mask for half in halves)
        curve = fsc(first, second)[: radius_px + 1].double()
        bounded = curve.clamp(0.0, 0.999)
        smooth = bounded.clone()
        smooth[1:-1] = (bounded[:-2] + 2 * bounded[1:-1] + bounded[2:]) / 4
        return curve.cpu().numpy(), 2 * smooth / (1 - smooth) + 1e-2

    def _follow(self, assignment: Assignment, poses: FloatArray, seen: Array, shift_px: Int[Tensor, " 3"]) -> None:
        """Shifts of the particles of a map that was moved by (x, y, z)."""
        moved_A = shift_px.double().cpu().numpy() * self.observations.grid.pixel_size_A
        assignment.shift_A[seen] += (poses[seen] @ moved_A)[:, :2]


def order_of_views(unit_rad: float, n_operators: int, *, sparse: bool = False) -> int:
    """HEALPix order of views that are as close as a resolution asks for, which is ``unit_rad`` at the surface."""
    order = 1
    many = 0 if sparse else MANY_VIEWS
    while (
        healpix_spacing_rad(order) > WIDEST_SPACING * unit_rad
        or 12 * 4**order < FEWEST_VIEWS * n_operators
        or (healpix_spacing_rad(order) > GOOD_SPACING * unit_rad and 12 * 4 ** (order + 1) <= many * n_operators)
    ):
        order += 1
    return order


def rolled(volume: Float[Tensor, "n n n"], shift_px: Int[Tensor, " 3"]) -> Float[Tensor, "n n n"]:
    """A map moved by whole pixels (x, y, z)."""
    x, y, z = shift_px.tolist()
    return torch.roll(volume, (z, y, x), dims=(0, 1, 2))


def pushed(
    before: Float[Tensor, "n n n"], aim: Float[Tensor, "n n n"], velocity: Tensor | None
) -> tuple[Float[Tensor, "n n n"], Float[Tensor, "n n n"]]:
    """A step that goes beyond its aim in all that depends on direction (over-relaxation with momentum, Polyak 1964).

    Expectation-maximisation moves by the share of the missing information that the particles hold
    (Dempster et al. 1977): little, where views are hardly told apart. The spherical average has arrived after one step.

    Returns
    -------
    The map after the step, and the velocity for the next one.
    """
    change = aim - before
    sphere = spherical_average(change)
    fresh = PUSH * (change - sphere)
    velocity = fresh if velocity is None else MOMENTUM * velocity + fresh
    return before + sphere + velocity, velocity


def free_part(vector: Float[Tensor, " 3"], operators: Float[Tensor, "operators 3 3"]) -> Float[Tensor, " 3"]:
    """What all operators of a point group leave in place of a vector."""
    return operators.to(vector).mean(dim=0) @ vector


def spherical_average(volume: Float[Tensor, "n n n"]) -> Float[Tensor, "n n n"]:
    """Each voxel replaced by the mean over the sphere through it, linear between radii of whole pixels."""
    radius = real_space_radius_px(tuple(volume.shape), volume.device).double()
    inner = radius.floor().long()
    share = (radius - inner).flatten()
    n_bins = int(inner.max()) + 2
    below, above = (1 - share, share)
    flat, index = volume.double().flatten(), inner.flatten()
    total = sums_by_index(index, flat * below, n_bins) + sums_by_index(index + 1, flat * above, n_bins)
    weight = sums_by_index(index, below, n_bins) + sums_by_index(index + 1, above, n_bins)
    profile = total / weight.clamp_min(1e-30)
    return (profile[index] * below + profile[index + 1] * above).view_as(volume).to(volume.dtype)


def centre_of_mass_px(volume: Float[Tensor, "n n n"]) -> Float[Tensor, 3]:
    """Centre of mass (x, y, z) about the origin voxel of what is clearly denser than the solvent."""
    dense = (volume - 0.1 * volume.max()).clamp_min(0.0).double()
    total = dense.sum().clamp_min(1e-30)
    axis = torch.arange(volume.shape[0], dtype=torch.float64, device=volume.device) - volume.shape[0] // 2
    along = [dense.sum(dim=tuple({0, 1, 2} - {dim})) @ axis / total for dim in (2, 1, 0)]
    return torch.stack(along)
