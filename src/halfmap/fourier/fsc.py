"""Fourier shell and ring correlation (Harauz & van Heel 1986), and the resolution read from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import slabs
from halfmap.fourier.shells import n_shells, shell_index_2d, shell_index_3d, shell_sums

BRIDGED_SIGMAS = 1.5
"""What shells beyond a fall must show, in standard deviations of noise, for the fall to be passed over."""


@dataclass(frozen=True)
class Independence:
    """How much of an FSC is independent of the rest of it, within a mask and under a symmetry."""

    joined: int = 0
    """Shells to each side that a mask joins with each shell (:func:`joined_shells`)."""
    frac: float = 1.0
    """Share of a shell's values that are independent: the mask's of the box, over the order of a point group."""


WHOLE_BOX: Final = Independence()
"""No mask and no symmetry."""


def fsc(a: Float[Tensor, "z y x"], b: Float[Tensor, "_ _ _"]) -> Float[Tensor, " shells"]:
    """Fourier shell correlation of two volumes, shells 0 to Nyquist, float64; 0 where a volume is empty."""
    return correlation_of_transforms(torch.fft.rfftn(a), torch.fft.rfftn(b))


def frc(a: Float[Tensor, "y x"], b: Float[Tensor, "_ _"]) -> Float[Tensor, " shells"]:
    """Fourier ring correlation of two images, rings 0 to Nyquist, float64; 0 where an image is empty."""
    return correlation_of_transforms(torch.fft.rfft2(a), torch.fft.rfft2(b))


def correlation_of_transforms(
    a_ft: Complex[Tensor, "*volume x_half"], b_ft: Complex[Tensor, ...], reach: int = 0
) -> Float[Tensor, " shells"]:
    """FSC or FRC of two transforms in the half layout (both with the same origin).

    With a ``reach``, products and powers are summed over so many shells to both sides as well before they are
    divided, so that a shell in which a hollow particle has no power does not look like a disagreement.
    """
    if a_ft.shape != b_ft.shape:
        raise HalfmapError(f"only maps of one size can be compared, found {tuple(a_ft.shape)}, {tuple(b_ft.shape)}")
    n = a_ft.shape[-2]
    if a_ft.ndim == 2:
        sums = _products(a_ft, b_ft, shell_index_2d(n, a_ft.device))
    else:
        sums = torch.zeros(3, n_shells(n), dtype=torch.float64, device=a_ft.device)
        for planes in slabs(n, a_ft[0].numel()):
            sums += _products(a_ft[planes], b_ft[planes], shell_index_3d(n, a_ft.device, planes))
    if reach:
        sums = torch.nn.functional.conv1d(sums[:, None], sums.new_ones(1, 1, 2 * reach + 1), padding=reach)[:, 0]
    cross, power_a, power_b = sums
    product = power_a * power_b
    return torch.where(product > 0, cross / product.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)


def _products(a_ft: Tensor, b_ft: Tensor, shell: Tensor) -> Float[Tensor, "3 shells"]:
    """Sums over shells of the products of two transforms, and of their powers."""
    a, b = torch.view_as_real(a_ft), torch.view_as_real(b_ft)
    return torch.stack(shell_sums([(a * b).sum(-1), (a * a).sum(-1), (b * b).sum(-1)], shell))


def noise_variance(shells: Int[Tensor, " n"], independent_frac: float) -> Float[Tensor, " n"]:
    """Variance of the FSC of noise at some shells: one over the number of independent real values there.

    That number is ``4 pi shell^2 independent_frac`` (van Heel & Schatz 2005, J. Struct. Biol. 151, 250), where a mask
    leaves its share of the box independent, and a point group one over its order of that.
    """
    return 1 / (4 * math.pi * shells.double().square().clamp(min=1.0) * independent_frac)


def shell_of_threshold(
    correlation: Float[Tensor, " shells"],
    threshold: float,
    independence: Independence = WHOLE_BOX,
    recovered: float | None = None,
) -> float:
    """Shell at which a curve first falls below a threshold, interpolated linearly between shells.

    The last shell if it never does; 0 if it does so from shell 1 on (shell 0 is the mean and says nothing).

    Where a mask joins shells, a fall is passed over if the mean of the next ``2 joined + 1`` shells, from its own on,
    is neither below ``recovered`` (the threshold if absent) nor within chance (1.5 standard deviations,
    :func:`noise_variance`). A small or symmetric particle has so few independent values in a shell that single ones
    fall by chance; a curve that stays down is read where it falls.
    """
    last, least = len(correlation) - 1, threshold if recovered is None else recovered
    for shell in (torch.nonzero(correlation[1:] < threshold)[:, 0] + 1).tolist():
        if independence.joined:
            end = min(shell + 2 * independence.joined + 1, last + 1)
            window = torch.arange(shell, end, device=correlation.device)
            chance = float(noise_variance(window, independence.frac).sum().sqrt()) / len(window)
            if float(correlation[window].mean()) >= max(least, BRIDGED_SIGMAS * chance):
                continue
        if shell == 1:
            return 0.0
        before, after = float(correlation[shell - 1]), float(correlation[shell])
        return shell - 1 + (before - threshold) / (before - after) if before > threshold else float(shell - 1)
    return float(last)


def joined_shells(mask: Float[Tensor, "z y x"]) -> int:
    """Shells to each side that a mask joins with each shell: half its reciprocal extent, rounded up.

    Shells closer than the reciprocal extent are not independent within the mask, so little is lost when they are taken
    together. The transform of a hollow particle has narrow shells without power, in which noise decides a curve of
    single shells: a map of apoferritin that agrees to 8 Å fell below 0.5 at 109 Å.
    """
    inside = mask > 0.5
    along = [torch.nonzero(inside.any(dim=others)) for others in ((1, 2), (0, 2), (0, 1))]
    extent_px = max(int(places.max() - places.min()) + 1 for places in along)
    return math.ceil(mask.shape[0] / extent_px / 2)


def last_shell_above(correlation: Float[Tensor, " shells"], threshold: float) -> int:
    """Last shell at which a curve is not below a threshold, whatever it was before; 0 if there is none."""
    above = torch.nonzero(correlation[1:] >= threshold)
    return int(above[-1]) + 1 if len(above) else 0


def resolution_A(
    correlation: Float[Tensor, " shells"],
    threshold: float,
    box_px: int,
    pixel_size_A: float,
    independence: Independence = WHOLE_BOX,
    recovered: float | None = None,
) -> float:
    """Resolution in Å at :func:`shell_of_threshold`; infinite if a curve never rises above the threshold."""
    shell = shell_of_threshold(correlation, threshold, independence, recovered)
    return resolution_of_shell_A(shell, box_px, pixel_size_A)


def resolution_of_shell_A(shell: float, box_px: int, pixel_size_A: float) -> float:
    """Resolution in Å of a shell (with fraction); infinite for shell 0."""
    return box_px * pixel_size_A / shell if shell > 0.0 else float("inf")
