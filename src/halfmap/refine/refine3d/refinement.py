"""3D refinement of two independent halves: search, insertion, FSC, and again at the resolution that it allows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_RECOVERED, FSC_HALF_MAP_THRESHOLD
from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import Independence, resolution_A
from halfmap.fourier.threads import single_threaded_torch
from halfmap.fourier.windows import even_fast_size
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.noise import NoiseModel
from halfmap.refine.images.observations import Observations
from halfmap.refine.refine3d.half import HalfResult, HalfState, first_noise, iterate, unsearched
from halfmap.refine.refine3d.local import focus_of
from halfmap.refine.refine3d.options import FIRST_RESOLUTIONS_A, RefineOptions
from halfmap.refine.refine3d.reference import fitted_scale, on_grid
from halfmap.refine.refine3d.regulariser import Regulariser
from halfmap.refine.refine3d.solvent import Solvent
from halfmap.refine.refine3d.verdict import own_resolution_A, verdict
from halfmap.refine.search.poses import Poses, SearchPlan, plan_search
from halfmap.refine.search.prior import GivenPoses
from halfmap.refine.session import Session
from halfmap.refine.volume.regularise import corrected_fsc, masked_fsc, own_fsc, reach, ssnr_of_whole, trusted
from halfmap.typing import Array

CHECKPOINT = "refine"
LARGEST_GROWTH = 1.6
"""Resolution of the next search relative to the last one, at most."""
PATIENCE = 2
"""Iterations without a gain after which refinement looks everywhere once more, and ends if that brings nothing."""
REST = 0.5
"""One such iteration is enough if poses moved by less than this share of their own uncertainty (medians)."""
GAIN_SHELLS = 0.2
"""What counts as a gain: the area under the FSC, in shells."""
MASK_SHELLS = 2.0
"""Room for what a mask adds to a map's shells, in units of its reciprocal diameter."""
SIGMAS_SEARCHED = 3.0
"""Room for shifts in a search near given poses, in standard deviations."""


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
        Of the half-maps within the mask, corrected for it.
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


@dataclass(frozen=True, eq=False)
class Present:
    """A refinement between two iterations.

    Attributes
    ----------
    rows, rot_img_from_map, shift_A
        Rows of the image set, and their poses.
    map
        Mean of the references of the halves, on the sampling that their shells need.
    pixel_size_A
        Of the map.
    fsc
        Of the last iteration.
    iterations
        Facts of each iteration.
    """

    rows: Array
    rot_img_from_map: Float[Tensor, "n 3 3"]
    shift_A: Float[Tensor, "n 2"]
    map: Float[Tensor, "z y x"]
    pixel_size_A: float
    fsc: Float[Tensor, " shells"]
    iterations: list[dict[str, Any]]


