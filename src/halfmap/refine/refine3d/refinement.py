"""3D refinement of two independent halves: search, insertion, FSC, and again at the resolution that it allows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_THRESHOLD
from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.crop import resample_3d
from halfmap.fourier.fsc import resolution_A
from halfmap.fourier.windows import even_fast_size, soft_ball
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.noise import NoiseModel
from halfmap.refine.images.observations import EDGE_A, Observations
from halfmap.refine.refine3d.half import HalfResult, HalfState, first_noise, iterate
from halfmap.refine.refine3d.options import FIRST_RESOLUTIONS_A, RefineOptions
from halfmap.refine.refine3d.reference import fitted_scale, on_grid
from halfmap.refine.search.poses import Poses, SearchPlan, plan_search
from halfmap.refine.session import Session
from halfmap.refine.volume.local_filter import LocalFilter, bank_of, fit_local_filter, unshrunk
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.refine.volume.regularise import (
    last_trusted_shell,
    masked_fsc,
    resolution_shell,
    ssnr_of_half,
    ssnr_of_whole,
    trusted,
)
from halfmap.refine.work import single_threaded_torch
from halfmap.typing import Array

CHECKPOINT = "refine"
LARGEST_GROWTH = 1.6
"""Resolution of the next search relative to the last one, at most."""
PATIENCE = 2
"""Iterations without a gain after which refinement looks everywhere once more, and ends if that brings nothing."""
GAIN_SHELLS = 0.2
"""What counts as a gain: the area under the FSC, in shells."""
MASK_SHELLS = 2.0
"""Room for what a mask adds to a map's shells, in units of its reciprocal diameter."""
NO_GAIN = 0.9
"""A final resolution worse than this share of the starting one is not evidence of a structure."""
COARSEST_CUTOFF = 1.5
"""What is coarser than this many times the starting resolution is not filtered locally."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Outcome of a refinement.

    Attributes
    ----------
    rows
        Rows of the image set that were used, in order of the poses.
    poses
        Posteriors of their poses.
    half_maps
        Unfiltered maps of the halves.
    map
        From all data, Wiener-filtered by the FSC.
    fsc
        Of the half-maps within the mask.
    fsc_unmasked
        The same without a mask.
    mask
        What the solvent was flattened with.
    resolution_A
        At FSC = 0.143 within the mask.
    iterations
        Facts of each iteration.
    cutoff_A
        Cut-off that the last half-maps support at each place, if regularisation is local.
    """

    rows: Array
    poses: Poses
    half_maps: tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]]
    map: Float[Tensor, "z y x"]
    fsc: Float[Tensor, " shells"]
    fsc_unmasked: Float[Tensor, " shells"]
    mask: Float[Tensor, "z y x"]
    resolution_A: float
    iterations: list[dict[str, Any]]
    cutoff_A: Float[Tensor, "z y x"] | None


@dataclass(eq=False)
class _Progress:
    """What the loop remembers besides the halves."""

    fsc: Tensor
    radius_px: int
    iteration: int = 0
    best_content: float = 0.0
    stalled: int = 0
    closing: bool = False
    """Whether this iteration looks everywhere and inserts all shells, to be the last one unless it gains something."""
    finished: bool = False
    iterations: list[dict[str, Any]] = field(default_factory=list)


