"""Radiation damage as a loss of signal with exposure (Grant & Grigorieff 2015, eLife 4, e06980)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_AT_300_KV = (0.245, -1.665, 2.81)
_SCALE_OF_VOLTAGE_kV = ((100.0, 0.64), (200.0, 0.8), (300.0, 1.0))


def critical_dose_e_per_A2(frequency_per_A: Tensor, voltage_kV: float) -> Tensor:
    """Exposure in e/Å² after which the signal at a frequency has fallen to 1/e of its power.

    ``0.245 k^−1.665 + 2.81`` at 300 kV, 0.8 times as much at 200 kV (Grant & Grigorieff 2015). At 100 kV
    0.64 times: the same step again, as the inverse scattering cross-section falls. Voltages between are
    interpolated linearly, and those outside keep the last factor.
    """
    factor, exponent, offset = _AT_300_KV
    scale = _voltage_scale(voltage_kV)
    return scale * (factor * frequency_per_A.clamp(min=1e-10).pow(exponent) + offset)


def _voltage_scale(voltage_kV: float) -> float:
    (v0, s0), (v1, s1), (v2, s2) = _SCALE_OF_VOLTAGE_kV
    voltage = min(max(voltage_kV, v0), v2)
    if voltage <= v1:
        return s0 + (s1 - s0) * (voltage - v0) / (v1 - v0)
    return s1 + (s2 - s1) * (voltage - v1) / (v2 - v1)


def damage_amplitude(
    frequency_per_A: Float[Tensor, "*grid"], exposure_e_per_A2: Float[Tensor, " frames"], voltage_kV: float
) -> Float[Tensor, frames * grid]:
    """Fraction of the amplitude at each frequency that is left after an exposure, ``exp(−N / 2 Nc)``."""
    critical = critical_dose_e_per_A2(frequency_per_A, voltage_kV)
    exposure = exposure_e_per_A2.to(critical).reshape(-1, *[1] * frequency_per_A.ndim)
    return torch.exp(-exposure / (2.0 * critical))


def dose_weights(
    frequency_per_A: Float[Tensor, "*grid"],
    dose_per_frame_e_per_A2: Float[Tensor, " frames"],
    voltage_kV: float,
    pre_exposure_e_per_A2: float = 0.0,
) -> Float[Tensor, frames * grid]:
    """Weights with which aligned frames are summed.

    The filter of a frame is its :func:`damage_amplitude` at the exposure accumulated by its end, and the
    sum is divided by the root of the sum of squared filters, so that noise of equal power in all frames
    keeps its power: white noise stays white in the weighted sum.

    Parameters
    ----------
    frequency_per_A
        Frequencies in 1/Å of any grid.
    dose_per_frame_e_per_A2
        Exposure of each frame, in order.
    voltage_kV
        Acceleration voltage.
    pre_exposure_e_per_A2
        Exposure before the first frame.
    """
    accumulated = pre_exposure_e_per_A2 + torch.cumsum(dose_per_frame_e_per_A2.double(), dim=0)
    filters = damage_amplitude(frequency_per_A, accumulated, voltage_kV)
    return filters / filters.square().sum(dim=0).sqrt().clamp(min=torch.finfo(filters.dtype).tiny)
