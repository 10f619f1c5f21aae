"""A low-pass filter for every place of a map: the one with which each half predicts the other best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.grid import radius_px
from halfmap.fourier.shells import shell_index_3d, spread
from halfmap.fourier.windows import low_pass

CUTOFF_RATIO = 1.3
"""From one cut-off of the bank to the next, at most."""
FEWEST_CUTOFFS = 3
"""What a parabola needs."""
COARSEST_SHARE = 1 / 1.5
"""The coarsest cut-off, as a share of the finest one at most."""
LEAST_SSNR = 0.05
"""Shells of a lower signal-to-noise ratio keep what the Wiener filter made of them."""
WINDOW_WAVELENGTHS = 2.0
"""Full width at half maximum of the window that errors are averaged in, in wavelengths of the cut-off."""
_FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))


@dataclass(frozen=True, eq=False)
class LocalFilter:
    """The place of every voxel in a bank of low-pass filters.

    Attributes
    ----------
    cutoffs_px
        Cut-offs of the bank in shells of the box, from the coarsest to the finest.
    place
        0 for the coarsest, 1 for the next one, and so on; what lies between two stands for a mixture of them.
    """

    cutoffs_px: tuple[float, ...]
    place: Float[Tensor, "z y x"]

    def applied(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "z y x"]:
        """The map with every voxel taken from its own filter, neighbouring filters mixed linearly."""
        transform = torch.fft.rfftn(volume)
        coarser = filtered = _low_passed(transform, self.cutoffs_px[0])
        for band, cutoff_px in enumerate(self.cutoffs_px[1:]):
            finer = _low_passed(transform, cutoff_px)
            filtered = filtered + (finer - coarser) * self._passing(band)
            coarser = finer
        return filtered

    def cutoff_px(self) -> Float[Tensor, "z y x"]:
        """The cut-off of each voxel in shells, interpolated geometrically between those of the bank."""
        logarithm = torch.tensor(self.cutoffs_px, dtype=torch.float64, device=self.place.device).log()
        below = self.place.floor().long().clamp(max=len(self.cutoffs_px) - 2)
        step = logarithm.diff()[below] * (self.place - below)
        return (logarithm[below] + step).exp().float()

    def _passing(self, band: int) -> Float[Tensor, "z y x"]:
        """Share of a band, between two neighbouring cut-offs, that each voxel lets through."""
        return (self.place - band).clamp(0.0, 1.0)


def bank_of(coarsest_px: float, finest_px: float) -> tuple[float, ...]:
    """Cut-offs in geometric steps, so many that each is at most 1.3 times the one before.

    >>> [round(cutoff, 1) for cutoff in bank_of(10.0, 14.4)]
    [9.6, 11.8, 14.4]
    """
    start = min(coarsest_px, COARSEST_SHARE * finest_px)
    steps = max(FEWEST_CUTOFFS - 1, math.ceil(math.log(finest_px / start) / math.log(CUTOFF_RATIO)))
    return tuple(start * (finest_px / start) ** (step / steps) for step in range(steps + 1))


def fit_local_filter(
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    mask: Float[Tensor, "z y x"],
    cutoffs_px: tuple[float, ...],
) -> LocalFilter:
    """Choose the low-pass filter of each voxel by cross-validation between two independent half-maps.

    The filter ``h`` of a voxel minimises ``E = <|h * V1 - V2|^2 + |h * V2 - V1|^2>``, the mean over a soft
    window around it (Punjani, Zhang & Fleet 2020, Nat. Methods 17, 1214, eq. 5). As the noise of one half is
    independent of the other, that is the error against the truth, and a constant. From one cut-off to the next ``E``
    changes by ``<|h' * V|^2 - |h * V|^2 - 2 (h' * V - h * V) V'>``, in which the constant is gone: such changes,
    each averaged in a window as wide as its own wavelengths ask for, are summed from the coarsest cut-off on. A
    parabola through the least sum and its neighbours gives places between two cut-offs.

    Parameters
    ----------
    half1, half2
        Maps of the halves, not shrunk by a Wiener filter and not masked; from the coarsest cut-off on they share
        nothing.
    mask
        Voxels that count; outside of it the coarsest filter is taken.
    cutoffs_px
        The bank, from :func:`bank_of`.
    """
    transforms = [torch.fft.rfftn(half) for half in (half1, half2)]
    first, second = (_low_passed(transform, cutoffs_px[-1]) for transform in transforms)
    coarser = [_low_passed(transform, cutoffs_px[0]) for transform in transforms]
    errors = [torch.zeros_like(mask)]
    for cutoff_px in cutoffs_px[1:]:
        finer = [_low_passed(transform, cutoff_px) for transform in transforms]
        change = torch.zeros_like(mask)
        for before, after, other in zip(coarser, finer, (second, first), strict=True):
            change += after.square() - before.square() - 2 * (after - before) * other
        errors.append(errors[-1] + _local_mean(change, mask, cutoff_px))
        coarser = finer
    return LocalFilter(cutoffs_px, _least(torch.stack(errors)) * (mask > 0))


def unshrunk(volume: Float[Tensor, "z y x"], ssnr: Float[Tensor, " shells"]) -> Float[Tensor, "z y x"]:
    """A Wiener-filtered map with the mean gain of each shell, ``SSNR / (1 + SSNR)``, taken off again.

    What is left of the filter is that directions which were seldom seen count less than others. Shells with next to
    no signal, in a dip of the FSC, stay as shrunk as they are: a low-pass filter would let their noise through.
    """
    factor = torch.where(ssnr > LEAST_SSNR, (1 + ssnr) / ssnr.clamp(min=LEAST_SSNR), 1.0).to(volume)
    gain = spread(factor, shell_index_3d(volume.shape[0], volume.device))
    filtered: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=volume.shape)
    return filtered


def _low_passed(transform: Tensor, cutoff_px: float) -> Float[Tensor, "z y x"]:
    shape = (transform.shape[0],) * 3
    filtered: Tensor = torch.fft.irfftn(transform * low_pass(radius_px(shape, transform.device), cutoff_px), s=shape)
    return filtered


def _local_mean(
    values: Float[Tensor, "z y x"], mask: Float[Tensor, "z y x"], cutoff_px: float
) -> Float[Tensor, "z y x"]:
    """Mean over a Gaussian window within the mask, or nothing where the window holds next to nothing of it."""
    n = values.shape[0]
    sigma_px = WINDOW_WAVELENGTHS * n / cutoff_px / _FWHM_PER_SIGMA
    window_ft = torch.exp(-2 * (math.pi * sigma_px / n * radius_px((n, n, n), values.device)).square())

    def averaged(volume: Tensor) -> Tensor:
        result: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * window_ft, s=(n, n, n))
        return result

    return averaged(values * mask) / averaged(mask).clamp(min=1e-2)


def _least(errors: Float[Tensor, "cutoffs z y x"]) -> Float[Tensor, "z y x"]:
    """Where the errors of each voxel are least: at most half a step from the least one, by a parabola."""
    last = len(errors) - 1
    best = errors.argmin(dim=0)
    inner = best.clamp(1, last - 1)
    left, middle, right = (errors.gather(0, (inner + step)[None])[0] for step in (-1, 0, 1))
    bend = (left - 2 * middle + right).clamp(min=torch.finfo(errors.dtype).tiny)
    vertex = inner + 0.5 * (left - right) / bend
    return vertex.maximum((best - 0.5).clamp(min=0.0)).minimum((best + 0.5).clamp(max=last))
