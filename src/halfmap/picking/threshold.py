"""Which score is a particle: the lowest at which noise would account for few of the picks."""

from __future__ import annotations

import numpy as np

from halfmap.typing import FloatArray


def expected_false(control_scores: FloatArray, copies: int, threshold: float) -> float:
    """Number of picks that signal-free copies have above a threshold, a copy."""
    return float(np.count_nonzero(control_scores >= threshold)) / copies


def choose_threshold(
    scores: FloatArray, control_scores: FloatArray, copies: int, max_false_frac: float
) -> float | None:
    """Find the lowest score at which the share of false picks stays below ``max_false_frac``.

    The share is estimated as (controls above + 1) / copies / picks above (target against decoy; the 1
    keeps small numbers honest: Barber & Candès 2015, Ann. Stat. 43, 2055).

    Parameters
    ----------
    scores
        Scores of the maxima of all micrographs.
    control_scores
        Scores of the maxima of all their signal-free copies.
    copies
        Signal-free copies of each micrograph.
    max_false_frac
        Largest share of false picks.

    Returns
    -------
    float or None
        None if no threshold keeps the promise: nothing rises above the noise.
    """
    falling = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    control = np.sort(np.asarray(control_scores, dtype=np.float64))
    above = len(control) - np.searchsorted(control, falling, side="left")
    share = (above + 1.0) / copies / np.arange(1, len(falling) + 1)
    good = np.flatnonzero(share <= max_false_frac)
    return float(falling[good[-1]]) if good.size else None
