"""Search for a first map of particles whose views differ in fine features alone: starts one after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from halfmap.refine.abinitio.hypothesis import Hypothesis, arrays_of, hypothesis_of
from halfmap.refine.abinitio.schedule import Step
from halfmap.refine.abinitio.search import AbInitio
from halfmap.refine.session import Session, Ticker
from halfmap.typing import Array

LONGEST_CLIMB = 120
"""Steps of one random start at most."""
LAST_STEPS = 8
"""Steps of the best start with all shells, views and shifts."""
JUDGED_EVERY = 10
"""Steps after which a start is asked whether its map tells views apart."""


@dataclass(eq=False)
class _State:
    """What is known between steps: of the present start, of the best one, and of all that are finished."""

    current: Hypothesis | None = None
    best: Hypothesis | None = None
    gains: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    last_done: int = 0
    index: int = 0


class FineSearch:
    """Random starts in turn until one tells views apart; that one, or the best of all, is finished.

    Parameters
    ----------
    run
        The search.
    climbing, last
        The step that each start repeats, and the one that ends the search.
    enough
        Gain over the spherical average (``AbInitio.shape_gain``) from which on views are told apart.
    name
        Of the checkpoint.
    starts
        Random starts at most.
    session
        Whoever runs this.
    """

    def __init__(
        self, run: AbInitio, climbing: Step, last: Step, enough: float, name: str, starts: int, session: Session
    ) -> None:
        self.run, self.climbing, self.last, self.enough = run, climbing, last, enough
        self.name, self.starts, self.session = name, starts, session
        self.state = self._restored()

    def outcome(self) -> Hypothesis:
        """Make every step that is left."""
        state = self.state
        with self.session.progress(self.name, self.starts * LONGEST_CLIMB + LAST_STEPS) as bar:
            bar.advance(state.index)
            while len(state.gains) < self.starts and max(state.gains, default=-math.inf) < self.enough:
                self._climb(bar)
            now = state.current or state.best
            assert now is not None
            while state.last_done < LAST_STEPS:
                now = self.run.advance(now, self.last)
                state.last_done += 1
                self._note(now, bar)
        return now

    def scores(self) -> Array:
        """Log-likelihood that each start came to, in the order of the starts."""
        return np.array(self.state.scores)

    def _climb(self, bar: Ticker) -> None:
        """Take the present start to its end, and keep it if it is the best."""
        state, number = self.state, len(self.state.gains)
        now = state.current or self.run.start(2 * number, self.climbing)
        gain = self._judged(now)
        while now.steps_done < LONGEST_CLIMB and gain < self.enough:
            now = self.run.advance(now, self.climbing)
            self._note(now, bar)
            gain = self._judged(now)
        self.session.log(
            f"start {number + 1}: log-likelihood {now.log_likelihood:.2f} after {now.steps_done} steps, better than "
            f"its average over all directions by {gain:.2f}"
        )
        if gain > max(state.gains, default=-math.inf):
            state.best = now
        state.gains.append(gain)
        state.scores.append(now.log_likelihood)
        state.current = None

    def _judged(self, now: Hypothesis) -> float:
        """Gain over the spherical average; none while it is not yet time to ask."""
        if now.steps_done == 0 or (now.steps_done % JUDGED_EVERY and now.steps_done < LONGEST_CLIMB):
            return -math.inf
        return self.run.shape_gain(now, self.climbing)

    def _note(self, now: Hypothesis, bar: Ticker) -> None:
        """Keep the state."""
        state = self.state
        state.current = now
        state.index += 1
        arrays = arrays_of(now, "current.")
        if state.best is not None:
            arrays |= arrays_of(state.best, "best.")
        facts = {name: getattr(state, name) for name in _KEPT} | {"best": state.best is not None}
        self.session.save_checkpoint(self.name, state.index, arrays, facts)
        bar.advance(1)

    def _restored(self) -> _State:
        saved = self.session.load_checkpoint(self.name)
        if saved is None:
            return _State()
        _, arrays, facts = saved
        device = self.run.observations.device
        best = hypothesis_of(arrays, "best.", device) if facts["best"] else None
        return _State(hypothesis_of(arrays, "current.", device), best, **{name: facts[name] for name in _KEPT})


_KEPT = ("gains", "scores", "last_done", "index")
