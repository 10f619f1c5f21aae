"""Expectation over particles against class averages on rings, and the averages that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.refine.images.observations import ParticleSource
from halfmap.refine.rings.average import RingSums, averages, empty_sums, normal_matrices, sum_aligned, sum_images
from halfmap.refine.rings.search import log_evidence_of
from halfmap.refine.rings.transform import (
    RingGrid,
    RingTransform,
    angular_coefficients,
    log_likelihoods,
    ring_references,
    shift_phases,
)
from halfmap.refine.work import in_order
from halfmap.typing import Array, FloatArray

BATCH = 32
"""Particles in one product at most."""
BATCH_SCORES = 1 << 21
"""Scores of all particles in one product, if that is more than one particle."""


def particles_at_once(n_angles: int, n_directions: int, n_shifts: int) -> int:
    """Particles in one product: fixed, so that sums do not depend on threads or memory."""
    return max(1, min(BATCH, BATCH_SCORES // (n_angles * n_directions * n_shifts)))


@dataclass(frozen=True)
class Assignment:
    """What is known of each particle; arrays over all particles, written in place by each pass."""

    class_index: Array
    psi_rad: FloatArray
    shift_A: FloatArray
    max_posterior: FloatArray
    log_likelihood: FloatArray

    @classmethod
    def blank(cls, n: int) -> Assignment:
        """No particle seen yet: class -1."""
        return cls(np.full(n, -1), np.zeros(n), np.zeros((n, 2)), np.zeros(n), np.zeros(n))

    def copied(self) -> Assignment:
        """One that can be written into without touching this one."""
        return Assignment(**{name: values.copy() for name, values in vars(self).items()})


@dataclass(frozen=True)
class Expectation:
    """Sums of one pass over the posterior of each particle.

    Attributes
    ----------
    halves
        Sums over the particles of each half-set.
    residual
        Residual power over noise power, summed over the Fourier plane, of each optics group and ring.
    seen
        Number of particles of each optics group.
    """

    halves: tuple[RingSums, RingSums]
    residual: FloatArray
    seen: FloatArray


@dataclass(frozen=True)
class Search:
    """Which shifts are tried around each particle's present one, and the prior of the whole shift."""

    offsets_A: FloatArray
    shift_sigma_A: float


@dataclass(frozen=True)
class Maps:
    """The maps that the references are views of, map after map, each with as many views.

    Attributes
    ----------
    log_weight
        Logarithm of each map's prior weight, ``[k]``.
    posterior
        Weight of each map for each particle, ``[particles, k]``, written in place by each pass.
    """

    log_weight: FloatArray
    posterior: FloatArray


@dataclass(frozen=True)
class DrawnPoses:
    """One pose of each particle, drawn from its posterior (stochastic EM; Celeux & Diebolt 1985).

    The whole posterior keeps every symmetry that the reference happens to have: against a map that
    equals its mirror image, each view is as likely as its mirrored one, and the sum over both has no
    hand again. A draw takes sides.
    """

    seed: int
    step: int

    def index(self, posterior: Float[Tensor, "n q"], rows: Array) -> Int[Tensor, " n"]:
        """The drawn pose of each row; a row's draw depends on seed, step and row alone."""
        uniform = [np.random.default_rng([self.seed, 3, self.step, int(row)]).random() for row in rows]
        reached = posterior.cumsum(dim=1)
        level = torch.as_tensor(uniform, dtype=posterior.dtype, device=posterior.device) * reached[:, -1]
        return torch.searchsorted(reached, level[:, None]).clamp_max(posterior.shape[1] - 1)[:, 0]


