"""One iteration of one half of the particles. Nothing in here sees the other half."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.slices import prepare_volume
from halfmap.fourier.slicing import extract_pixels
from halfmap.geometry.lattice_symmetry import split
from halfmap.geometry.rotations import angular_distance_rad
from halfmap.geometry.symmetry import nearest_equivalent
from halfmap.refine.images.noise import NoiseModel, balanced_scale, image_power
from halfmap.refine.images.observations import Observations, batches
from halfmap.refine.images.shell_sums import ShellSums
from halfmap.refine.refine3d.local import Focus
from halfmap.refine.rings.transform import shift_phases
from halfmap.refine.search.poses import NARROW, Poses, PoseSearch, SearchPlan
from halfmap.refine.search.prior import GivenPoses
from halfmap.refine.volume.reconstruct import PADDING, Accumulator
from halfmap.refine.work import in_order
from halfmap.typing import Array

LEAST_WEIGHT = 0.02
"""Modes with a smaller share of a particle's posterior are not inserted."""
LEAST_SHIFT_SIGMA_A = 1.0
GLOBAL_ITERATIONS = 3
"""Iterations that search everywhere before any particle may stay near its pose."""


@dataclass(frozen=True, eq=False)
class HalfState:
    """What is known about one half between iterations.

    Attributes
    ----------
    rows
        Its particles, ``[n]``.
    reference
        Map that the next search compares with, on a grid that is just fine enough.
    rot_img_from_map, shift_A
        Best poses, ``[n, 3, 3]`` and ``[n, 2]``.
    settled
        Particles that are searched around their pose only, ``[n]``.
    noise
        Noise and scale of the optics groups.
    shift_sigma_A
        Standard deviation of the shifts along one axis.
    given
        Poses that particles are held near to; None if they may be anything.
    """

    rows: Array
    reference: Float[Tensor, "z y x"]
    rot_img_from_map: Float[Tensor, "n 3 3"]
    shift_A: Float[Tensor, "n 2"]
    settled: Bool[Tensor, " n"]
    noise: NoiseModel
    shift_sigma_A: float
    given: GivenPoses | None = None


@dataclass(frozen=True, eq=False)
class HalfResult:
    """Outcome of one iteration of one half.

    Attributes
    ----------
    poses
        Posteriors of the poses, in the order of the rows.
    sums
        Inserted slices.
    noise, shift_sigma_A, settled
        For the next iteration.
    turned_rad, moved_A
        Change of the best poses, ``[n]``.
    searched_everywhere
        Share of the particles that had a global search.
    """

    poses: Poses
    sums: Accumulator
    noise: NoiseModel
    shift_sigma_A: float
    settled: Bool[Tensor, " n"]
    turned_rad: Float[Tensor, " n"]
    moved_A: Float[Tensor, " n"]
    searched_everywhere: float


def first_noise(observations: Observations, rows: Array) -> NoiseModel:
    """Noise model of some particles before anything is known about them: all of their power."""
    sums = ShellSums(observations.n_groups, observations.lattice.radius_px + 1)
    for part in batches(rows, len(observations.lattice)):
        batch = observations.batch(part, observations.lattice.radius_px)
        sums.add(batch.group, observations.lattice.shell, image_power(batch), batch.ctf != 0)
    ones = torch.ones(observations.n_groups, dtype=torch.float64)
    return NoiseModel(sums.mean(), ones, observations.information_frac())


def unsearched(
    rows: Array, reference: Float[Tensor, "z y x"], noise: NoiseModel, shift_sigma_A: float, given: GivenPoses | None
) -> HalfState:
    """A half before its first iteration: at the poses that are given, or anywhere."""
    n = len(rows)
    if given is None:
        rot = torch.eye(3, dtype=torch.float64).expand(n, 3, 3).clone()
        shift = torch.zeros(n, 2, dtype=torch.float64)
    else:
        rot, shift = given.rot_img_from_map, given.shift_A
    return HalfState(rows, reference, rot, shift, torch.zeros(n, dtype=torch.bool), noise, shift_sigma_A, given)


def find_poses(state: HalfState, search: PoseSearch, threads: int, tick: Callable[[int], None]) -> Poses:
    """Posteriors of all particles of the half."""
    if state.given is None:
        search.prepare()
    order = np.argsort(state.settled.numpy(), kind="stable")
    n_global = int((~state.settled).sum())
    n_pixels = len(search.fine)
    tasks = [*batches(order[:n_global], n_pixels), *batches(order[n_global:], n_pixels)]

    def work(members: Array) -> Poses:
        rows, shift = state.rows[members], state.shift_A[members].to(search.observations.device)
        rot, settled = state.rot_img_from_map[members].to(shift.device), bool(state.settled[members[0]])
        if state.given is not None:
            starts = state.given.starts()
            return search.near(rows, rot, shift, state.given.of(members), starts[:1] if settled else starts)
        return search.around(rows, rot, shift) if settled else search.everywhere(rows, shift)

    found = []
    for members, poses in zip(tasks, in_order(work, tasks, threads), strict=True):
        found.append(poses)
        tick(len(members))
    back = torch.as_tensor(np.argsort(order, kind="stable"))

    def joined(name: str) -> Tensor:
        return torch.cat([getattr(poses, name).cpu() for poses in found])[back]

    names = ("rot_img_from_map", "shift_A", "weight", "log_likelihood", "sigma_rad", "sigma_A")
    return Poses(*(joined(name) for name in names))


