"""How many particles, which resolution, and how many starts, each step of ab initio reconstruction takes."""

from __future__ import annotations

import math
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
"""Particles of one step, for each class, while random starts compete; later steps take up to all."""
DRAWN_FRAC = 0.5
"""Share of the later steps that draw poses; the last ones take the whole posterior."""
RELEASED_FRAC = 0.5
"""Share of the later steps in which classes that were held equally full are let go."""
SORTING_STEPS = 12
"""Further steps with all particles where there are several classes: maps and classes go on getting better together."""
FINE_ROUNDS = 2
"""Rounds of a fine search at most, for each random start that was asked for."""
FINE_IMAGES_FRAC = 0.5
"""Particles of one step of a fine search: not all, so that noise which a particle leaves is not always found again."""
FINE_FIRST_FRAC = 0.2
"""Coarsest resolution compared in a fine search, as a share of the diameter."""


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
    first_px: int = 0
    """Shells nearer to the centre of Fourier space are not compared."""
    sparse: bool = False
    """Whether views and shifts are as far apart as they may be."""
    pushed: bool = False
    """Whether the map goes further than the step takes it (``pushed``)."""
    balanced: float = 0.0
    """Degree, 0 to 1, to which classes are held equally full, not as full as the particles make them."""
    reused: bool = False
    """Whether a class that is empty after the step begins anew."""


@dataclass(frozen=True)
class Round:
    """Steps that each start makes before the starts are compared."""

    steps: tuple[Step, ...]
    kept_frac: float
    """Share of the starts that goes on, the best one at least."""


def _radius_px(resolution_A: float, length_A: float, nyquist_px: int) -> int:
    return max(5, min(math.floor(length_A / resolution_A), nyquist_px - 1))


def schedule(
    options: AbInitioOptions, resolution_A: float, n_images: int, length_A: float, nyquist_px: int
) -> list[Round]:
    """Resolution rises geometrically, first to that of the comparison, then to the finest."""
    coarse, fine = options.start_resolution_A, resolution_A
    middle = min(coarse, max(TRIAL_RESOLUTION_A, fine))
    n_trial = max(2, round(TRIAL_FRAC * options.iterations))
    few = TRIAL_IMAGES * options.classes
    trial = []
    for number in range(n_trial):
        # A third of the steps at the start, a third on the way, a third at the resolution of the comparison.
        risen = min(1.0, max(0.0, 3 * number / (n_trial - 1) - 1))
        reached = _radius_px(coarse * (middle / coarse) ** risen, length_A, nyquist_px)
        compared = number >= n_trial - COMPARED_STEPS
        symmetric = number >= n_trial - SYMMETRIC_STEPS
        trial.append(
            Step(min(n_images, few), reached, compared, symmetric, True, balanced=1.0, reused=not compared)
        )  # fmt: skip
    rest = []
    n_rest = options.iterations - n_trial
    for number in range(1, n_rest + 1):
        reached = _radius_px(middle * (fine / middle) ** min(1.0, 1.4 * number / n_rest), length_A, nyquist_px)
        grown = min(n_images, round(few * max(1.0, n_images / few) ** (number / n_rest)))
        drawn, balanced = number <= DRAWN_FRAC * n_rest, max(0.0, 1 - number / (RELEASED_FRAC * n_rest))
        rest.append(Step(grown, reached, False, True, drawn, balanced=balanced))
    if options.classes > 1:
        rest += [Step(n_images, rest[-1].radius_px, False, True, False)] * SORTING_STEPS
    return [Round(tuple(trial), 0.0), Round(tuple(rest), 1.0)]


def fine_steps(
    resolution_A: float, diameter_A: float, n_images: int, length_A: float, nyquist_px: int
) -> tuple[Step, Step]:
    """The step that searches, and the one that ends it, for particles whose views differ in fine features alone.

    Coarse shells tell little of the views of such a particle and lead astray: what is not the particle's own there
    (neighbours, gradients) is strong. A hollow map is negative inside for want of low frequencies; held positive, such
    a map lost its fine features.
    """
    finest = _radius_px(resolution_A, length_A, nyquist_px)
    first = min(math.ceil(length_A / (FINE_FIRST_FRAC * diameter_A)), finest // 2)
    last = Step(n_images, finest, False, True, False, positive=False)
    some = math.ceil(FINE_IMAGES_FRAC * n_images)
    climbing = replace(
        last, n_images=some, first_px=first, sparse=True, pushed=True, balanced=1.0, reused=True
    )  # fmt: skip
    return climbing, last
