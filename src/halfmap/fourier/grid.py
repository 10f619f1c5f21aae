"""Frequencies of the half-plane layout of ``rfft2`` and ``rfftn``."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

SLAB_ELEMENTS = 1 << 20
"""Elements of a volume that are worked on at once where it is not to be held twice."""


def slabs(n: int, elements: int) -> Iterator[slice]:
    """An axis of ``n`` in slices that hold so many elements at each place, about a million at once.

    >>> list(slabs(5, 1 << 20))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None), slice(3, 4, None), slice(4, 5, None)]
    """
    step = max(1, SLAB_ELEMENTS // max(elements, 1))
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def frequencies_2d(
    shape: tuple[int, int], pixel_size_A: float = 1.0, device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "y x_half"], Float[Tensor, "y x_half"]]:
    """Frequencies (fx, fy) in 1/Å of the transform of images of ``shape`` (y, x), float32.

    With ``pixel_size_A = 1`` they are in cycles per pixel. At an even Nyquist row ``fy`` is negative
    and at the last column of an even width ``fx`` is positive.
    """
    fy = torch.fft.fftfreq(shape[0], pixel_size_A, dtype=torch.float64, device=device)
    fx = torch.fft.rfftfreq(shape[1], pixel_size_A, dtype=torch.float64, device=device)
    grid_y, grid_x = torch.meshgrid(fy.float(), fx.float(), indexing="ij")
    return grid_x.contiguous(), grid_y.contiguous()


def frequencies_3d(
    shape: tuple[int, int, int], pixel_size_A: float = 1.0, device: torch.device | str = "cpu"
) -> tuple[Float[Tensor, "z y x_half"], Float[Tensor, "z y x_half"], Float[Tensor, "z y x_half"]]:
    """Frequencies (fx, fy, fz) in 1/Å of the transform of volumes of ``shape`` (z, y, x), float32."""
    fz = torch.fft.fftfreq(shape[0], pixel_size_A, dtype=torch.float64, device=device)
    fy = torch.fft.fftfreq(shape[1], pixel_size_A, dtype=torch.float64, device=device)
    fx = torch.fft.rfftfreq(shape[2], pixel_size_A, dtype=torch.float64, device=device)
    grid_z, grid_y, grid_x = torch.meshgrid(fz.float(), fy.float(), fx.float(), indexing="ij")
    return grid_x.contiguous(), grid_y.contiguous(), grid_z.contiguous()


def radius_px(
    shape: tuple[int, ...], device: torch.device | str = "cpu", first: slice = slice(None)
) -> Float[Tensor, "*half_layout"]:
    """Radius of each element of the transform of square or cubic images, in Fourier pixels (float32).

    ``shape`` is the real-space shape, ``(n, n)`` or ``(n, n, n)``; for other shapes the unit is the
    Fourier pixel of the last axis. ``first`` takes a part of the first axis.
    """
    axes = [torch.fft.fftfreq(n, dtype=torch.float64, device=device) for n in shape[:-1]]
    axes[0] = axes[0][first]
    axes.append(torch.fft.rfftfreq(shape[-1], dtype=torch.float64, device=device))
    squared = torch.zeros((), dtype=torch.float64, device=device)
    for axis in axes:
        squared = squared[..., None] + (axis * shape[-1]).square()
    return squared.sqrt().float()


def real_space_radius_px(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Float[Tensor, "*image"]:
    """Distance of each pixel from the origin ``n // 2``, in pixels (float32)."""
    squared = torch.zeros((), dtype=torch.float64, device=device)
    for n in shape:
        squared = squared[..., None] + (torch.arange(n, dtype=torch.float64, device=device) - n // 2).square()
    return squared.sqrt().float()


def friedel_weight(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Float[Tensor, " x_half"]:
    """How often each column of the half layout occurs in the full transform: 1 for kx = 0 and Nyquist, else 2.

    Sums over the full plane or volume are sums over the half layout with this weight on the last axis.
    """
    n = shape[-1]
    weight = torch.full((n // 2 + 1,), 2.0, device=device)
    weight[0] = 1.0
    if n % 2 == 0:
        weight[-1] = 1.0
    return weight
