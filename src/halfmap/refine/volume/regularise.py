"""From the FSC of independent halves to the filter of a map, and to the resolution of the next search."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.fsc import Independence, fsc, noise_variance, shell_of_threshold
from halfmap.validation.fsc_curves import fsc_beyond, fsc_curves

LAST_TRUSTED_FSC = 0.05
"""Shells past the last ones whose mean is above this value are noise alone."""
MAX_FSC = 0.999
WINDOW = 2
"""Shells on either side of one whose mean tells signal from chance."""
SIGNIFICANCE = 4.0
"""What their mean must exceed, in standard deviations of the mean of as many shells of noise."""


def masked_fsc(
    half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]
) -> Float[Tensor, " shells"]:
    """FSC of two half-maps within a soft mask, each relative to its mean outside of it."""
    return fsc(_levelled(half1, mask) * mask, _levelled(half2, mask) * mask)


def corrected_fsc(
    half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]
) -> Float[Tensor, " shells"]:
    """The same, with the correlation that comes from the mask alone taken off (``validation.fsc_curves``)."""
    curves = fsc_curves(_levelled(half1, mask), _levelled(half2, mask), 1.0, mask)
    return torch.from_numpy(curves.corrected).to(torch.float64)


def own_fsc(
    half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"], given_shell: int
) -> Float[Tensor, " shells"]:
    """What the halves have in common beyond the starting map that both were given (``validation.fsc_curves``)."""
    return fsc_beyond(_levelled(half1, mask), _levelled(half2, mask), mask, given_shell).double().cpu()


def _levelled(volume: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
    outside = 1 - mask
    solvent = (volume * outside).sum(dtype=torch.float64) / outside.sum(dtype=torch.float64).clamp(min=1e-9)
    return volume - solvent.float()


def reach(curve: Float[Tensor, " shells"], threshold: float, independence: Independence) -> int:
    """Last shell with signal above a threshold, dips before it notwithstanding; at least 1.

    A map has shells of little power, between the shape of a molecule and its helices for example. Its FSC dips there,
    for those shells only. So a curve counts as far as the mean of five shells is above the threshold and above chance
    (:func:`halfmap.fourier.fsc.noise_variance`).

    Parameters
    ----------
    curve
        FSC of independent halves.
    threshold
        Of the mean.
    independence
        Of the curve's shells; dips that are shorter than what a mask joins need no such proof.
    """
    first = int(shell_of_threshold(curve, threshold, independence))
    n = len(curve)
    variance = noise_variance(torch.arange(n), independence.frac)
    last = 1
    for shell in range(n - 1, first, -1):
        window = slice(max(1, shell - WINDOW), min(n, shell + WINDOW + 1))
        mean = float(curve[window].mean())
        chance = float(variance[window].sum().sqrt()) / (window.stop - window.start)
        if mean >= max(threshold, SIGNIFICANCE * chance):
            last = shell
            break
    return max(1, first, last)


def trusted(curve: Float[Tensor, " shells"], independence: Independence) -> Float[Tensor, " shells"]:
    """The curve as far as it is above noise, zero past that; see :func:`reach`."""
    result = curve.clamp(0.0, MAX_FSC).clone()
    result[reach(curve, LAST_TRUSTED_FSC, independence) + 1 :] = 0.0
    result[0] = result[1]
    return result


def last_trusted_shell(trusted_curve: Float[Tensor, " shells"]) -> int:
    """Last shell with signal, at least 1."""
    signal = torch.nonzero(trusted_curve[1:])
    return int(signal[-1]) + 1 if len(signal) else 1


def ssnr_of_half(trusted_curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Spectral signal-to-noise ratio of one half-map, ``FSC / (1 - FSC)``."""
    return trusted_curve / (1 - trusted_curve)


def ssnr_of_whole(trusted_curve: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Spectral signal-to-noise ratio of the map from all data: twice that of a half."""
    return 2 * ssnr_of_half(trusted_curve)
