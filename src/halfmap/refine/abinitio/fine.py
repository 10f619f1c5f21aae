"""Search for a first map of particles whose views differ in fine features alone: starts that are crossed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from halfmap.refine.abinitio.degrees import Degrees
from halfmap.refine.abinitio.hypothesis import Hypothesis, arrays_of, hypothesis_of
from halfmap.refine.abinitio.schedule import Step
from halfmap.refine.abinitio.search import AbInitio
from halfmap.refine.session import Session, Ticker
from halfmap.refine.work import in_order
from halfmap.typing import Array, FloatArray

POPULATION = 12
"""Maps that are kept."""
START_STEPS, CHILD_STEPS = 25, 12
"""Steps of a random start, and of a map put together from two, before its likelihood is asked for."""
TOGETHER = 4
"""Maps that go on side by side, shared between threads; fixed, so that the result does not depend on these."""
RANKS = 4.0
"""Mean rank of a parent: the likeliest maps have most of the children."""
TURNED_FRAC = 0.08
"""Share of the degrees whose sign is turned in a child."""
LAST_STEPS = 8
"""Steps of the best map with all particles, shells, views and shifts."""


@dataclass(eq=False)
class _State:
    """What is known between steps: the maps with their likelihoods, likeliest first, and how far the search is."""

    population: list[Hypothesis] = field(default_factory=list)
    likelihoods: list[float] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    crossed: int = 0
    gain: float = -math.inf
    last_done: int = 0
    index: int = 0


class FineSearch:
    """Random starts, and maps put together from them degree by degree, until one tells views apart; that is finished.

    A random start soon has the right power in each degree of the spherical harmonics and the wrong signs between
    them. A map that has more of the signs right is likelier, if by little; a child that takes each degree from one of
    two likely maps, in either hand, and climbs, may have more of them than both (a genetic algorithm; Holland 1975).
    Point groups with more than one frame (T, D, C) have parents in different frames, whose children lose.

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
    children
        Maps put together at most.
    session
        Whoever runs this.
    """

    def __init__(
        self, run: AbInitio, climbing: Step, last: Step, enough: float, name: str, children: int, session: Session
    ) -> None:
        self.run, self.climbing, self.last, self.enough = run, climbing, last, enough
        self.name, self.children, self.session = name, children, session
        self.apart = run.with_threads(math.ceil(session.threads / TOGETHER))
        grid = run.observations.grid
        radius_px = run.observations.diameter_A / 2 / grid.pixel_size_A
        self.degrees = Degrees(grid.box_px, radius_px, grid.box_px / climbing.radius_px)
        self.state = self._restored()

    def outcome(self) -> Hypothesis:
        """Make every step that is left."""
        state = self.state
        total = POPULATION * START_STEPS + self.children * CHILD_STEPS + LAST_STEPS
        with self.session.progress(self.name, total) as bar:
            bar.advance(state.index)
            while len(state.population) < POPULATION:
                self._begin(bar)
            while not state.last_done and state.gain < self.enough and state.crossed < self.children:
                self._cross(bar)
            while state.last_done < LAST_STEPS:
                state.population[0] = self.run.advance(state.population[0], self.last)
                state.last_done += 1
                self._keep(1, bar)
        return state.population[0]

    def scores(self) -> Array:
        """Log-likelihood that each random start came to, in their order."""
        return np.array(self.state.starts)

    def _begin(self, bar: Ticker) -> None:
        """The next few random starts."""
        state, begun = self.state, len(self.state.population)
        numbers = range(begun, min(begun + TOGETHER, POPULATION))
        new, likelihoods = self._climbed([self.run.start(2 * n, self.climbing) for n in numbers], START_STEPS)
        state.starts += likelihoods
        for number, likelihood in zip(numbers, likelihoods, strict=True):
            self.session.log(f"start {number + 1}: log-likelihood {likelihood:.3f} after {START_STEPS} steps")
        self._take(new, likelihoods)
        self._keep(len(new) * START_STEPS, bar)

    def _cross(self, bar: Ticker) -> None:
        """The next few children; each takes the place of the least likely map if it is likelier."""
        state, begun = self.state, self.state.crossed
        numbers = range(begun, min(begun + TOGETHER, self.children))
        new, likelihoods = self._climbed([self._child(n) for n in numbers], CHILD_STEPS)
        state.crossed += len(new)
        self._take(new, likelihoods)
        self._keep(len(new) * CHILD_STEPS, bar)

    def _take(self, new: Sequence[Hypothesis], likelihoods: Sequence[float]) -> None:
        """The likeliest of the maps kept and the new ones; a new best one is asked whether it tells views apart."""
        state = self.state
        best_before = state.population[0] if state.population else None
        ranked = sorted(
            zip([*state.likelihoods, *likelihoods], [*state.population, *new], strict=True), key=lambda pair: -pair[0]
        )[:POPULATION]
        state.likelihoods = [likelihood for likelihood, _ in ranked]
        state.population = [hypothesis for _, hypothesis in ranked]
        best = state.population[0]
        if len(state.population) == POPULATION and (best is not best_before or not state.crossed):
            state.gain = self.run.shape_gain(best, replace(self.climbing, sparse=False))
            self.session.log(
                f"after {state.crossed} children: log-likelihood {state.likelihoods[0]:.3f}, better than the average "
                f"over all directions by {state.gain:.2f}"
            )

    def _climbed(self, maps: Sequence[Hypothesis], steps: int) -> tuple[list[Hypothesis], list[float]]:
        """The maps after some steps, and their log-likelihoods, all of the same particles."""
        climbed = partial(_after, self.apart, self.climbing, steps)
        done = list(in_order(climbed, maps, self.session.threads))
        return [hypothesis for hypothesis, _ in done], [likelihood for _, likelihood in done]

    def _child(self, number: int) -> Hypothesis:
        """Each degree from one of two maps, the second in either hand, some with their sign turned."""
        generator = np.random.default_rng([self.run.seed, 5, number])
        ranks = np.minimum(generator.exponential(RANKS, 2).astype(int), POPULATION - 1)
        first, second = (self.state.population[rank] for rank in ranks)
        of_first, of_second = crossing(generator, self.degrees.count)
        volume = self.degrees.mixed(first.volume, second.volume, of_first, of_second) * self.run.mask
        return replace(first, seed=POPULATION + number, volume=volume, velocity=None)

    def _keep(self, steps: int, bar: Ticker) -> None:
        """Keep the state after so many more steps."""
        state = self.state
        state.index += steps
        arrays: dict[str, Array] = {}
        for number, hypothesis in enumerate(state.population):
            arrays |= arrays_of(hypothesis, f"map{number}.")
        facts = {name: getattr(state, name) for name in _KEPT} | {"maps": len(state.population)}
        self.session.save_checkpoint(self.name, state.index, arrays, facts)
        bar.advance(steps)

    def _restored(self) -> _State:
        saved = self.session.load_checkpoint(self.name)
        if saved is None:
            return _State()
        _, arrays, facts = saved
        device = self.run.observations.device
        population = [hypothesis_of(arrays, f"map{number}.", device) for number in range(facts["maps"])]
        return _State(population, **{name: facts[name] for name in _KEPT})


def crossing(generator: np.random.Generator, n_degrees: int) -> tuple[FloatArray, FloatArray]:
    """Factors of the degrees of two maps in their child; the spherical average is the first one's."""
    hand = (-1.0) ** np.arange(n_degrees) if generator.random() < 0.5 else np.ones(n_degrees)
    from_first = generator.random(n_degrees) < 0.5
    sign = np.where(generator.random(n_degrees) < TURNED_FRAC, -1.0, 1.0)
    from_first[0], sign[0] = True, 1.0
    return np.where(from_first, sign, 0.0), np.where(from_first, 0.0, sign * hand)


def _after(run: AbInitio, step: Step, count: int, hypothesis: Hypothesis) -> tuple[Hypothesis, float]:
    for _ in range(count):
        hypothesis = run.advance(hypothesis, step)
    return hypothesis, run.log_likelihood(hypothesis, hypothesis.volume, step, len(run.rows))


_KEPT = ("likelihoods", "starts", "crossed", "gain", "last_done", "index")
