"""From the FSC of independent halves to the filter of a map, and to the resolution of the next search."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_THRESHOLD
from halfmap.fourier.fsc import fsc, shell_of_threshold

LAST_TRUSTED_FSC = 0.05
"""Shells from the first one below this value are noise alone."""
MAX_FSC = 0.999


def masked_fsc(
    half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]
) -> Float[Tensor, " shells"]:
    """FSC of two half-maps within a soft mask, each relative to its mean outside of it."""
    return fsc(_within(half1, mask), _within(half2, mask))


def _within(volume: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    outside = 1 - mask
    solvent = (volume.double() * outside).sum() / outside.double().sum().clamp(min=1e-9)
    return (volume - solvent.float()) * mask


def trusted(curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """The curve where it is above noise: zero from its first fall below a small value on."""
    below = torch.nonzero(curve[1:] < LAST_TRUSTED_FSC)[:, 0]
    result = curve.clamp(0.0, MAX_FSC).clone()
    if len(below):
        result[int(below[0]) + 1 :] = 0.0
    result[0] = result[1]
    return result


def last_trusted_shell(curve: Float[Tensor, " shells"]) -> int:
    """Last shell before the curve's first fall below noise, at least 1."""
    return max(1, int(torch.count_nonzero(trusted(curve)[1:])))


def ssnr_of_half(curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Spectral signal-to-noise ratio of one half-map, ``FSC / (1 - FSC)``."""
    safe = trusted(curve)
    return safe / (1 - safe)


def ssnr_of_whole(curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Spectral signal-to-noise ratio of the map from all data: twice that of a half."""
    return 2 * ssnr_of_half(curve)


def resolution_shell(curve: Float[Tensor, " shells"]) -> int:
    """Last whole shell before the curve falls below 0.143, at least 1."""
    return max(1, int(shell_of_threshold(curve, FSC_HALF_MAP_THRESHOLD)))
