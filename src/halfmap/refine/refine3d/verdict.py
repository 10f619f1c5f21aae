"""Whether two halves agree on more than the starting map that both were given."""

from __future__ import annotations

import math

from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_RECOVERED, FSC_HALF_MAP_THRESHOLD
from halfmap.fourier.fsc import Independence, resolution_of_shell_A, shell_of_threshold
from halfmap.refine.images.lattice import MapGrid

NO_GAIN = 0.9
"""A final resolution worse than this share of the starting one is not evidence of a structure."""


def own_resolution_A(own: Tensor, grid: MapGrid, independence: Independence) -> float:
    """The last shell to which the halves agree beyond their starting map, from :func:`own_fsc`.

    Not interpolated: the curve is 1 as far as the starting map goes, by definition, and says nothing between.
    """
    shell = shell_of_threshold(own, FSC_HALF_MAP_THRESHOLD, independence, FSC_HALF_MAP_RECOVERED)
    return resolution_of_shell_A(float(math.floor(shell)), grid.box_px, grid.pixel_size_A)


def verdict(reached_A: float, own_A: float, given_A: float) -> tuple[float, str]:
    """The resolution to state, and why the result is no evidence of a structure (empty if it is).

    Parameters
    ----------
    reached_A
        To which the halves agree.
    own_A
        The same without what the mask spread (:func:`own_resolution_A`).
    given_A
        Of the starting map.
    """
    agree = f"The halves agree to {reached_A:.1f} Å"
    if reached_A > NO_GAIN * given_A:
        return reached_A, f"{agree} only, no further than the starting map was given ({given_A:.3g} Å)"
    if own_A > NO_GAIN * given_A:
        spread = f"{agree}, but beyond the {given_A:.3g} Å of the starting map only as a mask spreads what is shared"
        return max(reached_A, own_A), spread
    return reached_A, ""
