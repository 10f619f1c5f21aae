"""An ab initio reconstruction's inputs and outputs as files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet, Volume
from halfmap.fourier.crop import pad_3d, resample_3d
from halfmap.fourier.fsc import resolution_A
from halfmap.fourier.threads import single_threaded_torch
from halfmap.geometry.rotations import euler_from_matrix
from halfmap.io.mrc import write_volume
from halfmap.io.relion import write_image_set
from halfmap.io.star import StarBlock, write_star
from halfmap.refine.abinitio.class_outputs import ranked, with_classes, write_classes
from halfmap.refine.abinitio.fine import TOGETHER, FineSearch
from halfmap.refine.abinitio.hypothesis import Hypothesis
from halfmap.refine.abinitio.options import AbInitioOptions
from halfmap.refine.abinitio.own_symmetry import found_group, turned_map, turned_poses
from halfmap.refine.abinitio.rounds import Tournament
from halfmap.refine.abinitio.schedule import FINE_ROUNDS, Step, fine_steps, schedule
from halfmap.refine.abinitio.search import MOST_SHIFTS, AbInitio, order_of_views
from halfmap.refine.images.close_up import CloseUp
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.sources import WorkingSource, close_ups, half_sets, native_box_px, working_source
from halfmap.refine.memory import MemoryPlan, planned, rings_need
from halfmap.refine.session import Session
from halfmap.typing import Array, PathLike

CHECKPOINT = "abinitio"
FIRST_RESOLUTION_A, FINE_RESOLUTION_A = 12.0, 9.0
"""Finest resolutions where none is asked for: the second where views are not told apart at the first."""
TRIED_RESOLUTIONS_A = (40.0, 32.0, 26.0, 21.0, 17.0, 14.0, 12.0, 10.5)
TOLD_APART = 2.0
"""Gain in log-likelihood over the spherical average from which on the views of a particle count as told apart."""
CLOSE_FRAC = 0.02
"""Starts whose log-likelihoods differ by less than this share count as the same answer."""


def reconstruct_particles(
    images: ImageSet, star: PathLike, options: AbInitioOptions, folder: Path, device: str, session: Session
) -> dict[str, Any]:
    """Find a first map and write ``map.mrc``, ``particles.star`` and ``starts.star`` into a folder.

    With several classes ``map.mrc`` is the map of the largest one, and ``class_outputs`` says what else is written.
    Without symmetry, the point group that the map has by itself is sought, and map and poses are in its frame.

    Parameters
    ----------
    images
        The particles.
    star
        The file that they were read from.
    options
        Declared options.
    folder
        Where outputs go.
    device
        Where to compute.
    session
        Whoever runs this.

    Returns
    -------
    Figures for the record of the job.

    Notes
    -----
    All particles are written; those beyond ``options.max_particles`` are not looked at and get no pose.
    """
    used = np.sort(np.random.default_rng([session.seed, 0]).permutation(len(images))[: options.max_particles])
    if len(used) < len(images):
        session.log(f"{len(used)} of {len(images)} particles are taken to find the map; the others get no pose")
    some = images.select(used)
    finest_A = options.resolution_A or FINE_RESOLUTION_A
    source = working_source(some, star, options.diameter_A, finest_A, session)
    plan = _planned(source, finest_A, options, len(images), session)
    plan.tell(session)
    slack_A = 2 * options.offset_range_A
    observations, native = close_ups(source, slack_A, plan.transforms_GB, folder, device, session), source.native
    half_set = np.asarray(half_sets(some, session))
    with single_threaded_torch():
        search = _searched(observations, half_set, options, session, plan.threads)
        told_apart_A = search.told_apart_A()
    grid = observations.grid
    result = ranked(search.best)
    reached_A = _reached_A(result, grid, grid.length_A / search.step.radius_px)
    volumes = [resample_3d(pad_3d(v.cpu(), native_box_px(grid, native)), native.box_px) for v in result.volumes]
    figures: dict[str, Any] = {}
    if search.run.symmetry == "C1" and options.classes == 1 and search.shape_gain >= TOLD_APART:
        result, volumes[0], figures = _in_own_frame(result, volumes[0], native.pixel_size_A, reached_A[0], session)
    maps = [Volume(volume.numpy(), native.pixel_size_A) for volume in volumes]
    write_volume(folder / "map.mrc", maps[0])
    particles = _with_poses(images, result, used)
    if options.classes > 1:
        figures = write_classes(folder, maps, result, reached_A, session)
        particles = with_classes(particles, result, used)
    write_image_set(folder / "particles.star", particles)
    write_star(folder / "starts.star", {"starts": _starts_block(search.scores)})
    session.log("the hand of the map is undetermined: projections do not tell it")
    return (
        {
            "items_in": len(images),
            "items_out": len(images),
            "used_particles": len(used),
            "resolution_A": round(float(reached_A[0]), 1),
            "planned_memory_GB": round(plan.peak_GB, 3),
        }
        | _figures(search, told_apart_A, session)
        | figures
    )


def _in_own_frame(
    result: Hypothesis, volume: Float[Tensor, "n n n"], pixel_size_A: float, resolution_A: float, session: Session
) -> tuple[Hypothesis, Float[Tensor, "n n n"], dict[str, Any]]:
    """A hypothesis and its map in the frame of the symmetry that the map has by itself, and what is said of that."""
    group = found_group(volume, pixel_size_A, resolution_A, session)
    if group is None:
        return result, volume, {"symmetry_found": "C1"}
    figures = {"symmetry_found": group.name, "symmetry_correlation": round(group.worst, 3)}
    return turned_poses(result, group), turned_map(volume, pixel_size_A, group), figures


def _figures(search: _Searched, told_apart_A: float | None, session: Session) -> dict[str, Any]:
    """What the record of the job says of the search itself."""
    return {
        "symmetry": search.run.symmetry,
        "starts": len(search.scores),
        "agreeing_starts": _agreeing(search.scores, session) if search.compared else None,
        "shape_gain": round(search.shape_gain, 2),
        "told_apart_A": None if told_apart_A is None else round(told_apart_A, 1),
        "hand": "undetermined",
    }


def _reached_A(result: Hypothesis, grid: MapGrid, finest_A: float) -> list[float]:
    """Where the half-maps of each class agree by half, not finer than what was looked at."""
    curves = torch.as_tensor(result.correlation)
    return [max(resolution_A(curve, 0.5, grid.box_px, grid.pixel_size_A), finest_A) for curve in curves]


def _planned(
    source: WorkingSource, resolution_A: float, options: AbInitioOptions, n_rows: int, session: Session
) -> MemoryPlan:
    """Memory of the search at its finest resolution, without symmetry: every other start begins so."""
    order = order_of_views(2 * resolution_A / source.diameter_A, 1)
    need = rings_need(
        source, resolution_A, 2 * options.offset_range_A, options.classes * 12 * 4**order, MOST_SHIFTS,
        angles=1, searches=min(TOGETHER, session.threads), n_rows=n_rows,
    )  # fmt: skip
    return planned(need, session.memory_GB, session.threads)


def _agreeing(scores: Array, session: Session) -> int:
    """How many of the starts came to the same likelihood as the best one."""
    agreeing = int((scores >= scores.max() - CLOSE_FRAC * abs(scores.max())).sum())
    session.log(f"{agreeing} of {len(scores)} random starts came to the same likelihood as the best")
    if agreeing == 1 and len(scores) > 1:
        session.warn(
            "only one of the random starts reached the best likelihood; run again with another --seed to be sure"
        )
    return agreeing


@dataclass(frozen=True)
class _Searched:
    """The search that was done last, its last step, its best map, and what the starts reached.

    ``compared`` says whether each start came to its end, so that their likelihoods tell whether they agree.
    """

    run: AbInitio
    step: Step
    best: Hypothesis
    scores: Array
    compared: bool
    shape_gain: float

    def told_apart_A(self) -> float | None:
        """The coarsest resolution at which the map tells views apart; None if it never does."""
        finest_A = self.run.observations.grid.length_A / self.step.radius_px
        for limit_A in (*(tried_A for tried_A in TRIED_RESOLUTIONS_A if tried_A > finest_A), finest_A):
            if self.run.shape_gain(self.best, self.step, limit_A) >= TOLD_APART:
                return limit_A
        return None


def _searched(
    observations: CloseUp, half_set: Array, options: AbInitioOptions, session: Session, threads: int
) -> _Searched:
    """To the resolution asked for; if none is, to a first one, and on to a finer one where the views need it."""
    run = AbInitio(observations, half_set, options, session.seed, threads=threads)
    count, grid = len(run.rows), observations.grid
    first_A = options.resolution_A or FIRST_RESOLUTION_A
    rounds = schedule(options, first_A, count, grid.length_A, grid.nyquist_px)
    tournament = Tournament(run, rounds, CHECKPOINT, options.starts, session)
    best = tournament.outcome()
    gain = _judged(run, best, tournament.steps[-1], session)
    found = _Searched(run, tournament.steps[-1], best, tournament.scores(), True, gain)
    if options.resolution_A is None and found.shape_gain < TOLD_APART:
        session.log(
            f"down to {first_A:g} Å particles fit the map no better than its average over all directions: the search "
            f"starts anew at {FINE_RESOLUTION_A:g} Å"
        )
        climbing, last = fine_steps(
            FINE_RESOLUTION_A, observations.diameter_A, count, grid.length_A, grid.nyquist_px
        )  # fmt: skip
        most_rounds = FINE_ROUNDS * options.starts
        fine = FineSearch(run, climbing, last, TOLD_APART, f"{CHECKPOINT}-fine", most_rounds, session)
        best = fine.outcome()
        found = _Searched(run, last, best, fine.scores(), False, _judged(run, best, last, session))
    if found.shape_gain < TOLD_APART:
        session.warn(
            f"particles fit the map hardly better than its average over all directions (a gain of "
            f"{found.shape_gain:.2f} in log-likelihood): their views are not told apart, do not trust this map"
        )
    return found


def _judged(run: AbInitio, best: Hypothesis, step: Step, session: Session) -> float:
    gain = run.shape_gain(best, step)
    session.log(f"particles fit the map better than its average over all directions by {gain:.2f} in log-likelihood")
    return gain


def _with_poses(particles: ImageSet, best: Hypothesis, used: Array) -> ImageSet:
    """All particles; those that were not used have pose 0 and a largest posterior of 0."""
    seen = best.assignment.class_index >= 0
    rows = used[seen]
    euler = euler_from_matrix(torch.as_tensor(best.rot_img_from_map[seen])).numpy()
    found = {
        "rot_rad": euler[:, 0],
        "tilt_rad": euler[:, 1],
        "psi_rad": euler[:, 2],
        "shift_x_A": best.assignment.shift_A[seen, 0],
        "shift_y_A": best.assignment.shift_A[seen, 1],
        "max_posterior": best.assignment.max_posterior[seen],
        "log_likelihood_contribution": best.assignment.log_likelihood[seen],
    }
    columns = {}
    for name, values in found.items():
        columns[name] = np.zeros(len(particles))
        columns[name][rows] = values
    return particles.with_columns(**columns)


def _starts_block(scores: Array) -> StarBlock:
    return StarBlock({"rlnHalfmapStart": np.arange(1, len(scores) + 1), "rlnHalfmapLogLikelihood": scores})
