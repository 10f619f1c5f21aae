"""The grey scale of the images relative to the map, one number an optics group, by least squares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from halfmap.refine.images.noise import balanced_scale
from halfmap.typing import Array, FloatArray

LEAST_SIGNIFICANCE = 5.0
"""Standard errors that a scale must be from zero."""
COARSE_SHARE = 0.5
"""Share of the projections' power, from the coarsest shell on, that the scale is fitted to."""


@dataclass(frozen=True, eq=False)
class GreyScale:
    """Fitted grey scales of the optics groups.

    Attributes
    ----------
    scale
        What the map's projections are multiplied with to become images with background deviation 1, ``[groups]``.
    error
        Standard errors, for white noise, ``[groups]``; infinite for a group without images.
    fitted
        Whether the group's own images gave its scale, or the mean of the others did, ``[groups]``.
    fine_to_coarse
        Scale of the shells beyond relative to that of the coarse ones; None where either is not significant.
    """

    scale: FloatArray
    error: FloatArray
    fitted: Array
    fine_to_coarse: float | None

    @property
    def significant(self) -> bool:
        """Whether any group's images say that the map is in them."""
        return bool(self.fitted.any())


def grey_scale(measured: Sequence[Mapping[str, Any]], n_groups: int) -> GreyScale:
    """Put together what :func:`halfmap.refine.subtract.stacks.measure_stack` found in samples of the images.

    With images ``x`` of unit noise and projections ``m``, the least squares scale is ``sum x m / sum m^2`` with the
    standard error ``(sum m^2)^-1/2``. The sums are over the coarse shells that hold half of the projections' power:
    finer detail was damped by the map's Wiener filter, and there the ratio tells of the filter, not of the grey scale.
    A group whose scale is not 5 standard errors above zero takes the mean.

    Parameters
    ----------
    measured
        Sums by shell of the map.
    n_groups
        Optics groups.
    """
    n_shells = max((len(found["power"]) for found in measured), default=1)
    sums = np.zeros((2, n_groups, n_shells))
    for found in measured:
        for position, quantity in enumerate(("cross", "power")):
            sums[position, found["group"], : len(found[quantity])] += found[quantity]
    reached = np.cumsum(sums[1].sum(axis=0))
    n_coarse = 1 + int(np.searchsorted(reached, COARSE_SHARE * reached[-1]))
    cross, power = sums[:, :, :n_coarse].sum(axis=2)
    error = np.where(power > 0, 1 / np.sqrt(power.clip(1e-300)), math.inf)
    fitted = _significant(cross, power)
    own = torch.as_tensor(np.where(fitted, cross, 0.0))
    relative = balanced_scale(own, torch.as_tensor(power)).numpy()
    mean = cross[fitted].sum() / power[fitted].sum() if fitted.any() else math.nan
    fine = sums[:, :, n_coarse:].sum(axis=2)
    return GreyScale(relative * mean, error, fitted, _ratio((fine[0], fine[1]), (cross, power)))


def _significant(cross: FloatArray, power: FloatArray) -> Array:
    return np.asarray((power > 0) & (cross > LEAST_SIGNIFICANCE * np.sqrt(power)))


def _ratio(fine: tuple[FloatArray, FloatArray], coarse: tuple[FloatArray, FloatArray]) -> float | None:
    """Scale of fine detail relative to that of coarse, over the groups in which both are significant."""
    both = _significant(*fine) & _significant(*coarse)
    if not both.any():
        return None
    expected = coarse[0][both] / coarse[1][both]
    return float((fine[0][both] * expected).sum() / (fine[1][both] * expected**2).sum())
