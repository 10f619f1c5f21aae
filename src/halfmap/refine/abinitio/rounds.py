"""Rounds of ab initio steps among random starts, kept in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from halfmap.refine.abinitio.schedule import COMPARED_STEPS, Round, settled
from halfmap.refine.abinitio.search import AbInitio, Hypothesis
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.rings.expectation import Assignment
from halfmap.refine.session import Session, Ticker
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.typing import Array


class Tournament:
    """Rounds of steps; after each, the likeliest starts go on. Continues from the newest checkpoint.

    Parameters
    ----------
    run
        The search.
    rounds
        The rounds that its steps belong to.
    name
        Of the checkpoint.
    starts
        Random starts.
    session
        Whoever runs this.
    """

    def __init__(self, run: AbInitio, rounds: Sequence[Round], name: str, starts: int, session: Session) -> None:
        self.run, self.rounds, self.name, self.session = run, rounds, name, session
        self.index = 0
        self.alive: list[Hypothesis | None] = [None] * starts
        self.numbers = list(range(starts))
        self.history = np.full((starts, len(run.steps)), np.nan)
        saved = session.load_checkpoint(name)
        if saved is not None:
            self.index, arrays, facts = saved
            self.history, self.numbers = arrays["history"], list(facts["numbers"])
            device, grid = run.observations.device, run.observations.grid
            begun = facts["begun"]
            self.alive = [
                _hypothesis_of(arrays, f"start{number}.", grid, device) if number in begun else None
                for number in self.numbers
            ]

    def outcome(self) -> Hypothesis:
        """Make every step that is left."""
        total, going = 0, len(self.history)
        for part in self.rounds:
            total += going * len(part.steps)
            going = max(1, round(going * part.kept_frac))
        with self.session.progress(self.name, total) as bar:
            bar.advance(self.index)
            end = 0
            for part in self.rounds:
                end += len(part.steps)
                for position in range(len(self.numbers)):
                    self._reach(position, part, end, bar)
                # A checkpoint from a later round has this choice behind it.
                if len(self.numbers) > 1 and all(h is not None and h.steps_done == end for h in self.alive):
                    self._keep_best(part, end)
        best = self.alive[0]
        assert best is not None
        return best

    def scores(self) -> Array:
        """Log-likelihood by which the starts were compared first."""
        return self._scores(len(self.rounds[0].steps))

    def _scores(self, end: int) -> Array:
        compared = [number for number in range(end - COMPARED_STEPS, end) if number >= 0]
        return np.asarray(self.history[:, compared].mean(axis=1))

    def _reach(self, position: int, part: Round, end: int, bar: Ticker) -> None:
        number = self.numbers[position]
        hypothesis = self.alive[position] or self.run.start(number)
        # Steps with drawn poses have another likelihood than those with the whole posterior.
        whole = end - sum(not step.drawn for step in part.steps)
        while hypothesis.steps_done < end:
            if part.may_settle and settled(self.history[number, whole : hypothesis.steps_done].tolist()):
                self.session.log(f"settled after {hypothesis.steps_done} of {end} steps")
                break
            hypothesis = self.run.advance(hypothesis)
            self.history[number, hypothesis.steps_done - 1] = hypothesis.log_likelihood
            self.alive[position] = hypothesis
            self.index += 1
            self._save()
            bar.advance(1)
            if len(self.numbers) == 1:
                self._tell(hypothesis)

    def _keep_best(self, part: Round, end: int) -> None:
        scores = self._scores(end)
        for number in self.numbers:
            self.session.log(f"start {number + 1}: log-likelihood {scores[number]:.2f}")
        count = max(1, round(len(self.numbers) * part.kept_frac))
        best = sorted(self.numbers, key=lambda number: -scores[number])[:count]
        by_number = dict(zip(self.numbers, self.alive, strict=True))
        self.numbers, self.alive = best, [by_number[number] for number in best]

    def _tell(self, hypothesis: Hypothesis) -> None:
        step = self.run.steps[hypothesis.steps_done - 1]
        resolution = self.run.observations.grid.length_A / step.radius_px
        self.session.log(
            f"step {hypothesis.steps_done} of {len(self.run.steps)}: {step.n_images} particles to {resolution:.1f} Å, "
            f"log-likelihood {hypothesis.log_likelihood:.2f}"
        )

    def _save(self) -> None:
        arrays: dict[str, Array] = {"history": self.history}
        begun = []
        for number, hypothesis in zip(self.numbers, self.alive, strict=True):
            if hypothesis is not None:
                begun.append(number)
                arrays |= _arrays_of(hypothesis, f"start{number}.")
        self.session.save_checkpoint(self.name, self.index, arrays, {"numbers": self.numbers, "begun": begun})


def _arrays_of(hypothesis: Hypothesis, prefix: str) -> dict[str, Array]:
    own = {
        "scalars": np.array([hypothesis.seed, hypothesis.steps_done, hypothesis.log_likelihood]),
        "symmetry": np.array(hypothesis.symmetry),
        "volume": hypothesis.volume.cpu().numpy(),
        "rot_img_from_map": hypothesis.rot_img_from_map,
        "correlation": hypothesis.correlation,
    }
    own |= {f"assignment.{name}": values for name, values in vars(hypothesis.assignment).items()}
    if hypothesis.carried is not None:
        own["carried.radius_px"] = np.array(hypothesis.carried[0].radius_px)
        for half, sums in enumerate(hypothesis.carried):
            own[f"carried.numerator{half}"] = sums.numerator.cpu().numpy()
            own[f"carried.denominator{half}"] = sums.denominator.cpu().numpy()
    return {prefix + name: values for name, values in own.items()}


def _hypothesis_of(arrays: dict[str, Array], prefix: str, grid: MapGrid, device: torch.device) -> Hypothesis:
    seed, steps_done, log_likelihood = arrays[prefix + "scalars"].tolist()
    names = ("class_index", "psi_rad", "shift_A", "max_posterior", "log_likelihood")
    carried = None
    if prefix + "carried.radius_px" in arrays:
        radius_px = int(arrays[prefix + "carried.radius_px"])
        first, second = (
            Accumulator(
                grid,
                radius_px,
                *(
                    torch.as_tensor(arrays[f"{prefix}carried.{part}{half}"], device=device)
                    for part in ("numerator", "denominator")
                ),
            )
            for half in (0, 1)
        )
        carried = (first, second)
    return Hypothesis(
        int(seed),
        str(arrays[prefix + "symmetry"]),
        int(steps_done),
        torch.as_tensor(arrays[prefix + "volume"], device=device),
        Assignment(*(arrays[f"{prefix}assignment.{name}"] for name in names)),
        arrays[prefix + "rot_img_from_map"],
        arrays[prefix + "correlation"],
        log_likelihood,
        carried,
    )
