"""Falloff of a map's amplitudes: the Guinier plot and its B factor (Rosenthal & Henderson 2003)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.shells import shell_index_3d, shell_mean
from halfmap.typing import FloatArray

FIT_FROM_A = 10.0
"""Coarser than this, shape and solvent rule the amplitudes, not the falloff."""
FIT_REACH = 0.7
"""The fit must reach this share of where it begins: from 10 Å to 7.5 Å helical proteins fall off by themselves."""
MIN_FIT_SHELLS = 5


@dataclass(frozen=True, eq=False)
class GuinierFit:
    """Straight line through ``ln |F|`` over ``1/d²``.

    Attributes
    ----------
    inverse_d_squared
        ``1/d²`` of each shell in 1/Å².
    ln_amplitude
        ``ln`` of the root mean square amplitude of each shell; NaN where it is zero.
    b_factor_A2
        ``−4 ·`` slope: positive for a map that falls off. None if there was no range to fit.
    intercept
        Of the line; None if there was no range to fit.
    fitted_from_A, fitted_to_A
        Range of the fit.
    """

    inverse_d_squared: FloatArray
    ln_amplitude: FloatArray
    b_factor_A2: float | None
    intercept: float | None
    fitted_from_A: float
    fitted_to_A: float


def guinier_fit(
    volume: Float[Tensor, "z y x"],
    pixel_size_A: float,
    resolution_A: float,
    shell_weight: Float[Tensor, " shells"] | None = None,
    *,
    fit_from_A: float = FIT_FROM_A,
) -> GuinierFit:
    """Fit the B factor of a map between ``fit_from_A`` and its resolution.

    Parameters
    ----------
    volume
        The map, masked if there is a mask.
    pixel_size_A
        Of the map.
    resolution_A
        Where the fit ends.
    shell_weight
        Weights that amplitudes are multiplied with, e.g. ``sqrt(2 FSC / (1 + FSC))``.
    fit_from_A
        Where the fit begins. If the resolution is coarser than 0.7 times this, or fewer than five shells lie
        between, nothing is fitted.
    """
    n = volume.shape[0]
    power = torch.fft.rfftn(volume).abs().square()
    amplitude = shell_mean(power, shell_index_3d(n, volume.device)).sqrt()
    if shell_weight is not None:
        amplitude = amplitude * shell_weight.to(amplitude)
    values = amplitude.cpu().numpy()
    frequency = np.arange(len(values)) / (n * pixel_size_A)
    x = frequency**2
    with np.errstate(divide="ignore"):
        y = np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), np.nan)
    fitted = (frequency >= 1.0 / fit_from_A) & (frequency <= 1.0 / resolution_A) & np.isfinite(y)
    if resolution_A > FIT_REACH * fit_from_A or fitted.sum() < MIN_FIT_SHELLS:
        return GuinierFit(x, y, None, None, fit_from_A, resolution_A)
    slope, intercept = np.polyfit(x[fitted], y[fitted], 1)
    return GuinierFit(x, y, -4.0 * float(slope), float(intercept), fit_from_A, resolution_A)
