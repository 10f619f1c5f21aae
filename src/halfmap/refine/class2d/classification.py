"""2D classification: class averages are the directions of the search by rings.

Streaming mini-batches first, then full passes; the resolution marches on as far as the halves of
the classes agree. The references of one pass are the averages of the pass before: corrected for
the CTF, centred, masked, Wiener-filtered by their own ring correlation. The mask comes before the
filter: after it, the mask would mix strong rings that were kept into weak ones that were not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.shells import shell_index_2d, spread
from halfmap.fourier.windows import soft_ball
from halfmap.refine.class2d.options import Class2DOptions
from halfmap.refine.class2d.schedule import Pass, schedule
from halfmap.refine.images.observations import ParticleSource, batches
from halfmap.refine.rings.average import RingSums, empty_sums, fits, on_larger_grid, sum_aligned
from halfmap.refine.rings.expectation import (
    Assignment,
    Classifier,
    Expectation,
    Search,
    disc_of_shifts,
    filtered_averages,
    half_correlation,
)
from halfmap.refine.rings.noise import noise_from_images, noise_from_residuals, reaching
from halfmap.refine.rings.sampling import images_of_rings, ring_points, rings_of_images
from halfmap.refine.rings.transform import N_TAPS, RingGrid, RingTransform, ring_grid, shift_phases
from halfmap.typing import Array, FloatArray

MASK_EDGE_PX = 3.0
SMALL_CLASS_FRAC = 0.15
"""A class with less than this share of an average class is given up and started anew."""
MOST_SHIFTS = len(disc_of_shifts(1.0, 2.0))
"""Shifts tried around each particle's present one, at most."""
CARRIED_FRAC = 0.6
"""Weight that the sums of earlier mini-batches keep when the next one is added."""


@dataclass(frozen=True)
class ClassificationState:
    """Everything that a pass needs from the one before it.

    Attributes
    ----------
    passes_done
        Number of passes done.
    images
        Class averages, masked and filtered, on the grid of the observations, ``[k, y, x]``.
    carried
        Sums of the mini-batches of both half-sets.
    sigma2
        Noise power of each optics group at each shell, as far as it was looked at.
    assignment
        Class and pose of each particle.
    correlation
        Fourier ring correlation of the halves of each class, ``[k, r]``.
    count
        Particles in each class, by posterior weight.
    """

    passes_done: int
    images: Tensor
    carried: tuple[RingSums, RingSums]
    sigma2: FloatArray
    assignment: Assignment
    correlation: FloatArray
    count: FloatArray

    @property
    def done(self) -> bool:
        """Whether any pass was made."""
        return self.passes_done > 0