def disc_of_shifts(step_A: float, range_A: float) -> FloatArray:
    """Square grid of shifts (x, y) within a radius, the centre first."""
    n = math.floor(range_A / step_A + 1e-6)
    x, y = np.meshgrid(np.arange(-n, n + 1), np.arange(-n, n + 1))
    points = step_A * np.stack([x.ravel(), y.ravel()], axis=1)
    distance = np.hypot(points[:, 0], points[:, 1])
    order = np.argsort(distance, kind="stable")
    kept: FloatArray = points[order][distance[order] <= range_A * (1 + 1e-6)]
    return kept


class Classifier:
    """One pass of particles against class averages.

    Parameters
    ----------
    observations
        The particles.
    radius_px
        Outermost shell of Fourier pixels that is used.
    transform
        From these pixels to rings.
    sigma2
        Noise power of each optics group at each ring, ``[g, r]``.
    polar
        Class averages on half rings.
    threads
        Batches worked on at once; the sums do not depend on it.
    drawn
        Sums take each particle at one pose drawn from its posterior, if given, and at all poses if not.
    maps
        If given, the references are views of several maps: the posterior runs over maps and poses together, and each
        particle is assigned to its likeliest map, at the best pose there.
    """

    def __init__(
        self,
        observations: ParticleSource,
        radius_px: int,
        transform: RingTransform,
        sigma2: FloatArray,
        polar: Complex[Tensor, "d r t"],
        *,
        threads: int = 1,
        drawn: DrawnPoses | None = None,
        maps: Maps | None = None,
    ) -> None:
        self.observations, self.radius_px, self.transform, self.sigma2 = observations, radius_px, transform, sigma2
        self.threads, self.drawn, self.maps = threads, drawn, maps
        self.grid = transform.grid
        self.references = ring_references(self.grid, polar)
        self._coefficients = angular_coefficients(self.grid, polar)
        lattice = observations.lattice.within(radius_px)
        self._kx, self._ky, self._shell = lattice.kx_px, lattice.ky_px, lattice.shell.long()

    def expectation(self, rows: Array, half_set: Array, search: Search, assignment: Assignment) -> Expectation:
        """Sum the particles of these rows over their posterior; writes what it finds into ``assignment``."""
        group = self.observations.group[rows]
        empty = empty_sums(self.grid, len(self.references), self.references.real.device)
        halves = [empty, empty]
        residual = np.zeros((self.observations.n_groups, self.grid.n_rings))
        size = particles_at_once(self.grid.n_angles, len(self.references), len(search.offsets_A))
        for number in range(self.observations.n_groups):
            of_group = empty
            for half in (0, 1):
                part = rows[(group == number) & (half_set[rows] == half + 1)]
                batches = [part[start : start + size] for start in range(0, len(part), size)]
                work = partial(self._batch, number=number, search=search, assignment=assignment)
                for sums, power in in_order(work, batches, self.threads):
                    halves[half] = halves[half] + sums
                    of_group = of_group + sums
                    residual[number] += power
            residual[number] -= self._explained(of_group)
        seen = np.bincount(group, minlength=self.observations.n_groups).astype(float)
        return Expectation((halves[0], halves[1]), residual, seen)

    def _batch(self, rows: Array, number: int, search: Search, assignment: Assignment) -> tuple[RingSums, FloatArray]:
        batch = self.observations.batch(rows, self.radius_px)
        device = batch.ft.device
        sigma2 = torch.as_tensor(self.sigma2[number], dtype=torch.float32, device=device)[self._shell]
        length_A = self.observations.grid.length_A
        present = torch.as_tensor(assignment.shift_A[rows], device=device)
        offsets = torch.as_tensor(search.offsets_A, device=device)
        weighted = batch.ft * (batch.ctf / sigma2) * shift_phases(self._kx, self._ky, present, length_A)
        weights = batch.ctf.square() / sigma2
        phases = shift_phases(self._kx, self._ky, offsets, length_A)
        on_rings = self.transform.images((weighted[:, None] * phases).flatten(0, 1))
        posterior = log_likelihoods(self.references, on_rings, self.transform.power(weights))
        prior = -(present[:, None] + offsets).square().sum(dim=2) / (2 * search.shift_sigma_A**2)
        posterior += prior.to(posterior.dtype)[:, None, :, None]
        if self.maps is not None:
            posterior += self._log_weight_of_views(self.maps).to(posterior)
        flat = posterior.flatten(1)
        best, index = flat.max(dim=1, keepdim=True)
        evidence = log_evidence_of(flat, best)
        flat /= flat.sum(dim=1, keepdim=True)
        if self.maps is not None:
            index = self._best_of_best_map(posterior, rows, self.maps)
        self._record(rows, index, flat, evidence, search, assignment)
        normal = self.transform.normal(weights)
        if self.drawn is None:
            sums = sum_images(self.grid, posterior, on_rings, normal)
        else:
            sums = self._sum_at(self.drawn.index(flat, rows), len(offsets), on_rings, normal)
        power = 2 * (batch.ft.abs().square().sum(dim=0).double() / sigma2).cpu().numpy()
        by_ring: FloatArray = np.bincount(self._shell.cpu().numpy(), power, self.grid.n_rings).astype(np.float64)
        return sums, by_ring

    def _log_weight_of_views(self, maps: Maps) -> Float[Tensor, " d"]:
        n_views = len(self.references) // len(maps.log_weight)
        return torch.as_tensor(maps.log_weight).repeat_interleave(n_views)

    def _best_of_best_map(self, posterior: Float[Tensor, "n psi s d"], rows: Array, maps: Maps) -> Int[Tensor, "n 1"]:
        """Best pose of each image in the map that holds most of its posterior; writes the weights of the maps."""
        n, _, _, n_directions = posterior.shape
        by_direction = posterior.flatten(1, 2)
        of_map = by_direction.sum(dim=1).view(n, len(maps.log_weight), -1).sum(dim=2)
        maps.posterior[rows] = of_map.cpu().numpy()
        n_views = n_directions // len(maps.log_weight)
        chosen = of_map.argmax(dim=1)
        views = chosen[:, None] * n_views + torch.arange(n_views, device=chosen.device)
        own = by_direction.gather(2, views[:, None].expand(-1, by_direction.shape[1], -1)).flatten(1)
        best = own.argmax(dim=1)
        return (best // n_views * n_directions + chosen * n_views + best % n_views)[:, None]

    def _sum_at(
        self,
        pose: Int[Tensor, " n"],
        n_shifts: int,
        on_rings: Float[Tensor, "m ns r 2"],
        normal: Float[Tensor, "n b r 2"],
    ) -> RingSums:
        """Each image at one pose of the search."""
        n_classes = len(self.references)
        image = torch.arange(len(pose), device=pose.device)
        direction = torch.nn.functional.one_hot(pose % n_classes, n_classes).to(on_rings.dtype)
        psi_rad = torch.as_tensor(self.grid.psi_rad, device=pose.device)[pose // (n_shifts * n_classes)]
        shifted = on_rings[:, image * n_shifts + pose // n_classes % n_shifts]
        return sum_aligned(self.grid, direction, psi_rad, shifted, normal)

    def _record(
        self,
        rows: Array,
        index: Int[Tensor, "n 1"],
        posterior: Float[Tensor, "n q"],
        evidence: Float[Tensor, " n"],
        search: Search,
        assignment: Assignment,
    ) -> None:
        n_shifts, n_classes = len(search.offsets_A), len(self.references)
        best = index[:, 0].cpu().numpy()
        assignment.class_index[rows] = best % n_classes
        assignment.psi_rad[rows] = self.grid.psi_rad[best // (n_shifts * n_classes)]
        assignment.shift_A[rows] += search.offsets_A[best // n_classes % n_shifts]
        assignment.max_posterior[rows] = posterior.gather(1, index)[:, 0].cpu().numpy()
        assignment.log_likelihood[rows] = evidence.cpu().numpy()

    def _explained(self, sums: RingSums) -> FloatArray:
        """Power over noise power that the present averages explain, by ring (full plane)."""
        multiplicity = torch.full((self.grid.n_orders, 1, 1), 2.0, device=sums.count.device)
        multiplicity[0] = 1.0
        reference = self._coefficients
        numerator = torch.view_as_complex(sums.numerator)
        explained = 2 * (multiplicity * (numerator.conj() * reference).real).sum(dim=(0, 1)).double()
        for parity, matrix in enumerate(normal_matrices(sums, self.grid.n_angles)):
            own = reference[parity::2].permute(1, 2, 0)
            spread = matrix.to(own.dtype) @ own
            explained -= ((own.conj() * spread).real * multiplicity[parity::2, 0, 0]).sum(dim=(0, 2))
        result: FloatArray = (explained / self.grid.n_angles).cpu().numpy()
        return result


def ring_correlation(a: Complex[Tensor, "d r t"], b: Complex[Tensor, "d r t"]) -> Float[Tensor, "d r"]:
    """Fourier ring correlation of each pair of averages."""
    cross = (a * b.conj()).real.sum(dim=2)
    return cross / (a.abs().square().sum(dim=2) * b.abs().square().sum(dim=2)).sqrt().clamp_min(1e-30)


def information(grid: RingGrid, sums: RingSums) -> Float[Tensor, "d r"]:
    """Mean weight ``sum CTF^2 / sigma2`` of a Fourier pixel on each ring of each class."""
    rows = normal_matrices(sums, grid.n_angles).sum(dim=(0, 3)) / 2
    return (rows / grid.pixels_per_point(rows.device)).clamp_min(0.0)


def filtered_averages(grid: RingGrid, sums: RingSums, signal_frac: Float[Tensor, "d r"]) -> Complex[Tensor, "d r t"]:
    """Averages under a Wiener filter that passes the fraction ``signal_frac`` at each ring."""
    known = information(grid, sums)
    fraction = signal_frac.double().clamp(1e-3, 0.999)
    floor = known.amax(dim=1, keepdim=True).clamp_min(1e-12) * 1e-3
    return averages(grid, sums, (known * (1 - fraction) / fraction).clamp_min(floor))


def half_correlation(
    grid: RingGrid, polar: Sequence[Complex[Tensor, "d r t"]]
) -> tuple[Float[Tensor, "d r"], Float[Tensor, "d r"]]:
    """Ring correlation of two halves, and the share of signal in the power of their sum, smoothed."""
    correlation = ring_correlation(polar[0], polar[1])
    correlation[:, 0] = correlation[:, 1]
    bounded = shrunk_correlation(grid, correlation).clamp(0.0, 0.999)
    signal = 2 * bounded / (1 + bounded)
    smooth = signal.clone()
    smooth[:, 1:-1] = (signal[:, :-2] + 2 * signal[:, 1:-1] + signal[:, 2:]) / 4
    return correlation, smooth


def shrunk_correlation(grid: RingGrid, correlation: Float[Tensor, "d r"]) -> Float[Tensor, "d r"]:
    """Correlations drawn towards their mean over the classes, the more the less they differ beyond chance.

    Halves of a class are few particles, and a ring has few independent points: alone, a ring with signal often shows
    none, and would be filtered away. (The empirical Bayes estimate of James and Stein; the variance of a correlation
    of noise is one over the number of independent points.)
    """
    alive = correlation[(correlation != 0).any(dim=1)]  # Empty classes tell nothing.
    if len(alive) < 2:
        return correlation
    radius = torch.arange(grid.n_rings, device=correlation.device).clamp_min(1)
    points = math.pi * radius * (2 * grid.object_radius_frac) ** 2
    chance = 1 / points.clamp_min(1.0)
    mean = alive.mean(dim=0)
    between = (alive.var(dim=0) - chance).clamp_min(0.0)
    return mean + (correlation - mean) * (between / (between + chance))
