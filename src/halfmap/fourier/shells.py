"""Sums over shells (rings) of one Fourier pixel width; shell ``s`` holds radii in [s − ½, s + ½)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import friedel_weight, radius_px, real_space_radius_px
from halfmap.fourier.ordered_sums import sums_by_index


def n_shells(n: int) -> int:
    """Number of shells of images of edge ``n``: 0 to Nyquist."""
    return n // 2 + 1


def shell_index_2d(n: int, device: torch.device | str = "cpu") -> Int[Tensor, "y x_half"]:
    """Shell of each element of the half layout of square images of edge ``n``; corners go beyond ``n // 2``."""
    return torch.floor(radius_px((n, n), device) + 0.5).long()


def shell_index_3d(
    n: int, device: torch.device | str = "cpu", planes: slice = slice(None)
) -> Int[Tensor, "z y x_half"]:
    """Shell of each element of the half layout of cubic volumes of edge ``n``; corners go beyond ``n // 2``."""
    return torch.floor(radius_px((n, n, n), device, planes) + 0.5).long()


def shell_sums(values: list[Tensor], shell: Tensor) -> list[Float[Tensor, " shells"]]:
    """Sums of real arrays over shells 0 to Nyquist of the full plane or volume (float64).

    The arrays have the half layout; elements that stand for a Friedel pair count twice.
    """
    edge = shell.shape[-2]
    count = n_shells(edge)
    inside = shell.reshape(-1).clamp(max=count)
    twice = friedel_weight((edge,), shell.device).double()
    sums = []
    for value in values:
        weighted = (value.double() * twice).reshape(-1)
        sums.append(sums_by_index(inside, weighted, count + 1)[:count])
    return sums


def shell_mean(values: Float[Tensor, ...], shell: Int[Tensor, ...]) -> Float[Tensor, " shells"]:
    """Mean of a real array of the half layout over each shell from 0 to Nyquist (float64)."""
    if values.shape != shell.shape:
        raise HalfmapError(f"values {tuple(values.shape)} and shells {tuple(shell.shape)} differ in shape")
    total, count = shell_sums([values, torch.ones_like(values)], shell)
    return total / count


def spread(
    profile: Float[Tensor, "*profiles shells"], shell: Int[Tensor, "*volume"], beyond: float = 0.0
) -> Float[Tensor, ...]:
    """Value of a radial profile, or of each of several, at each element of a layout; ``beyond`` past its last shell."""
    extended = torch.nn.functional.pad(profile, (0, 1), value=beyond)
    return extended[..., shell.clamp(max=profile.shape[-1])]


def whitened(transform: Complex[Tensor, "*volume"], shell: Int[Tensor, "*volume"]) -> Complex[Tensor, "*volume"]:
    """A transform with a mean power of one in every shell up to Nyquist, and nothing beyond."""
    amplitude = shell_mean(transform.abs().square(), shell).sqrt().clamp_min(1e-30)
    return transform / spread(amplitude.to(transform.real.dtype), shell, math.inf)


def radial_average(image: Float[Tensor, "*image"]) -> Float[Tensor, " radii"]:
    """Mean of a square image or cubic volume at each whole radius in pixels about ``n // 2``, in real space."""
    index = torch.floor(real_space_radius_px(tuple(image.shape), image.device) + 0.5).long().reshape(-1)
    count = n_shells(image.shape[-1])
    inside = index.clamp(max=count)
    total = sums_by_index(inside, image.double().reshape(-1), count + 1)[:count]
    return total / torch.bincount(inside, minlength=count + 1)[:count].clamp(min=1)
