"""How many particles, which resolution, and how many starts, each step of ab initio reconstruction takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from halfmap.refine.abinitio.options import AbInitioOptions

TRIAL_FRAC = 0.75
"""Share of the steps that every random start makes; the best goes on alone."""
TRIAL_RESOLUTION_A = 20.0
"""Resolution at which the random starts are compared, unless the last one is coarser."""
COMPARED_STEPS = 5
"""Random starts are compared by their mean log-likelihood over the last steps of a round."""
SYMMETRIC_STEPS = 12
"""Last steps of the trial in which the point group is imposed on all random starts."""
TRIAL_IMAGES = 150
"""Particles of one step while random starts compete; later steps take up to all."""
DRAWN_FRAC = 0.5
"""Share of the later steps that draw poses; the last ones take the whole posterior."""
FINE_STARTS = 5
"""Random starts of a fine search, for each one that was asked for."""
FINE_START_A = 16.0
"""Resolution of the first steps of a fine search."""
FINE_FIRST_STEPS = 6
"""Steps of a fine search at its first resolution."""
FINE_ROUNDS = ((18, 0.2), (14, 0.0))
"""Steps with drawn poses at the finest resolution in each round, and the share of the starts that goes on."""
FINE_LAST_STEPS = (16, 100)
"""Steps of the best start in the end: with drawn poses, and with the whole posterior, the latter at most."""
SETTLED_STEPS, SETTLED_GAIN = 6, 0.03
"""A round has settled when the mean log-likelihood of so many steps exceeds that of as many before by less."""
FINE_IMAGES_FRAC = 0.5
"""Particles of one step of a fine search; as much of the sums before it is carried along."""


@dataclass(frozen=True)
class Step:
    """One step."""

    n_images: int
    radius_px: int
    compared: bool
    """Whether the likelihoods of the starts at this step decide."""
    symmetric: bool
    """Whether the point group is imposed on all starts."""
    drawn: bool
    """Whether each particle goes into the map at one pose drawn from its posterior, not at all of them."""
    positive: bool = True
    """Whether negative density is cut off: it stands in for the low frequencies that the CTF leaves out."""
    carried_frac: float = 0.0
    """Share of the sums of earlier steps that is kept; there are none where the resolution changes."""


@dataclass(frozen=True)
class Round:
    """Steps that each start makes before the starts are compared."""

    steps: tuple[Step, ...]
    kept_frac: float
    """Share of the starts that goes on, the best one at least."""
    may_settle: bool = False
    """Whether steps that bring nothing more are left out (``settled``)."""


def settled(log_likelihoods: Sequence[float]) -> bool:
    """Whether the last steps of a round gained too little for others to follow."""
    if len(log_likelihoods) < 2 * SETTLED_STEPS:
        return False
    before, after = log_likelihoods[-2 * SETTLED_STEPS : -SETTLED_STEPS], log_likelihoods[-SETTLED_STEPS:]
    return sum(after) - sum(before) < SETTLED_GAIN * SETTLED_STEPS


def _radius_px(resolution_A: float, length_A: float, nyquist_px: int) -> int:
    return max(5, min(math.floor(length_A / resolution_A), nyquist_px - 1))


def schedule(
    options: AbInitioOptions, resolution_A: float, n_images: int, length_A: float, nyquist_px: int
) -> list[Round]:
    """Resolution rises geometrically, first to that of the comparison, then to the finest."""
    coarse, fine = options.start_resolution_A, resolution_A
    middle = min(coarse, max(TRIAL_RESOLUTION_A, fine))
    n_trial = max(2, round(TRIAL_FRAC * options.iterations))
    trial = []
    for number in range(n_trial):
        # A third of the steps at the start, a third on the way, a third at the resolution of the comparison.
        risen = min(1.0, max(0.0, 3 * number / (n_trial - 1) - 1))
        reached = _radius_px(coarse * (middle / coarse) ** risen, length_A, nyquist_px)
        compared = number >= n_trial - COMPARED_STEPS
        symmetric = number >= n_trial - SYMMETRIC_STEPS
        trial.append(Step(min(n_images, TRIAL_IMAGES), reached, compared, symmetric, True))
    rest = []
    n_rest = options.iterations - n_trial
    for number in range(1, n_rest + 1):
        reached = _radius_px(middle * (fine / middle) ** min(1.0, 1.4 * number / n_rest), length_A, nyquist_px)
        grown = min(n_images, round(TRIAL_IMAGES * max(1.0, n_images / TRIAL_IMAGES) ** (number / n_rest)))
        rest.append(Step(grown, reached, False, True, number <= DRAWN_FRAC * n_rest))
    return [Round(tuple(trial), 0.0), Round(tuple(rest), 1.0)]


def fine_schedule(resolution_A: float, n_images: int, length_A: float, nyquist_px: int) -> list[Round]:
    """For particles whose views differ in fine features alone: many starts almost at once at the finest resolution.

    Against a map without fine features all views are alike, and the mean over them has none either. Drawn poses
    leave that state (see ``DrawnPoses``); some starts end in another local optimum, which shows in their likelihood.
    A hollow map is negative inside for want of low frequencies; held positive, such a map lost its fine features.
    """
    first = _radius_px(max(FINE_START_A, resolution_A), length_A, nyquist_px)
    finest = _radius_px(resolution_A, length_A, nyquist_px)
    few, some = min(n_images, TRIAL_IMAGES), round(FINE_IMAGES_FRAC * n_images)
    early = Step(few, first, False, True, True, False)
    drawn = Step(max(few, some), finest, False, True, True, False, 1 - FINE_IMAGES_FRAC)
    whole = Step(n_images, finest, False, True, False, False)
    rounds: list[Round] = []
    for n_steps, kept_frac in FINE_ROUNDS:
        begun: tuple[Step, ...] = () if rounds else (early,) * FINE_FIRST_STEPS
        racing = (drawn,) * (n_steps - COMPARED_STEPS) + (replace(drawn, compared=True),) * COMPARED_STEPS
        rounds.append(Round((*begun, *racing), kept_frac))
    n_drawn, n_whole = FINE_LAST_STEPS
    return [*rounds, Round((drawn,) * n_drawn + (whole,) * n_whole, 1.0, may_settle=True)]
