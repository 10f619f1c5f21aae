"""Search for a first map of particles whose views differ in fine features alone: many random starts, and a sieve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from halfmap.refine.abinitio.hypothesis import Hypothesis, arrays_of, hypothesis_of
from halfmap.refine.abinitio.schedule import Step
from halfmap.refine.abinitio.search import AbInitio
from halfmap.refine.session import Session, Ticker
from halfmap.refine.work import in_order
from halfmap.typing import Array


@dataclass(frozen=True)
class Stage:
    """How many maps take part, and how many steps each makes before its likelihood is asked for."""

    maps: int
    steps: int


STARTS = Stage(16, 25)
SIEVE = (Stage(6, 8),)
FINALISTS = Stage(3, 8)
"""A round: random starts, the likeliest of them, and again."""
MOST_FINALS = 6
RISING = 0.05
"""Finalists go on while the best gains so much in log-likelihood."""
TOGETHER = 4
"""Maps that go on side by side, shared between threads; fixed, so that the result does not depend on these."""
LAST_STEPS = 8
"""Steps of the best map with all particles, shells, views and shifts."""


_MAPS = ("entrants", "kept", "best")
_FACTS = ("round", "stage", "finals", "position", "likelihoods", "starts", "gain", "last_done", "index")


@dataclass(eq=False)
class _State:
    """What is known between steps.

    Attributes
    ----------
    round, stage
        Both from 0; the last stage, that of the finalists, was made ``finals`` times.
    position
        Maps of the stage that are done.
    entrants
        The maps that take part in the stage.
    kept
        The likeliest maps of the stage so far, as many as the next one takes.
    best
        The best finalist of all rounds.
    likelihoods
        Of each of these maps.
    """

    round: int = 0
    stage: int = 0
    finals: int = 0
    position: int = 0
    entrants: list[Hypothesis] = field(default_factory=list)
    kept: list[Hypothesis] = field(default_factory=list)
    best: list[Hypothesis] = field(default_factory=list)
    likelihoods: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in _MAPS})
    starts: list[float] = field(default_factory=list)
    gain: float = -math.inf
    last_done: int = 0
    index: int = 0


class FineSearch:
    """Rounds of random starts that are sieved by likelihood, until one of them tells views apart.

    A random start soon has the right power in each degree of the spherical harmonics, and signs between degrees that
    are wrong. One that begins with enough of them right by chance climbs to the truth within some forty steps; its
    likelihood leaves those of the others behind from the twenty-fifth on, which never get there. So each round gives
    many starts a few steps and goes on with the likeliest alone (successive halving; Jamieson & Talwalkar 2016).

    Parameters
    ----------
    run
        The search.
    climbing, last
        The step that each map repeats, and the one that ends the search.
    enough
        Gain over the spherical average (``AbInitio.shape_gain``) from which on views are told apart.
    name
        Of the checkpoint.
    rounds
        Rounds at most.
    session
        Whoever runs this.
    """

    def __init__(
        self, run: AbInitio, climbing: Step, last: Step, enough: float, name: str, rounds: int, session: Session
    ) -> None:
        self.run, self.climbing, self.last, self.enough = run, climbing, last, enough
        self.name, self.rounds, self.session = name, rounds, session
        self.stages = (STARTS, *SIEVE, FINALISTS)
        self.apart = run.with_threads(math.ceil(run.threads / TOGETHER))
        self.state = self._restored()

    def outcome(self) -> Hypothesis:
        """Make every step that is left."""
        state = self.state
        total = self.rounds * sum(stage.maps * stage.steps for stage in self.stages) + LAST_STEPS
        with self.session.progress(self.name, total) as bar:
            bar.advance(state.index)
            while not state.last_done and state.gain < self.enough and state.round < self.rounds:
                self._climb(bar)
            while state.last_done < LAST_STEPS:
                state.best = [self.run.advance(state.best[0], self.last)]
                state.last_done += 1
                self._keep(1, bar)
        return state.best[0]

    def scores(self) -> Array:
        """Log-likelihood that each random start came to, in their order."""
        return np.array(self.state.starts)

    def _climb(self, bar: Ticker) -> None:
        """The next few maps of the stage; after the last one, what the next stage is."""
        state, stage = self.state, self.stages[self.state.stage]
        numbers = range(state.position, min(state.position + TOGETHER, stage.maps))
        work = partial(self._climbed, stage=stage)
        new = list(in_order(work, numbers, self.run.threads))
        state.position += len(new)
        maps, likelihoods = [hypothesis for hypothesis, _ in new], [likelihood for _, likelihood in new]
        if stage is STARTS:
            state.starts += likelihoods
        following = self.stages[min(state.stage + 1, len(self.stages) - 1)]
        self._put("kept", [*state.kept, *maps], [*state.likelihoods["kept"], *likelihoods], following.maps)
        if state.position == stage.maps:
            self._end_stage(stage)
        self._keep(len(new) * stage.steps, bar)

    def _climbed(self, number: int, stage: Stage) -> tuple[Hypothesis, float]:
        """A map of the stage after its steps, and its log-likelihood for all particles."""
        if stage is STARTS:
            hypothesis = self.run.start(2 * (self.state.round * stage.maps + number), self.climbing)
        else:
            hypothesis = self.state.entrants[number]
        for _ in range(stage.steps):
            hypothesis = self.apart.advance(hypothesis, self.climbing)
        rows = len(self.run.rows)
        return hypothesis, self.apart.log_likelihood(hypothesis, hypothesis.volumes, self.climbing, rows)

    def _end_stage(self, stage: Stage) -> None:
        state = self.state
        maps, likelihoods = state.kept, state.likelihoods["kept"]
        state.position = 0
        self._put("kept", [], [], 0)
        if stage is FINALISTS:
            self._end_round(maps, likelihoods)
        else:
            state.stage += 1
            self._put("entrants", maps, likelihoods, len(maps))

    def _end_round(self, maps: Sequence[Hypothesis], likelihoods: Sequence[float]) -> None:
        """Go on with the finalists while they rise; else keep the best of all rounds."""
        state = self.state
        rising = likelihoods[0] > max(state.likelihoods["entrants"]) + RISING
        state.finals += 1
        self._put("entrants", maps, likelihoods, len(maps))
        gain = self.run.shape_gain(maps[0], replace(self.climbing, sparse=False))
        if gain < self.enough and rising and state.finals < MOST_FINALS:
            return
        self.session.log(
            f"round {state.round + 1}: log-likelihood {likelihoods[0]:.2f}, better than the average over all "
            f"directions by {gain:.2f}"
        )
        if gain > state.gain:
            state.gain = gain
            self._put("best", maps[:1], likelihoods[:1], 1)
        state.round, state.stage, state.finals = state.round + 1, 0, 0

    def _put(self, name: str, maps: Sequence[Hypothesis], likelihoods: Sequence[float], room: int) -> None:
        """Keep the likeliest of some maps under a name."""
        order = sorted(range(len(maps)), key=lambda i: -likelihoods[i])[:room]
        setattr(self.state, name, [maps[i] for i in order])
        self.state.likelihoods[name] = [likelihoods[i] for i in order]

    def _keep(self, steps: int, bar: Ticker) -> None:
        """Keep the state after so many more steps."""
        state = self.state
        state.index += steps
        arrays: dict[str, Array] = {}
        for name in _MAPS:
            for number, hypothesis in enumerate(getattr(state, name)):
                arrays |= arrays_of(hypothesis, f"{name}{number}.")
        facts = {name: getattr(state, name) for name in _FACTS}
        self.session.save_checkpoint(self.name, state.index, arrays, facts)
        bar.advance(steps)

    def _restored(self) -> _State:
        saved = self.session.load_checkpoint(self.name)
        if saved is None:
            return _State()
        _, arrays, facts = saved
        device = self.run.observations.device
        state = _State(**{name: facts[name] for name in _FACTS})
        for name in _MAPS:
            numbers = range(len(facts["likelihoods"][name]))
            setattr(state, name, [hypothesis_of(arrays, f"{name}{number}.", device) for number in numbers])
        return state