class Classification:
    """A run of 2D classification, one pass at a time.

    Parameters
    ----------
    observations
        The particles, unmasked.
    half_set
        1 or 2 for each particle.
    options
        How to classify.
    seed
        Of everything random.
    threads
        Batches worked on at once; the result does not depend on it.
    """

    def __init__(
        self, observations: ParticleSource, half_set: Array, options: Class2DOptions, seed: int, *, threads: int = 1
    ) -> None:
        self.observations, self.half_set, self.options, self.seed = observations, half_set, options, seed
        self.threads = threads
        self.rows = np.flatnonzero(observations.usable)
        if len(self.rows) < 2 * options.classes:
            raise HalfmapError(
                f"{len(self.rows)} usable particles are too few for {options.classes} classes.",
                remedy="Ask for fewer classes (--classes); twenty particles in a class are few.",
            )
        grid = observations.grid
        self.box_px = grid.box_px
        self.diameter_A = observations.diameter_A
        edge_px = MASK_EDGE_PX
        device = observations.device
        self.mask = soft_ball((self.box_px,) * 2, self.diameter_A / grid.pixel_size_A, edge_px, device)
        radius_px = self.diameter_A / 2 / grid.pixel_size_A + edge_px
        self.object_radius_frac = min(0.5, radius_px / self.box_px)
        self.passes = schedule(options, len(self.rows), grid.length_A, grid.nyquist_px)

    def start(self) -> ClassificationState:
        """References from random subsets of particles at random in-plane angles."""
        k, first = self.options.classes, self.passes[0]
        generator = np.random.default_rng([self.seed, 0])
        rows = np.sort(generator.permutation(self.rows)[: max(first.n_images, 20 * k)])
        sigma2 = noise_from_images(self.observations, rows, first.radius_px)
        transform = self._transform(first.radius_px)
        member = torch.nn.functional.one_hot(torch.as_tensor(np.arange(len(rows)) % k), k).float()
        psi = torch.as_tensor(generator.uniform(0, 2 * np.pi, len(rows)))
        sums = empty_sums(transform.grid, k, self.observations.device)
        lattice = self.observations.lattice.within(first.radius_px)
        for some in batches(np.arange(len(rows)), len(lattice)):
            batch = self.observations.batch(rows[some], first.radius_px)
            noise = torch.as_tensor(sigma2, dtype=torch.float32, device=batch.ft.device)[batch.group][
                :, lattice.shell.long()
            ]
            on_rings = transform.images(batch.ft * (batch.ctf / noise))
            normal = transform.normal(batch.ctf.square() / noise)
            sums = sums + sum_aligned(
                transform.grid, member[some].to(noise.device), psi[some].to(noise.device), on_rings, normal
            )
        half = torch.full((k, transform.grid.n_rings), 0.5, device=sums.count.device)
        images = images_of_rings(transform.grid, filtered_averages(transform.grid, sums, half), self.box_px)
        nothing = empty_sums(transform.grid, k, self.observations.device)
        return ClassificationState(
            0, images * self.mask, (nothing, nothing), sigma2, Assignment.blank(len(self.observations)),
            np.zeros((k, transform.grid.n_rings)), np.zeros(k),
        )  # fmt: skip

    def advance(self, state: ClassificationState) -> ClassificationState:
        """Make the next pass."""
        step = self.passes[state.passes_done]
        generator = np.random.default_rng([self.seed, 1 + state.passes_done])
        radius_px = self._radius_px(step, state)
        transform = self._transform(radius_px, fine_angles=step.last)
        grid = transform.grid
        rows = np.sort(generator.permutation(self.rows)[: step.n_images])
        sigma2 = reaching(self.observations, state.sigma2, rows, radius_px, grid.n_rings)
        polar = rings_of_images(grid, state.images)
        classifier = Classifier(self.observations, radius_px, transform, sigma2, polar, threads=self.threads)
        assignment = state.assignment.copied()
        found = classifier.expectation(rows, self.half_set, self._search(radius_px, step), assignment)
        share = max(0.5, len(rows) / len(self.rows))
        sigma2 = noise_from_residuals(self.observations, sigma2, found, radius_px, share=share)
        return self._maximised(state, step, grid, found, sigma2, assignment)

    def _maximised(
        self,
        state: ClassificationState,
        step: Pass,
        grid: RingGrid,
        found: Expectation,
        sigma2: FloatArray,
        assignment: Assignment,
    ) -> ClassificationState:
        kept = CARRIED_FRAC * (1 - step.n_images / len(self.rows))
        halves = found.halves
        if kept > 0 and state.done and fits(state.carried[0], grid):
            earlier = [on_larger_grid(sums, grid).scaled(kept) for sums in state.carried]
            halves = (halves[0] + earlier[0], halves[1] + earlier[1])
        half_images = [self._masked_images(grid, _unfiltered(grid, half)) for half in halves]
        correlation, signal = half_correlation(grid, [rings_of_images(grid, images) for images in half_images])
        both = halves[0] + halves[1]
        polar = _unfiltered(grid, both)
        if step.centre:
            polar = self._centred(grid, polar, signal, assignment)
        images = self._filtered_images(grid, polar, signal)
        count = both.count.double().cpu().numpy()
        if step.reseed:
            images, halves = self._restarted(grid, images, halves, signal, count)
        return ClassificationState(
            state.passes_done + 1, images, halves, sigma2, assignment, correlation.double().cpu().numpy(), count
        )

    def _masked_images(self, grid: RingGrid, polar: Complex[Tensor, "d r t"]) -> Float[Tensor, "d y x"]:
        return images_of_rings(grid, polar, self.box_px) * self.mask

    def _filtered_images(
        self, grid: RingGrid, polar: Complex[Tensor, "d r t"], passed: Float[Tensor, "d r"]
    ) -> Float[Tensor, "d y x"]:
        """Masked images with a share of their transforms passed at each ring, of each class its own; none beyond."""
        images = self._masked_images(grid, polar)
        factor = spread(passed.to(images.dtype), shell_index_2d(self.box_px, images.device))
        filtered: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * factor, s=images.shape[-2:])
        return filtered

    def _transform(self, radius_px: int, *, fine_angles: bool = False) -> RingTransform:
        grid = ring_grid(radius_px + 0.499, self.object_radius_frac)
        if fine_angles:
            grid = replace(grid, n_angles=2 * grid.n_angles)
        lattice = self.observations.lattice.within(radius_px)
        kx, ky = (k.cpu().double().numpy() for k in (lattice.kx_px, lattice.ky_px))
        return RingTransform(grid, kx, ky, self.observations.device)

    def _radius_px(self, step: Pass, state: ClassificationState) -> int:
        """The radius of the schedule, but little more than the better half of the classes can show."""
        if not state.done:
            return step.radius_px
        shown = class_radius_px(state.correlation, 0.3)
        weight = state.count > SMALL_CLASS_FRAC * state.count.mean()
        allowed = np.percentile(shown[weight], 80) * 1.25 + 1
        return int(max(min(step.radius_px, allowed), self.passes[0].radius_px))

    def _search(self, radius_px: int, step: Pass) -> Search:
        resolution_A = self.observations.grid.length_A / radius_px
        step_A = resolution_A / (8 if step.last else 4)
        range_A = max(step_A, min(self.options.offset_range_A, 2 * step_A))
        return Search(disc_of_shifts(step_A, range_A), self.options.offset_range_A / 2)

    def _centred(
        self, grid: RingGrid, polar: Complex[Tensor, "d r t"], signal: Float[Tensor, "d r"], assignment: Assignment
    ) -> Complex[Tensor, "d r t"]:
        """Move the centre of mass of each class to the origin, and its particles with it."""
        images = self._filtered_images(grid, polar, signal)
        shift_px = -centre_of_mass_px(images)
        points = ring_points(grid, polar.device).flatten(0, 1)
        factors = shift_phases(points[:, 0], points[:, 1], shift_px, float(self.box_px))
        moved = (polar.flatten(1) * factors).view_as(polar)
        shift_A = shift_px.cpu().numpy() * self.observations.grid.pixel_size_A
        seen = assignment.class_index >= 0
        x, y = shift_A[assignment.class_index[seen]].T
        cosine, sine = np.cos(assignment.psi_rad[seen]), np.sin(assignment.psi_rad[seen])
        # The image shows the class turned by Rz(psi).
        assignment.shift_A[seen] += np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=1)
        return moved

    def _restarted(
        self,
        grid: RingGrid,
        images: Float[Tensor, "d y x"],
        halves: tuple[RingSums, RingSums],
        signal: Float[Tensor, "d r"],
        count: FloatArray,
    ) -> tuple[Float[Tensor, "d y x"], tuple[RingSums, RingSums]]:
        """Give up classes that hold next to nothing: each takes over one half of one of the largest."""
        small = np.flatnonzero(count < SMALL_CLASS_FRAC * count.mean())
        if small.size == 0:
            return images, halves
        pairs = min(small.size, len(count) - small.size)
        large, small = np.argsort(-count, kind="stable")[:pairs], small[:pairs]
        first, second = (self._filtered_images(grid, _unfiltered(grid, half), signal) for half in halves)
        images = images.clone()
        images[torch.as_tensor(large)] = first[torch.as_tensor(large)]
        images[torch.as_tensor(small)] = second[torch.as_tensor(large)]
        # Neither has a past: what was summed belonged to the class before it was split.
        keep = torch.ones(len(count), device=images.device)
        keep[torch.as_tensor(np.concatenate([large, small]))] = 0.0
        reset = [
            RingSums(h.numerator * keep[None, :, None, None], h.normal * keep[:, None, None, None], h.count * keep)
            for h in halves
        ]
        return images, (reset[0], reset[1])


