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
LEAST_SHELLS = 3
"""Shells from which a B factor is fitted, at least."""


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
    b_factor_A2
        By how much the map is sharper than the images; None where too few shells are significant.
    """

    scale: FloatArray
    error: FloatArray
    fitted: Array
    b_factor_A2: float | None

    @property
    def significant(self) -> bool:
        """Whether any group's images say that the map is in them."""
        return bool(self.fitted.any())


def grey_scale(measured: Sequence[Mapping[str, Any]], n_groups: int, length_A: float) -> GreyScale:
    """Put together what :func:`halfmap.refine.subtract.stacks.measure_stack` found in samples of the images.

    With images ``x`` of unit noise and projections ``m``, the least squares scale is ``sum x m / sum m^2`` with the
    standard error ``(sum m^2)^-1/2``. A group whose scale is not 5 standard errors above zero takes the mean.

    Parameters
    ----------
    measured
        Sums by shell of the map.
    n_groups
        Optics groups.
    length_A
        Edge of the map's box.
    """
    n_shells = max((len(found["power"]) for found in measured), default=1)
    sums = np.zeros((2, n_groups, n_shells))
    for found in measured:
        for position, quantity in enumerate(("cross", "power")):
            sums[position, found["group"], : len(found[quantity])] += found[quantity]
    cross, power = sums.sum(axis=2)
    error = np.where(power > 0, 1 / np.sqrt(power.clip(1e-300)), math.inf)
    fitted = _significant(cross, power)
    own = torch.as_tensor(np.where(fitted, cross, 0.0))
    relative = balanced_scale(own, torch.as_tensor(power)).numpy()
    mean = cross[fitted].sum() / power[fitted].sum() if fitted.any() else math.nan
    scale = relative * mean
    if not fitted.any():
        return GreyScale(scale, error, fitted, None)
    by_shell = (sums[0] * scale[:, None]).sum(axis=0), (sums[1] * scale[:, None] ** 2).sum(axis=0)
    return GreyScale(scale, error, fitted, _b_factor_A2(by_shell[0], by_shell[1], length_A))


def _significant(cross: FloatArray, power: FloatArray) -> Array:
    return np.asarray((power > 0) & (cross > LEAST_SIGNIFICANCE * np.sqrt(power)))


def _b_factor_A2(cross: FloatArray, power: FloatArray, length_A: float) -> float | None:
    """``B`` of ``cross / power = g exp(-B s^2 / 4)``: a weighted straight line through the logarithms of shells."""
    shells = np.flatnonzero(_significant(cross, power))
    if len(shells) < LEAST_SHELLS:
        return None
    ratio = cross[shells] / power[shells]
    # The standard error of ln(ratio) is that of the ratio, power^-1/2, over the ratio.
    slope, _ = np.polyfit((shells / length_A) ** 2, np.log(ratio), 1, w=ratio * np.sqrt(power[shells]))
    return float(-4 * slope)