def iterate(
    state: HalfState,
    observations: Observations,
    plan: SearchPlan,
    *,
    focus: Focus,
    symmetry: str,
    insert_radius_px: int,
    iteration: int,
    threads: int,
    tick: Callable[[int], None],
) -> HalfResult:
    """Find poses against the half's own reference; insert the images; estimate noise and scale anew.

    Parameters
    ----------
    state
        The half before.
    observations
        All particles; the rows of this half alone are touched.
    plan
        Sampling of the search.
    focus, symmetry
        Of the particle.
    insert_radius_px
        Shells to insert.
    iteration
        Number of this iteration, from 1.
    threads
        Cores that may be used; the result does not depend on it.
    tick
        Called with the number of particles whose poses were found.
    """
    search = PoseSearch(state.reference, observations, state.noise, plan, focus.diameter_A, symmetry, focus.fulcrum_A)
    poses = find_poses(state, search, threads, tick)
    operators = search.operators
    del search  # What it holds is as large as the sums that are made next.
    sums, noise = insert(state, observations, poses, operators, insert_radius_px)
    best_rot, best_shift = poses.rot_img_from_map[:, 0], poses.shift_A[:, 0]
    nearest = nearest_equivalent(best_rot, state.rot_img_from_map, operators.cpu())
    turned = angular_distance_rad(nearest, state.rot_img_from_map)
    stays = turned < plan.spacing_rad
    narrow = (poses.weight[:, 0] > NARROW) & stays & (iteration >= GLOBAL_ITERATIONS)
    sigma_A = max(LEAST_SHIFT_SIGMA_A, float(best_shift.square().mean().sqrt()))
    return HalfResult(
        poses, sums, noise, sigma_A, state.settled | narrow,
        turned, (best_shift - state.shift_A).norm(dim=-1), float((~state.settled).double().mean()),
    )  # fmt: skip


def insert(
    state: HalfState,
    observations: Observations,
    poses: Poses,
    operators: Float[Tensor, "operators 3 3"],
    radius_px: int,
) -> tuple[Accumulator, NoiseModel]:
    """Insert all images at their poses; compare them with the reference for the noise and the scale.

    Each mode of a particle is inserted with its posterior weight. Noise is what is left of the
    unmasked image after the best fit; shells beyond ``radius_px`` keep their value.
    """
    device = observations.device
    representatives, aligned = split(operators.cpu())
    representatives = representatives.to(device)
    lattice = observations.lattice.within(radius_px)
    sums = Accumulator.empty(observations.grid, radius_px, device)
    slices_of = prepare_volume(state.reference.to(device), float(radius_px) + 1, PADDING)
    n_groups = observations.n_groups
    residual = ShellSums(n_groups, observations.lattice.radius_px + 1)
    cross, power = torch.zeros(n_groups, dtype=torch.float64), torch.zeros(n_groups, dtype=torch.float64)
    for members in batches(np.arange(len(state.rows)), len(lattice)):
        batch = observations.batch(state.rows[members], radius_px)
        weighted, weights = state.noise.weighted(batch, lattice)
        for mode in range(poses.weight.shape[1]):
            share = poses.weight[members, mode]
            used = torch.nonzero(share >= LEAST_WEIGHT)[:, 0]
            if not len(used):
                continue
            rot = poses.rot_img_from_map[members][used, mode].to(device)
            shift = poses.shift_A[members][used, mode].to(device)
            phases = shift_phases(lattice.kx_px, lattice.ky_px, shift, lattice.length_A)
            part = share[used, None].float().to(device)
            sums.insert(lattice, weighted[used] * phases * part, weights[used] * part, rot, representatives)
        rot = poses.rot_img_from_map[members, 0].to(device)
        shift = poses.shift_A[members, 0].to(device)
        phases = shift_phases(lattice.kx_px, lattice.ky_px, shift, lattice.length_A)
        model = extract_pixels(slices_of, rot, lattice.pixels, PADDING) * phases.conj()
        seen = (weighted.real * model.real + weighted.imag * model.imag).double().sum(dim=1)
        expected = (weights * (model.real.square() + model.imag.square())).double().sum(dim=1)
        cross += sums_by_index(batch.group, seen, n_groups).cpu()
        power += sums_by_index(batch.group, expected, n_groups).cpu()
        scale = state.noise.scale.float().to(device)[batch.group][:, None]
        rest = batch.ft - scale * batch.ctf * model
        residual.add(batch.group, lattice.shell, rest.real.square() + rest.imag.square(), batch.ctf != 0)
    sigma2 = torch.where(residual.count.sum(dim=0) > 0, residual.mean(), state.noise.sigma2)
    # cross and power already hold the present scale once and twice.
    scale = state.noise.scale * balanced_scale(cross, power)
    sums.symmetrise(aligned)
    return sums, NoiseModel(sigma2, scale / scale.mean(), state.noise.information_frac)
