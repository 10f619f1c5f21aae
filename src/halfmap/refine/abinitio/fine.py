"""Search for a first map of particles whose views differ in fine features alone: a few random starts at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from halfmap.refine.abinitio.hypothesis import Hypothesis, arrays_of, hypothesis_of
from halfmap.refine.abinitio.schedule import Step
from halfmap.refine.abinitio.search import AbInitio
from halfmap.refine.session import Session, Ticker
from halfmap.refine.work import in_order
from halfmap.typing import Array

LONGEST_CLIMB = 100
"""Steps of one random start at most."""
TOGETHER = 4
"""Random starts that go on side by side, shared between threads; fixed, so that the result does not depend on these."""
LAST_STEPS = 8
"""Steps of the best start with all particles, shells, views and shifts."""
JUDGED_EVERY = 10
"""Steps after which starts are asked whether their maps tell views apart."""


@dataclass(eq=False)
class _State:
    """What is known between steps: of the starts under way, of the best one so far, and of all that are finished."""

    current: list[Hypothesis] = field(default_factory=list)
    best: Hypothesis | None = None
    gains: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    last_done: int = 0
    index: int = 0


class FineSearch:
    """Random starts, a few at a time, until one tells views apart; that one, or the best of all, is finished.

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
            while not state.last_done and not self._found() and len(state.gains) < self.starts:
                self._climb(bar)
            best = state.best
            assert best is not None
            while state.last_done < LAST_STEPS:
                best = state.best = self.run.advance(best, self.last)
                state.last_done += 1
                self._keep(1, bar)
        return best

    def scores(self) -> Array:
        """Log-likelihood that each start came to, in the order of the starts."""
        return np.array(self.state.scores)

    def _found(self) -> bool:
        return max(self.state.gains, default=-math.inf) >= self.enough

    def _climb(self, bar: Ticker) -> None:
        """Take a few starts to their ends, or to where one of them is good enough; keep the best."""
        state, begun = self.state, len(self.state.gains)
        if not state.current:
            numbers = range(begun, min(begun + TOGETHER, self.starts))
            state.current = [self.run.start(2 * number, self.climbing) for number in numbers]
        gains = self._judged()
        while state.current[0].steps_done < LONGEST_CLIMB and max(gains) < self.enough:
            advanced = in_order(partial(self.run.advance, step=self.climbing), state.current, self.session.threads)
            state.current = list(advanced)
            self._keep(len(state.current), bar)
            gains = self._judged()
        for number, (now, gain) in enumerate(zip(state.current, gains, strict=True), start=begun + 1):
            self.session.log(
                f"start {number}: log-likelihood {now.log_likelihood:.2f} after {now.steps_done} steps, better than "
                f"its average over all directions by {gain:.2f}"
            )
        position = int(np.argmax(gains))
        if gains[position] > max(state.gains, default=-math.inf):
            state.best = state.current[position]
        state.gains += gains
        state.scores += [now.log_likelihood for now in state.current]
        state.current = []

    def _judged(self) -> list[float]:
        """Gain of each start under way over its spherical average; none while it is not yet time to ask."""
        done, current = self.state.current[0].steps_done, self.state.current
        if done == 0 or (done % JUDGED_EVERY and done < LONGEST_CLIMB):
            return [-math.inf] * len(current)
        dense = replace(self.climbing, sparse=False)
        return list(in_order(partial(self.run.shape_gain, step=dense), current, self.session.threads))

    def _keep(self, steps: int, bar: Ticker) -> None:
        """Keep the state after so many more steps."""
        state = self.state
        state.index += steps
        arrays: dict[str, Array] = {}
        for number, now in enumerate(state.current):
            arrays |= arrays_of(now, f"current{number}.")
        if state.best is not None:
            arrays |= arrays_of(state.best, "best.")
        facts = {name: getattr(state, name) for name in _KEPT}
        facts |= {"best": state.best is not None, "current": len(state.current)}
        self.session.save_checkpoint(self.name, state.index, arrays, facts)
        bar.advance(steps)

    def _restored(self) -> _State:
        saved = self.session.load_checkpoint(self.name)
        if saved is None:
            return _State()
        _, arrays, facts = saved
        device = self.run.observations.device
        best = hypothesis_of(arrays, "best.", device) if facts["best"] else None
        current = [hypothesis_of(arrays, f"current{number}.", device) for number in range(facts["current"])]
        return _State(current, best, **{name: facts[name] for name in _KEPT})


_KEPT = ("gains", "scores", "last_done", "index")
