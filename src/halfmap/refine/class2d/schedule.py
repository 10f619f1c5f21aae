"""Which particles, and which resolution, each pass of 2D classification takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from halfmap.refine.class2d.options import Class2DOptions

GROWN_FRAC = 0.7
"""Share of the passes after which all particles are taken and the finest resolution may be reached."""
SETTLED_FRAC = 0.8
"""Share of the passes after which classes are neither restarted nor centred."""


@dataclass(frozen=True)
class Pass:
    """One pass."""

    n_images: int
    radius_px: int
    """Outermost shell that may be used."""
    reseed: bool
    centre: bool
    last: bool


def schedule(options: Class2DOptions, n_images: int, length_A: float, nyquist_px: int) -> list[Pass]:
    """Mini-batches grow to all particles, the resolution to the finest one, both geometrically."""
    n_first = min(n_images, max(200, options.batch_per_class * options.classes))
    finest = min(length_A / options.resolution_A, nyquist_px)
    coarsest = min(length_A / options.start_resolution_A, finest)
    passes = []
    for number in range(options.iterations):
        done = number / max(options.iterations - 1, 1)
        grown = min(1.0, done / GROWN_FRAC)
        count = round(n_first * (n_images / n_first) ** grown)
        # Resolution rises in steps, so that mini-batches at one resolution add up.
        risen = 0.0 if done < 0.2 else min(1.0, (done - 0.2) / (GROWN_FRAC - 0.2))
        radius = coarsest * (finest / coarsest) ** risen
        last = number == options.iterations - 1
        changing = done < SETTLED_FRAC and not last
        passes.append(Pass(n_images if last else count, max(5, math.floor(radius)), changing, changing, last))
    return passes