@dataclass(eq=False)
class _Progress:
    """What the loop remembers besides the halves."""

    fsc: Tensor
    radius_px: int
    iteration: int = 0
    best_content: float = 0.0
    stalled: int = 0
    climbed_px: int = 0
    """Shells of the search of the iteration before."""
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
    given
        Poses that the particles are held near to, ``[n]`` in the order of the observations; None for a global search.
    look
        Writes the present state into a folder and returns figures of it, for those who look in; None for nobody.
    threads
        Batches worked on at once; those of the session if not given. The result does not depend on it.

    Raises
    ------
    HalfmapError
        If a half has no usable particles, or the fulcrum lies outside the box.
    """

    def __init__(
        self,
        observations: Observations,
        half_set: Array,
        reference: Volume,
        mask: Float[Tensor, "z y x"] | None,
        options: RefineOptions,
        session: Session,
        given: GivenPoses | None = None,
        threads: int | None = None,
        look: Callable[[Path, Present], Mapping[str, Any]] | None = None,
    ) -> None:
        self.observations, self.options, self.session = observations, options, session
        self.look = look
        self.threads = session.threads if threads is None else threads
        self.grid = observations.grid
        usable = observations.usable
        self.rows = [np.flatnonzero((half_set == half) & usable) for half in (1, 2)]
        for half, rows in enumerate(self.rows, start=1):
            if not len(rows):
                raise HalfmapError(f"half {half} has no usable particles", remedy="Leave out the half_set column.")
        self.solvent = Solvent(self.grid, options.diameter_A, mask, options.tighten_mask, observations.device)
        self.focus = focus_of(options, mask, self.grid)
        self.given = [None if given is None else given.of(rows) for rows in self.rows]
        self._masks_reference = mask is not None
        self.regulariser = Regulariser(self.grid, self.solvent, options, self.initial_resolution_A, session)
        self._reference = reference
        self._started = time.monotonic()

    @property
    def shift_range_A(self) -> float:
        """Largest shift that is searched."""
        return shift_range_A(self.options, self.grid.pixel_size_A)

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
                    break
                halves = self._next_halves(halves, results, progress)
                del results  # Their sums are large, and the next iteration makes its own.
                self._save(halves, progress)
                if self.look is not None:
                    self.session.show(partial(self._shown, self.look, halves, progress))
            refined = self._outcome(results, progress)
            del results
            return self._judged(refined)

    # --- one iteration ---------------------------------------------------------------------------

    def _plan(self, half: HalfState, progress: _Progress) -> SearchPlan:
        first = progress.iteration == 1
        range_A = self.shift_range_A if first else self.shift_range_A / 2
        return plan_search(
            self.grid, progress.radius_px, self.focus.diameter_A, self.options.symmetry,
            range_A, half.shift_sigma_A, self.session.seed * 1000 + progress.iteration, progress.climbed_px,
        )  # fmt: skip

    def _ahead_px(self, progress: _Progress) -> int:
        """Shells to insert: some more than were searched with, to see whether they have become better."""
        return min(self.grid.nyquist_px, max(progress.radius_px + 10, progress.radius_px * 3 // 2))

    def _iteration(self, halves: list[HalfState], progress: _Progress) -> list[HalfResult]:
        progress.iteration += 1
        exhausted = progress.iteration >= self.options.max_iterations
        whole = progress.closing or exhausted
        started = time.process_time()
        insert_radius = self.grid.nyquist_px if whole else self._ahead_px(progress)
        label = f"iteration {progress.iteration}{' (all shells)' if whole else ''}"
        results = []
        with self.session.progress(label, sum(map(len, self.rows))) as ticker:
            for half in halves:
                results.append(
                    iterate(
                        half, self.observations, self._plan(half, progress), focus=self.focus,
                        symmetry=self.options.symmetry, insert_radius_px=insert_radius, iteration=progress.iteration,
                        threads=self.threads, tick=ticker.advance,
                    )
                )  # fmt: skip
        curve = self._fsc(results, insert_radius, progress.fsc)
        self._note(halves, results, curve, progress, time.process_time() - started)
        progress.finished = progress.finished or exhausted
        return results

    def _fsc(self, results: list[HalfResult], radius_px: int, before: Tensor) -> Tensor:
        """FSC of the halves within the mask, as far as was inserted: beyond, only the mask's edge correlates."""
        box_px = self._box_px(radius_px)
        first, second = (result.sums.volume(box_px=box_px) for result in results)
        left = self.solvent.follow((first + second) / 2, self._resolution_A(before))
        if left is not None:
            self.session.log(left)
        curve = torch.zeros(self.grid.box_px // 2 + 1, dtype=torch.float64)
        curve[: radius_px + 1] = corrected_fsc(first, second, self.solvent.on(box_px))[: radius_px + 1]
        return curve

    def _resolution_A(self, curve: Tensor) -> float:
        return resolution_A(
            curve, FSC_HALF_MAP_THRESHOLD, self.grid.box_px, self.grid.pixel_size_A, self._independence(),
            FSC_HALF_MAP_RECOVERED,
        )  # fmt: skip

    def _trusted(self, curve: Tensor) -> Tensor:
        return trusted(curve, self._independence())

    def _independence(self) -> Independence:
        """Of the shells of an FSC within the mask and under the symmetry."""
        frac = self.solvent.volume_frac() / len(point_group(self.options.symmetry))
        return Independence(self.solvent.joined_shells(), frac)

    def _box_px(self, radius_px: int) -> int:
        """Voxels along the box of a map with so many shells, and those that a mask adds."""
        added = math.ceil(MASK_SHELLS * self.grid.length_A / self.options.diameter_A)
        return min(self.grid.box_px, even_fast_size(2 * (radius_px + 1 + added)))

    def _note(
        self, halves: list[HalfState], results: list[HalfResult], curve: Tensor, progress: _Progress, cpu_s: float
    ) -> None:
        """Write down what happened, and decide how the next iteration is done."""
        shell = reach(curve, FSC_HALF_MAP_THRESHOLD, self._independence())
        # Of the shells that every iteration inserts: what the last one adds beyond is no gain.
        content = float(self._trusted(curve)[1 : self._ahead_px(progress) + 1].sum())
        turned = torch.cat([r.turned_rad for r in results])
        moved = torch.cat([r.moved_A for r in results])
        poses = [r.poses for r in results]
        reached_A = self._resolution_A(curve)
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
                "fsc_shells": content,
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
        progress.best_content = max(content, progress.best_content)
        at_rest = (
            facts["turned_deg"] < REST * facts["angle_sigma_deg"] and facts["moved_A"] < REST * facts["shift_sigma_A"]
        )
        progress.stalled = 0 if gained else progress.stalled + (PATIENCE if at_rest else 1)
        progress.fsc = curve
        progress.climbed_px = progress.radius_px
        largest = math.ceil(LARGEST_GROWTH * progress.radius_px)
        progress.radius_px = min(max(shell, 4), largest, self.grid.nyquist_px)
        # Before the end every particle is searched everywhere once more: some settled on too poor a map.
        progress.finished = progress.closing and not gained
        progress.closing = progress.stalled >= PATIENCE

    def _next_halves(self, halves: list[HalfState], results: list[HalfResult], progress: _Progress) -> list[HalfState]:
        join = self.grid.shell_of_resolution(self.options.join_below_A) if self.options.join_below_A else 0.0
        results[0].sums.join_below(results[1].sums, join)
        sums = (results[0].sums, results[1].sums)
        references = self.regulariser.references(sums, self._trusted(progress.fsc), self._box_px(sums[0].radius_px))
        return [
            HalfState(
                half.rows, reference, result.poses.rot_img_from_map[:, 0].clone(),
                result.poses.shift_A[:, 0].clone(), result.settled & (not progress.closing), result.noise,
                result.shift_sigma_A, half.given,
            )
            for half, result, reference in zip(halves, results, references, strict=True)
        ]  # fmt: skip

    def _shown(
        self,
        look: Callable[[Path, Present], Mapping[str, Any]],
        halves: list[HalfState],
        progress: _Progress,
        folder: Path,
    ) -> Mapping[str, Any]:
        rot, shift_A = (torch.cat([getattr(half, name) for half in halves]) for name in ("rot_img_from_map", "shift_A"))
        mean = (halves[0].reference + halves[1].reference) / 2
        pixel_size_A = self.grid.length_A / mean.shape[0]
        rows = np.concatenate(self.rows)
        return look(folder, Present(rows, rot, shift_A, mean, pixel_size_A, progress.fsc, progress.iterations))

    # --- start, checkpoints, end -----------------------------------------------------------------

    def _begin(self) -> tuple[list[HalfState], _Progress]:
        options, session = self.options, self.session
        start_A = self.initial_resolution_A
        radius = max(4, math.floor(self.grid.shell_of_resolution(start_A)))
        box_px = self._box_px(radius)
        volume = on_grid(self._reference, MapGrid(box_px, self.grid.length_A / box_px), options.diameter_A, start_A)
        if self._masks_reference:
            volume = volume * self.solvent.on(box_px).to(volume)
        nothing = torch.zeros(self.grid.box_px // 2 + 1, dtype=torch.float64)
        progress = _Progress(nothing, min(radius, self.grid.nyquist_px))
        session.log(
            f"reference: {self._reference.data.shape[0]} px of {self._reference.pixel_size_A:.4g} Å brought to "
            f"{self.grid.box_px} px of {self.grid.pixel_size_A:.4g} Å, low-passed to {start_A:.3g} Å, "
            f"set to zero outside {options.diameter_A:g} Å"
        )
        halves = []
        for number, (rows, given) in enumerate(zip(self.rows, self.given, strict=True), start=1):
            noise = first_noise(self.observations, rows)
            plan = plan_search(
                self.grid, progress.radius_px, self.focus.diameter_A, options.symmetry,
                self.shift_range_A, self.shift_range_A, session.seed * 1000,
            )  # fmt: skip
            fits = [
                fitted_scale(
                    volume * sign, self.observations, rows, noise, plan,
                    focus=self.focus, symmetry=options.symmetry, threads=self.threads, given=given,
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
            halves.append(unsearched(rows, best.reference, noise, self.shift_range_A, given))
        return halves, progress

    def _save(self, halves: list[HalfState], progress: _Progress) -> None:
        arrays: dict[str, Any] = {"fsc": progress.fsc.numpy(), "mask": self.solvent.mask.cpu().numpy()}
        for number, half in enumerate(halves, start=1):
            for name in ("reference", "rot_img_from_map", "shift_A", "settled"):
                arrays[f"{name}_{number}"] = getattr(half, name).cpu().numpy()
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
        self.solvent.keep(torch.as_tensor(arrays["mask"]))
        share = self.observations.information_frac()
        tensors = {name: torch.as_tensor(values) for name, values in arrays.items()}
        halves = [
            HalfState(
                self.rows[i - 1], tensors[f"reference_{i}"], tensors[f"rot_img_from_map_{i}"], tensors[f"shift_A_{i}"],
                tensors[f"settled_{i}"], NoiseModel(tensors[f"sigma2_{i}"], tensors[f"scale_{i}"], share),
                facts["shift_sigma_A"][i - 1], self.given[i - 1],
            )
            for i in (1, 2)
        ]  # fmt: skip
        return halves, _Progress(tensors["fsc"], **{name: facts[name] for name in _KEPT})

    def _outcome(self, results: list[HalfResult], progress: _Progress) -> Refined:
        half1, half2 = (result.sums.volume() for result in results)
        curve = self._trusted(progress.fsc)
        sums = (results[0].sums, results[1].sums)
        cutoff_A = self.regulariser.cutoff_A(sums, curve) if self.regulariser.is_local else None
        results[0].sums.add(results[1].sums)
        whole = results[0].sums.volume(ssnr_of_whole(curve))
        everything = torch.ones_like(whole)
        reached_A = self._resolution_A(progress.fsc)
        return Refined(
            np.concatenate(self.rows), _joined([result.poses for result in results]), (half1, half2), whole,
            progress.fsc, masked_fsc(half1, half2, everything).cpu(), self.solvent.on(self.grid.box_px), reached_A,
            progress.iterations, cutoff_A,
        )  # fmt: skip

    def _judged(self, refined: Refined) -> Refined:
        """Say so where the result is no evidence of a structure, and state no resolution that a mask spread."""
        given_A = self.initial_resolution_A
        given_px = min(math.floor(self.grid.shell_of_resolution(given_A)), self.grid.nyquist_px)
        own = own_fsc(*refined.half_maps, refined.mask, given_px)
        own_A = own_resolution_A(own, self.grid, self._independence())
        stated_A, doubt = verdict(refined.resolution_A, own_A, given_A)
        if doubt:
            self.session.warn(f"{doubt}: this is what pure noise gives. The map repeats the reference.")
        if len(refined.iterations) >= self.options.max_iterations:
            self.session.warn(f"Ended after {self.options.max_iterations} iterations, perhaps before convergence.")
        return replace(refined, resolution_A=stated_A)


def shift_range_A(options: RefineOptions, pixel_size_A: float) -> float:
    """Largest shift that is searched: as asked for, or as given poses leave it, or a share of the diameter."""
    if options.shift_range_A is not None:
        return options.shift_range_A
    if options.local_angle_deg is not None or options.relax_symmetry is not None:
        return SIGMAS_SEARCHED * options.local_shift_A
    return max(0.08 * options.diameter_A, 3 * pixel_size_A)


_KEPT = ("radius_px", "iteration", "best_content", "stalled", "climbed_px", "closing", "iterations")


def _joined(parts: list[Poses]) -> Poses:
    names = ("rot_img_from_map", "shift_A", "weight", "log_likelihood", "sigma_rad", "sigma_A")
    return Poses(*(torch.cat([getattr(part, name) for part in parts]) for name in names))
