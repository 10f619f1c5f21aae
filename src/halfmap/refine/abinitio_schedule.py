"""How many particles, and which resolution, each step of ab initio reconstruction takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from halfmap.refine.abinitio_options import AbInitioOptions

TRIAL_FRAC = 0.75
"""Share of the steps that every random start makes; the best goes on alone."""
TRIAL_RESOLUTION_A = 20.0
"""Resolution at which the random starts are compared, unless the last one is coarser."""
COMPARED_STEPS = 5
"""Random starts are compared by their mean log-likelihood over the last steps of the trial."""
SYMMETRIC_STEPS = 12
"""Last steps of the trial in which the point group is imposed on all random starts."""
TRIAL_IMAGES = 150
"""Particles of one step while random starts compete; later steps take up to all."""
DRAWN_FRAC = 0.5
"""Share of the later steps that draw poses; the last ones take the whole posterior."""


@dataclass(frozen=True)
class Step:
    """One step."""

    n_images: int
    radius_px: int
    trial: bool
    """Whether random starts still compete."""
    compared: bool
    """Whether their likelihoods at this step decide."""
    symmetric: bool
    """Whether the point group is imposed on all starts."""
    drawn: bool
    """Whether each particle goes into the map at one pose drawn from its posterior, not at all of them."""


def schedule(options: AbInitioOptions, n_images: int, length_A: float, nyquist_px: int) -> list[Step]:
    """Resolution rises geometrically, first to that of the comparison, then to the finest."""

    def radius(resolution_A: float) -> int:
        return max(5, min(math.floor(length_A / resolution_A), nyquist_px - 1))

    coarse, fine = options.start_resolution_A, options.resolution_A
    middle = min(coarse, max(TRIAL_RESOLUTION_A, fine))
    n_trial = max(2, round(TRIAL_FRAC * options.iterations))
    steps = []
    for number in range(n_trial):
        # A third of the steps at the start, a third on the way, a third at the resolution of the comparison.
        risen = min(1.0, max(0.0, 3 * number / (n_trial - 1) - 1))
        reached = radius(coarse * (middle / coarse) ** risen)
        compared = number >= n_trial - COMPARED_STEPS
        symmetric = number >= n_trial - SYMMETRIC_STEPS
        steps.append(Step(min(n_images, TRIAL_IMAGES), reached, True, compared, symmetric, True))
    n_rest = options.iterations - n_trial
    for number in range(1, n_rest + 1):
        reached = radius(middle * (fine / middle) ** min(1.0, 1.4 * number / n_rest))
        grown = min(n_images, round(TRIAL_IMAGES * max(1.0, n_images / TRIAL_IMAGES) ** (number / n_rest)))
        steps.append(Step(grown, reached, False, False, True, number <= DRAWN_FRAC * n_rest))
    return steps
