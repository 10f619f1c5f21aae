"""A 2D classification's inputs and outputs as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfmap.data.records import ImageSet
from halfmap.fourier.crop import pad_2d, resample_2d
from halfmap.fourier.threads import single_threaded_torch
from halfmap.io.mrc import write_stack
from halfmap.io.relion import write_image_set
from halfmap.io.star import StarBlock, write_star
from halfmap.refine.class2d.classification import (
    MOST_SHIFTS,
    Classification,
    ClassificationState,
    class_radius_px,
)
from halfmap.refine.class2d.options import Class2DOptions
from halfmap.refine.images.close_up import CloseUp
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.sources import close_ups, half_sets, native_box_px, working_source
from halfmap.refine.memory import planned, rings_need
from halfmap.refine.rings.average import RingSums
from halfmap.refine.rings.expectation import Assignment
from halfmap.refine.session import Session
from halfmap.typing import Array, FloatArray, PathLike

CHECKPOINT = "class2d"
MOST_IN_ONE_FRAC = 0.6
"""Share of the particles in one class from which on the others mean little."""
RESOLUTION_THRESHOLD = 0.5
"""Ring correlation at which the resolution of a class is read; strict, because the halves share their alignment."""


def classify_particles(
    images: ImageSet, star: PathLike, options: Class2DOptions, folder: Path, device: str, session: Session
) -> dict[str, Any]:
    """Classify particles and write ``particles.star``, ``classes.mrcs`` and ``classes.star`` into a folder.

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
    """
    source = working_source(images, star, options.diameter_A, options.resolution_A, session)
    slack_A = 2 * options.offset_range_A
    need = rings_need(source, options.resolution_A, slack_A, options.classes, MOST_SHIFTS, angles=2)
    plan = planned(need, session.memory_GB, session.threads)
    plan.tell(session)
    observations, native = close_ups(source, slack_A, plan.transforms_GB, folder, device, session), source.native
    half_set = np.asarray(half_sets(images, session))
    with single_threaded_torch():
        run = Classification(observations, half_set, options, session.seed, threads=plan.threads)
        state = _passes(run, session)
    population = _population(state.assignment, options.classes)
    order = np.argsort(-population, kind="stable")
    rows = np.flatnonzero(state.assignment.class_index >= 0)
    particles = _with_classes(images.select(rows), state.assignment, rows, order)
    averages = pad_2d(state.images[torch.as_tensor(order)].cpu(), native_box_px(observations.grid, native))
    averages = resample_2d(averages, native.box_px)
    write_stack(folder / "classes.mrcs", averages.numpy(), native.pixel_size_A)
    table = _class_block(state, order, observations, folder.name)
    write_star(folder / "classes.star", {"model_classes": table})
    write_image_set(folder / "particles.star", particles)
    resolution = np.asarray(table["rlnEstimatedResolution"], dtype=np.float64)
    largest_frac = float(population.max()) / max(len(particles), 1)
    warn_of_one_class(largest_frac, options.classes, session)
    return {
        "items_in": len(images),
        "items_out": len(particles),
        "classes": options.classes,
        "largest_class_frac": round(largest_frac, 3),
        "best_class_resolution_A": round(float(resolution.min()), 1),
        "median_max_posterior": round(float(np.median(particles["max_posterior"])), 3),
        "unusable_particles": len(images) - len(particles),
        "planned_memory_GB": round(plan.peak_GB, 3),
    }


def warn_of_one_class(largest_frac: float, classes: int, session: Session) -> None:
    """Say so where most particles came together in one of several classes."""
    if classes > 2 and largest_frac > MOST_IN_ONE_FRAC:
        session.warn(
            f"{largest_frac:.0%} of the particles are in one of {classes} classes: views were not told apart, or all "
            "particles show the same one. Do not choose classes by looks here; abinitio does not need them."
        )


def _passes(run: Classification, session: Session) -> ClassificationState:
    """All passes, from the newest checkpoint on."""
    saved = session.load_checkpoint(CHECKPOINT)
    state = run.start() if saved is None else _state_of(saved[1], saved[0], run.observations.device)
    with session.progress("class2d", len(run.passes)) as bar:
        bar.advance(state.passes_done)
        while state.passes_done < len(run.passes):
            state = run.advance(state)
            radius = class_radius_px(state.correlation, RESOLUTION_THRESHOLD)
            resolution_A = run.observations.grid.length_A / np.median(radius)
            seen = state.assignment.class_index >= 0
            session.log(
                f"pass {state.passes_done} of {len(run.passes)}: classes at {resolution_A:.1f} Å (median), "
                f"log-likelihood {state.assignment.log_likelihood[seen].mean():.2f}, largest posterior "
                f"{state.assignment.max_posterior[seen].mean():.2f}, "
                f"{int((state.count > 0.5).sum())} classes in use"
            )
            session.save_checkpoint(CHECKPOINT, state.passes_done, _arrays_of(state), {})
            bar.advance(1)
    return state


def _arrays_of(state: ClassificationState) -> dict[str, Array]:
    arrays = {
        "images": state.images.cpu().numpy(),
        "sigma2": state.sigma2,
        "correlation": state.correlation,
        "count": state.count,
    }
    for half, sums in enumerate(state.carried):
        arrays |= {f"half{half}.{name}": values.cpu().numpy() for name, values in vars(sums).items()}
    return arrays | {f"assignment.{name}": values for name, values in vars(state.assignment).items()}


def _state_of(arrays: dict[str, Array], passes_done: int, device: torch.device) -> ClassificationState:
    def tensor(name: str) -> torch.Tensor:
        return torch.as_tensor(arrays[name], device=device)

    halves = [RingSums(*(tensor(f"half{h}.{name}") for name in ("numerator", "normal", "count"))) for h in (0, 1)]
    names = ("class_index", "psi_rad", "shift_A", "max_posterior", "log_likelihood")
    return ClassificationState(
        passes_done,
        tensor("images"),
        (halves[0], halves[1]),
        arrays["sigma2"],
        Assignment(*(arrays[f"assignment.{name}"] for name in names)),
        arrays["correlation"],
        arrays["count"],
    )


def _population(assignment: Assignment, n_classes: int) -> Array:
    return np.bincount(assignment.class_index[assignment.class_index >= 0], minlength=n_classes)


def _with_classes(particles: ImageSet, assignment: Assignment, rows: Array, order: Array) -> ImageSet:
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    psi_rad = assignment.psi_rad[rows]
    return particles.with_columns(
        class_number=rank[assignment.class_index[rows]] + 1,
        psi_rad=np.where(psi_rad > np.pi, psi_rad - 2 * np.pi, psi_rad),
        shift_x_A=assignment.shift_A[rows, 0],
        shift_y_A=assignment.shift_A[rows, 1],
        max_posterior=assignment.max_posterior[rows],
        log_likelihood_contribution=assignment.log_likelihood[rows],
    )


def class_resolution_A(correlation: FloatArray, grid: MapGrid) -> FloatArray:
    """Resolution at which the halves of each class agree by half."""
    resolution: FloatArray = grid.length_A / class_radius_px(correlation, RESOLUTION_THRESHOLD)
    return resolution


def _class_block(state: ClassificationState, order: Array, observations: CloseUp, folder: str) -> StarBlock:
    counts = _population(state.assignment, len(order))[order]
    return StarBlock(
        {
            "rlnReferenceImage": np.array([f"{i + 1:06d}@{folder}/classes.mrcs" for i in range(len(order))], object),
            "rlnClassDistribution": counts / max(counts.sum(), 1),
            "rlnEstimatedResolution": class_resolution_A(state.correlation, observations.grid)[order],
            "rlnHalfmapClassParticles": counts,
        }
    )