def _unfiltered(grid: RingGrid, sums: RingSums) -> Complex[Tensor, "d r t"]:
    """Averages corrected for the CTF, with all that they show but where next to nothing was seen."""
    nearly_all = torch.full((len(sums.count), grid.n_rings), 0.9, device=sums.count.device)
    return filtered_averages(grid, sums, nearly_all)


def centre_of_mass_px(images: Float[Tensor, "d y x"]) -> Float[Tensor, "d 2"]:
    """Centre of mass (x, y) about the origin pixel of what is clearly brighter than the background."""
    bright = (images - 0.2 * images.amax(dim=(1, 2), keepdim=True)).clamp_min(0.0).double()
    total = bright.sum(dim=(1, 2)).clamp_min(1e-30)
    axes = [torch.arange(n, dtype=torch.float64, device=images.device) - n // 2 for n in images.shape[1:]]
    y, x = (bright.sum(dim=2) @ axes[0] / total, bright.sum(dim=1) @ axes[1] / total)
    return torch.stack([x, y], dim=1)


def class_radius_px(correlation: FloatArray, threshold: float) -> FloatArray:
    """Last ring before the ring correlation of each class first falls below a threshold."""
    below = correlation < threshold
    below[:, : N_TAPS // 2] = False
    first = np.where(below.any(axis=1), below.argmax(axis=1), correlation.shape[1])
    radius: FloatArray = np.maximum(first - 1, 1).astype(np.float64)
    return radius
