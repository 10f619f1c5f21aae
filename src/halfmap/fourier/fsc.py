"""Fourier shell and ring correlation (Harauz & van Heel 1986), and the resolution read from them."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import slabs
from halfmap.fourier.shells import n_shells, shell_index_2d, shell_index_3d, shell_sums


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


def shell_of_threshold(correlation: Float[Tensor, " shells"], threshold: float) -> float:
    """Shell at which a curve first falls below a threshold, interpolated linearly between shells.

    The last shell if it never does; 0 if it does so from shell 1 on (shell 0 is the mean and says nothing).
    """
    below = torch.nonzero(correlation[1:] < threshold)
    if not len(below):
        return float(len(correlation) - 1)
    first = int(below[0]) + 1
    if first == 1:
        return 0.0
    before, after = float(correlation[first - 1]), float(correlation[first])
    return first - 1 + (before - threshold) / (before - after)


def last_shell_above(correlation: Float[Tensor, " shells"], threshold: float) -> int:
    """Last shell at which a curve is not below a threshold, whatever it was before; 0 if there is none."""
    above = torch.nonzero(correlation[1:] >= threshold)
    return int(above[-1]) + 1 if len(above) else 0


def resolution_A(correlation: Float[Tensor, " shells"], threshold: float, box_px: int, pixel_size_A: float) -> float:
    """Resolution in Å at which a curve first falls below a threshold; infinite if it never rises above it."""
    shell = shell_of_threshold(correlation, threshold)
    return box_px * pixel_size_A / shell if shell > 0.0 else float("inf")
