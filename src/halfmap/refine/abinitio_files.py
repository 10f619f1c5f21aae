"""An ab initio reconstruction's inputs and outputs as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfmap.data.records import ImageSet, Volume
from halfmap.fourier.crop import resample_3d
from halfmap.fourier.fsc import resolution_A
from halfmap.geometry.rotations import euler_from_matrix
from halfmap.io.mrc import write_volume
from halfmap.io.relion import write_image_set
from halfmap.io.star import StarBlock, write_star
from halfmap.refine.abinitio import AbInitio, Hypothesis
from halfmap.refine.abinitio_options import AbInitioOptions
from halfmap.refine.class2d_em import Assignment
from halfmap.refine.refine3d_files import half_sets
from halfmap.refine.ring_session import working_observations
from halfmap.refine.session import Session, Ticker
from halfmap.refine.work import single_threaded_torch
from halfmap.typing import Array, PathLike

CHECKPOINT = "abinitio"
CLOSE_FRAC = 0.02
"""Starts whose log-likelihoods differ by less than this share count as the same answer."""


def reconstruct_particles(
    images: ImageSet, star: PathLike, options: AbInitioOptions, folder: Path, device: str, session: Session
) -> dict[str, Any]:
    """Find a first map and write ``map.mrc``, ``particles.star`` and ``starts.star`` into a folder.

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
    observations, native = working_observations(
        some, star, options.diameter_A, options.resolution_A, folder, device, session
    )
    half_set = np.asarray(half_sets(some, session))
    with single_threaded_torch():
        run = AbInitio(observations, half_set, options, session.seed, threads=session.threads)
        search = _Search(run, session)
        best = search.outcome()
    grid = observations.grid
    curve = torch.as_tensor(best.correlation)
    finest_A = grid.length_A / run.steps[-1].radius_px
    reached_A = max(resolution_A(curve, 0.5, grid.box_px, grid.pixel_size_A), finest_A)
    volume = resample_3d(best.volume.cpu(), native.box_px).numpy()
    write_volume(folder / "map.mrc", Volume(volume, native.pixel_size_A))
    write_image_set(folder / "particles.star", _with_poses(images, best, used))
    scores = search.scores()
    write_star(folder / "starts.star", {"starts": _starts_block(scores)})
    agreeing = int((scores >= scores.max() - CLOSE_FRAC * abs(scores.max())).sum())
    session.log(f"{agreeing} of {len(scores)} random starts came to the same likelihood as the best")
    session.log("the hand of the map is undetermined: projections do not tell it")
    if agreeing == 1 and len(scores) > 1:
        session.warn(
            "only one of the random starts reached the best likelihood; run again with another --seed to be sure"
        )
    return {
        "items_in": len(images),
        "items_out": len(images),
        "used_particles": len(used),
        "symmetry": run.symmetry,
        "resolution_A": round(float(reached_A), 1),
        "starts": len(scores),
        "agreeing_starts": agreeing,
        "hand": "undetermined",
    }


class _Search:
    """All starts up to the comparison, then the best one to the end; from the newest checkpoint on."""

    def __init__(self, run: AbInitio, session: Session) -> None:
        self.run, self.session = run, session
        self.n_trial = sum(step.trial for step in run.steps)
        saved = session.load_checkpoint(CHECKPOINT)
        self.index = 0
        self.history = np.full((run.options.starts, self.n_trial), np.nan)
        self.finalists: list[Hypothesis] = []
        self.current: Hypothesis | None = None
        if saved is not None:
            self.index, arrays, facts = saved
            self.history = arrays["history"]
            device = run.observations.device
            self.finalists = [_hypothesis_of(arrays, f"finalist{i}.", device) for i in range(facts["finalists"])]
            self.current = _hypothesis_of(arrays, "current.", device) if facts["current"] else None

    def scores(self) -> Array:
        """Log-likelihood by which the starts are compared."""
        compared = [number for number, step in enumerate(self.run.steps) if step.compared]
        return np.asarray(self.history[:, compared].mean(axis=1))

    def outcome(self) -> Hypothesis:
        """Make every step that is left."""
        n_starts = self.run.options.starts
        total = n_starts * self.n_trial + len(self.run.steps) - self.n_trial
        with self.session.progress("abinitio", total) as bar:
            bar.advance(self.index)
            while len(self.finalists) < n_starts:
                self._trial(len(self.finalists), bar)
            if self.current is None:
                self.current = self.finalists[int(np.argmax(self.scores()))]
                for number, score in enumerate(self.scores()):
                    self.session.log(f"start {number + 1}: log-likelihood {score:.2f}")
            while self.current.steps_done < len(self.run.steps):
                self.current = self.run.advance(self.current)
                self._tell(self.current)
                self._save()
                bar.advance(1)
        return self.current

    def _trial(self, number: int, bar: Ticker) -> None:
        hypothesis = self.run.start(number) if self.current is None else self.current
        while hypothesis.steps_done < self.n_trial:
            hypothesis = self.run.advance(hypothesis)
            self.history[number, hypothesis.steps_done - 1] = hypothesis.log_likelihood
            self.current = hypothesis
            if hypothesis.steps_done == self.n_trial:
                self.finalists.append(hypothesis)
                self.current = None
            self._save()
            bar.advance(1)

    def _tell(self, hypothesis: Hypothesis) -> None:
        step = self.run.steps[hypothesis.steps_done - 1]
        resolution = self.run.observations.grid.length_A / step.radius_px
        self.session.log(
            f"step {hypothesis.steps_done} of {len(self.run.steps)}: {step.n_images} particles to {resolution:.1f} Å, "
            f"log-likelihood {hypothesis.log_likelihood:.2f}"
        )

    def _save(self) -> None:
        self.index += 1
        arrays: dict[str, Array] = {"history": self.history}
        for i, finalist in enumerate(self.finalists):
            arrays |= _arrays_of(finalist, f"finalist{i}.")
        if self.current is not None:
            arrays |= _arrays_of(self.current, "current.")
        facts = {"finalists": len(self.finalists), "current": self.current is not None}
        self.session.save_checkpoint(CHECKPOINT, self.index, arrays, facts)


def _arrays_of(hypothesis: Hypothesis, prefix: str) -> dict[str, Array]:
    own = {
        "scalars": np.array([hypothesis.seed, hypothesis.steps_done, hypothesis.log_likelihood]),
        "symmetry": np.array(hypothesis.symmetry),
        "volume": hypothesis.volume.cpu().numpy(),
        "sigma2": hypothesis.sigma2,
        "rot_img_from_map": hypothesis.rot_img_from_map,
        "correlation": hypothesis.correlation,
    }
    own |= {f"assignment.{name}": values for name, values in vars(hypothesis.assignment).items()}
    return {prefix + name: values for name, values in own.items()}


def _hypothesis_of(arrays: dict[str, Array], prefix: str, device: torch.device) -> Hypothesis:
    seed, steps_done, log_likelihood = arrays[prefix + "scalars"].tolist()
    names = ("class_index", "psi_rad", "shift_A", "max_posterior", "log_likelihood")
    return Hypothesis(
        int(seed),
        str(arrays[prefix + "symmetry"]),
        int(steps_done),
        torch.as_tensor(arrays[prefix + "volume"], device=device),
        arrays[prefix + "sigma2"],
        Assignment(*(arrays[f"{prefix}assignment.{name}"] for name in names)),
        arrays[prefix + "rot_img_from_map"],
        arrays[prefix + "correlation"],
        log_likelihood,
    )


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