class Refinement:
    """A refinement from its start to its end.

    Parameters
    ----------
    observations
        The particles.
    half_set
        1 or 2 for each particle.
    reference
        Starting map.
    mask
        Soft mask on the observations' grid, or None for a sphere of the diameter.
    options
        Declared options (the files that they name are not read here).
    session
        Whoever runs this.

    Raises
    ------
    HalfmapError
        If a half has no usable particles.
    """

    def __init__(
        self,
        observations: Observations,
        half_set: Array,
        reference: Volume,
        mask: Float[Tensor, "z y x"] | None,
        options: RefineOptions,
        session: Session,
    ) -> None:
        self.observations, self.options, self.session = observations, options, session
        self.grid = observations.grid
        usable = observations.usable
        self.rows = [np.flatnonzero((half_set == half) & usable) for half in (1, 2)]
        for half, rows in enumerate(self.rows, start=1):
            if not len(rows):
                raise HalfmapError(f"half {half} has no usable particles", remedy="Leave out the half_set column.")
        pixel_A = self.grid.pixel_size_A
        sphere = soft_ball((self.grid.box_px,) * 3, options.diameter_A / pixel_A, EDGE_A / pixel_A)
        self.mask = sphere if mask is None else mask
        self._sampled_mask = self.mask
        self._reference = reference
        self._started = time.monotonic()

    @property
    def shift_range_A(self) -> float:
        """Largest shift that is searched."""
        given = self.options.shift_range_A
        return given if given is not None else max(0.08 * self.options.diameter_A, 3 * self.grid.pixel_size_A)

    @property
    def initial_resolution_A(self) -> float:
        """What the starting map is low-passed to."""
        given = self.options.initial_resolution_A
        finest_A, coarsest_A = FIRST_RESOLUTIONS_A
        return given if given is not None else min(max(self.options.diameter_A / 4, finest_A), coarsest_A)

    def run(self) -> Refined:
        """Iterate until nothing is gained any more, not even by a search everywhere."""
        with single_threaded_torch():
            halves, progress = self._restored() or self._begin()
            while True:
                results = self._iteration(halves, progress)
                if progress.finished:
                    return self._outcome(results, progress)
                halves = self._next_halves(halves, results, progress)
                self._save(halves, progress)

    # --- one iteration ---------------------------------------------------------------------------

    def _plan(self, half: HalfState, progress: _Progress) -> SearchPlan:
        first = progress.iteration == 1
        range_A = self.shift_range_A if first else self.shift_range_A / 2
        return plan_search(
            self.grid, progress.radius_px, self.options.diameter_A, self.options.symmetry,
            range_A, half.shift_sigma_A, self.session.seed * 1000 + progress.iteration,
        )  # fmt: skip

    def _iteration(self, halves: list[HalfState], progress: _Progress) -> list[HalfResult]:
        progress.iteration += 1
        exhausted = progress.iteration >= self.options.max_iterations
        whole = progress.closing or exhausted
        started = time.process_time()
        nyquist = self.grid.nyquist_px
        ahead = max(progress.radius_px + 10, progress.radius_px * 3 // 2)
        insert_radius = nyquist if whole else min(nyquist, ahead)
        label = f"iteration {progress.iteration}{' (all shells)' if whole else ''}"
        results = []
        with self.session.progress(label, sum(map(len, self.rows))) as ticker:
            for half in halves:
                results.append(
                    iterate(
                        half, self.observations, self._plan(half, progress), diameter_A=self.options.diameter_A,
                        symmetry=self.options.symmetry, insert_radius_px=insert_radius, iteration=progress.iteration,
                        threads=self.session.threads, tick=ticker.advance,
                    )
                )  # fmt: skip
        curve = self._fsc(results, insert_radius)
        self._note(halves, results, curve, progress, time.process_time() - started)
        progress.finished = progress.finished or exhausted
        return results

    def _fsc(self, results: list[HalfResult], radius_px: int) -> Tensor:
        """FSC of the halves within the mask, as far as was inserted: beyond, only the mask's edge correlates."""
        box_px = self._box_px(radius_px)
        first, second = (result.sums.volume(box_px=box_px) for result in results)
        curve = torch.zeros(self.grid.box_px // 2 + 1, dtype=torch.float64)
        curve[: radius_px + 1] = masked_fsc(first, second, self._mask_on(box_px))[: radius_px + 1]
        return curve

    def _box_px(self, radius_px: int) -> int:
        """Voxels along the box of a map with so many shells, and those that a mask adds."""
        added = math.ceil(MASK_SHELLS * self.grid.length_A / self.options.diameter_A)
        return min(self.grid.box_px, even_fast_size(2 * (radius_px + 1 + added)))

    def _mask_on(self, box_px: int) -> Float[Tensor, "z y x"]:
        """The mask on another sampling of its box; the last one is kept, because iterations ask for it twice."""
        if box_px == self.grid.box_px:
            return self.mask
        if self._sampled_mask.shape[0] != box_px:
            self._sampled_mask = resample_3d(self.mask, box_px).clamp(0.0, 1.0)
        return self._sampled_mask

    def _note(
        self, halves: list[HalfState], results: list[HalfResult], curve: Tensor, progress: _Progress, cpu_s: float
    ) -> None:
        """Write down what happened, and decide how the next iteration is done."""
        shell = resolution_shell(curve)
        content = float(trusted(curve)[1:].sum())
        turned = torch.cat([r.turned_rad for r in results])
        moved = torch.cat([r.moved_A for r in results])
        poses = [r.poses for r in results]
        reached_A = resolution_A(curve, FSC_HALF_MAP_THRESHOLD, self.grid.box_px, self.grid.pixel_size_A)
        progress.iterations.append(
            {
                "iteration": progress.iteration,
                "resolution_A": reached_A,
                "search_resolution_A": self.grid.length_A / progress.radius_px,
                "grid_spacing_deg": math.degrees(self._plan(halves[0], progress).spacing_rad),
                "searched_everywhere_frac": float(np.mean([r.searched_everywhere for r in results])),
                "turned_deg": math.degrees(float(turned.median())),
                "moved_A": float(moved.median()),
                "angle_sigma_deg": math.degrees(float(torch.cat([p.sigma_rad for p in poses]).median())),
                "shift_sigma_A": float(torch.cat([p.sigma_A for p in poses]).median()),
                "best_weight": float(torch.cat([p.weight[:, 0] for p in poses]).mean()),
                "log_likelihood": float(torch.cat([p.log_likelihood for p in poses]).mean()),
                "cpu_s": cpu_s,
            }
        )
        facts = progress.iterations[-1]
        self.session.log(
            f"iteration {progress.iteration}: {reached_A:.2f} Å, searched to {facts['search_resolution_A']:.2f} Å, "
            f"{facts['searched_everywhere_frac']:.0%} everywhere, poses turned by {facts['turned_deg']:.2f}° and moved "
            f"by {facts['moved_A']:.2f} Å (median), {cpu_s:.1f} s of CPU"
        )
        gained = content > progress.best_content + GAIN_SHELLS
        progress.best_content = content if gained else progress.best_content
        progress.stalled = 0 if gained else progress.stalled + 1
        progress.fsc = curve
        largest = math.ceil(LARGEST_GROWTH * progress.radius_px)
        progress.radius_px = min(max(shell, 4), largest, self.grid.nyquist_px)
        # Before the end every particle is searched everywhere once more: some settled on too poor a map.
        progress.finished = progress.closing and not gained
        progress.closing = progress.stalled >= PATIENCE

    def _next_halves(self, halves: list[HalfState], results: list[HalfResult], progress: _Progress) -> list[HalfState]:
        join = self.grid.shell_of_resolution(self.options.join_below_A) if self.options.join_below_A else 0.0
        joined = results[0].sums.joined_below(results[1].sums, join)
        mask = self._mask_on(self._box_px(joined[0].radius_px))
        return [
            HalfState(
                half.rows, reference * mask, result.poses.rot_img_from_map[:, 0].clone(),
                result.poses.shift_A[:, 0].clone(), result.settled & (not progress.closing), result.noise,
                result.shift_sigma_A,
            )
            for half, result, reference in zip(halves, results, self._regularised(joined, progress.fsc), strict=True)
        ]  # fmt: skip

    def _regularised(
        self, joined: tuple[Accumulator, Accumulator], curve: Tensor
    ) -> tuple[Float[Tensor, "z y x"], Float[Tensor, "z y x"]]:
        """Both halves' maps, filtered for the next search."""
        ssnr, box_px = ssnr_of_half(curve), self._box_px(joined[0].radius_px)
        half1, half2 = (sums.volume(ssnr, box_px) for sums in joined)
        if self.options.regularisation == "uniform":
            return half1, half2
        half1, half2 = unshrunk(half1, ssnr), unshrunk(half2, ssnr)
        chosen = self._local_filter(half1, half2, curve)
        return chosen.applied(half1), chosen.applied(half2)

    def _local_filter(self, half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], curve: Tensor) -> LocalFilter:
        """Local filters between the starting resolution, or where the halves are joined, and the last trusted shell."""
        mask = self._mask_on(half1.shape[0])
        start, join_A = self.grid.length_A / (COARSEST_CUTOFF * self.initial_resolution_A), self.options.join_below_A
        coarsest = max(start, self.grid.shell_of_resolution(join_A)) if join_A else start
        chosen = fit_local_filter(half1, half2, mask, bank_of(coarsest, last_trusted_shell(curve) + 1.0))
        low, middle, high = np.percentile(self._cutoff_A(chosen)[mask > 0.5].cpu().numpy(), (10, 50, 90))
        self.session.log(f"local filters: {middle:.1f} Å (median), {low:.1f} to {high:.1f} Å for most of the mask")
        return chosen

    def _cutoff_A(self, chosen: LocalFilter) -> Float[Tensor, "z y x"]:
        return self.grid.length_A / chosen.cutoff_px()

    # --- start, checkpoints, end -----------------------------------------------------------------

    def _begin(self) -> tuple[list[HalfState], _Progress]:
        options, session = self.options, self.session
        start_A = self.initial_resolution_A
        radius = max(4, math.floor(self.grid.shell_of_resolution(start_A)))
        box_px = self._box_px(radius)
        volume = on_grid(self._reference, MapGrid(box_px, self.grid.length_A / box_px), options.diameter_A, start_A)
        nothing = torch.zeros(self.grid.box_px // 2 + 1, dtype=torch.float64)
        progress = _Progress(nothing, min(radius, self.grid.nyquist_px))
        session.log(
            f"reference: {self._reference.data.shape[0]} px of {self._reference.pixel_size_A:.4g} Å brought to "
            f"{self.grid.box_px} px of {self.grid.pixel_size_A:.4g} Å, low-passed to {start_A:.3g} Å, "
            f"set to zero outside {options.diameter_A:g} Å"
        )
        halves = []
        for number, rows in enumerate(self.rows, start=1):
            noise = first_noise(self.observations, rows)
            plan = plan_search(
                self.grid, progress.radius_px, options.diameter_A, options.symmetry,
                self.shift_range_A, self.shift_range_A, session.seed * 1000,
            )  # fmt: skip
            fits = [
                fitted_scale(
                    volume * sign, self.observations, rows, noise, plan,
                    diameter_A=options.diameter_A, symmetry=options.symmetry, threads=session.threads,
                )
                for sign in (1.0, -1.0)
            ]  # fmt: skip
            best = max(fits, key=lambda fit: fit.likelihood_gain)
            inverted = best is fits[1]
            # On the grid of the maps that are written; a coarser one has the same transform and other grey values.
            factor = (-best.scale if inverted else best.scale) * (box_px / self.grid.box_px) ** 3
            session.log(f"half {number}: grey values of the reference multiplied by {factor:.4g}")
            if inverted:
                session.warn(
                    f"half {number}: the particles fit the reference better with its contrast inverted "
                    f"(log-likelihood gain {fits[1].likelihood_gain:.1f} against {fits[0].likelihood_gain:.1f}); "
                    "it was inverted."
                )
            halves.append(_unsearched(rows, best.reference, noise, self.shift_range_A))
        return halves, progress

    def _save(self, halves: list[HalfState], progress: _Progress) -> None:
        arrays: dict[str, Any] = {"fsc": progress.fsc.numpy()}
        for number, half in enumerate(halves, start=1):
            for name in ("reference", "rot_img_from_map", "shift_A", "settled"):
                arrays[f"{name}_{number}"] = getattr(half, name).numpy()
            arrays[f"sigma2_{number}"] = half.noise.sigma2.numpy()
            arrays[f"scale_{number}"] = half.noise.scale.numpy()
        facts = {
            "shift_sigma_A": [half.shift_sigma_A for half in halves],
            **{name: getattr(progress, name) for name in _KEPT},
        }
        self.session.save_checkpoint(CHECKPOINT, progress.iteration, arrays, facts)

    def _restored(self) -> tuple[list[HalfState], _Progress] | None:
        found = self.session.load_checkpoint(CHECKPOINT)
        if found is None:
            return None
        index, arrays, facts = found
        self.session.log(f"continued after iteration {index}")
        share = self.observations.information_frac()
        tensors = {name: torch.as_tensor(values) for name, values in arrays.items()}
        halves = [
            HalfState(
                self.rows[i - 1], tensors[f"reference_{i}"], tensors[f"rot_img_from_map_{i}"], tensors[f"shift_A_{i}"],
                tensors[f"settled_{i}"], NoiseModel(tensors[f"sigma2_{i}"], tensors[f"scale_{i}"], share),
                facts["shift_sigma_A"][i - 1],
            )
            for i in (1, 2)
        ]  # fmt: skip
        return halves, _Progress(tensors["fsc"], **{name: facts[name] for name in _KEPT})

    def _outcome(self, results: list[HalfResult], progress: _Progress) -> Refined:
        half1, half2 = (result.sums.volume() for result in results)
        whole = results[0].sums.plus(results[1].sums).volume(ssnr_of_whole(progress.fsc))
        everything = torch.ones_like(self.mask)
        reached_A = resolution_A(progress.fsc, FSC_HALF_MAP_THRESHOLD, self.grid.box_px, self.grid.pixel_size_A)
        local = self.options.regularisation == "local"
        cutoff_A = self._cutoff_A(self._local_filter(half1, half2, progress.fsc)) if local else None
        refined = Refined(
            np.concatenate(self.rows), _joined([result.poses for result in results]), (half1, half2), whole,
            progress.fsc, masked_fsc(half1, half2, everything), self.mask, reached_A, progress.iterations,
            cutoff_A,
        )  # fmt: skip
        self._judge(refined)
        return refined

    def _judge(self, refined: Refined) -> None:
        """Say so where the result is no evidence of a structure."""
        if refined.resolution_A > NO_GAIN * self.initial_resolution_A:
            self.session.warn(
                f"The halves agree to {refined.resolution_A:.1f} Å only, no further than the starting map was given "
                f"({self.initial_resolution_A:.3g} Å): this is what pure noise gives. The map repeats the reference."
            )
        if len(refined.iterations) >= self.options.max_iterations:
            self.session.warn(f"Ended after {self.options.max_iterations} iterations, perhaps before convergence.")


_KEPT = ("radius_px", "iteration", "best_content", "stalled", "closing", "iterations")


def _unsearched(rows: Array, reference: Tensor, noise: NoiseModel, shift_sigma_A: float) -> HalfState:
    n = len(rows)
    eye = torch.eye(3, dtype=torch.float64).expand(n, 3, 3).clone()
    nowhere = torch.zeros(n, 2, dtype=torch.float64)
    return HalfState(rows, reference, eye, nowhere, torch.zeros(n, dtype=torch.bool), noise, shift_sigma_A)


def _joined(parts: list[Poses]) -> Poses:
    names = ("rot_img_from_map", "shift_A", "weight", "log_likelihood", "sigma_rad", "sigma_A")
    return Poses(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
