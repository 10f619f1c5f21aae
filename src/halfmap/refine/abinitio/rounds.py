"""Rounds of ab initio steps among random starts, kept in checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from halfmap.refine.abinitio.hypothesis import Hypothesis, arrays_of, hypothesis_of
from halfmap.refine.abinitio.schedule import COMPARED_STEPS, Round
from halfmap.refine.abinitio.search import AbInitio
from halfmap.refine.session import Session, Ticker
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
        self.steps = [step for part in rounds for step in part.steps]
        self.history = np.full((starts, len(self.steps)), np.nan)
        saved = session.load_checkpoint(name)
        if saved is not None:
            self.index, arrays, facts = saved
            self.history, self.numbers = arrays["history"], list(facts["numbers"])
            device, begun = run.observations.device, facts["begun"]
            self.alive = [
                hypothesis_of(arrays, f"start{number}.", device) if number in begun else None for number in self.numbers
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
                    self._reach(position, end, bar)
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

    def _reach(self, position: int, end: int, bar: Ticker) -> None:
        number = self.numbers[position]
        hypothesis = self.alive[position] or self.run.start(number, self.steps[0])
        while hypothesis.steps_done < end:
            hypothesis = self.run.advance(hypothesis, self.steps[hypothesis.steps_done])
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
        step = self.steps[hypothesis.steps_done - 1]
        resolution = self.run.observations.grid.length_A / step.radius_px
        self.session.log(
            f"step {hypothesis.steps_done} of {len(self.steps)}: {step.n_images} particles to {resolution:.1f} Å, "
            f"log-likelihood {hypothesis.log_likelihood:.2f}{_shares(hypothesis)}"
        )

    def _save(self) -> None:
        arrays: dict[str, Array] = {"history": self.history}
        begun = []
        for number, hypothesis in zip(self.numbers, self.alive, strict=True):
            if hypothesis is not None:
                begun.append(number)
                arrays |= arrays_of(hypothesis, f"start{number}.")
        self.session.save_checkpoint(self.name, self.index, arrays, {"numbers": self.numbers, "begun": begun})


def _shares(hypothesis: Hypothesis) -> str:
    shares = hypothesis.classes.frac
    return "" if len(shares) == 1 else ", classes " + " ".join(f"{share:.0%}" for share in shares)
