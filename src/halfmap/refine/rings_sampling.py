"""References on rings: from real-space images, from volumes, and back to images."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.refine.rings import RingGrid

CHUNK_ELEMENTS = 1 << 24


def ring_points(grid: RingGrid, device: torch.device) -> Float[Tensor, "r t 2"]:
    """Points (kx, ky) of the half rings in Fourier pixels, float64."""
    angle = math.pi * torch.arange(grid.n_angles // 2, dtype=torch.float64, device=device) / (grid.n_angles // 2)
    radius = torch.arange(grid.n_rings, dtype=torch.float64, device=device)
    return radius[:, None, None] * torch.stack([torch.cos(angle), torch.sin(angle)], dim=-1)


def rings_of_images(grid: RingGrid, images: Float[Tensor, "d y x"]) -> Complex[Tensor, "d r t"]:
    """Fourier transforms of images (origin at pixel n // 2) at the points of the half rings, exactly."""
    points = ring_points(grid, images.device).flatten(0, 1)
    along_x = _harmonics(points[:, 0], images.shape[2], -1.0)
    along_y = _harmonics(points[:, 1], images.shape[1], -1.0)
    parts = []
    for start in range(0, points.shape[0], chunk := max(1, CHUNK_ELEMENTS // images[..., 0].numel())):
        block = slice(start, start + chunk)
        rows = images.to(along_x.dtype) @ along_x[block].T  # d, y, points
        parts.append(torch.einsum("dyp,py->dp", rows, along_y[block]))
    return torch.cat(parts, dim=1).reshape(images.shape[0], grid.n_rings, -1)


def images_of_rings(grid: RingGrid, polar: Complex[Tensor, "d r t"], box_px: int) -> Float[Tensor, "d y x"]:
    """Real-space images (origin at pixel n // 2) of transforms given on half rings.

    The Fourier integral by the trapezoidal rule on the rings; accurate for objects that fill no
    more than the box, apart from a small constant that stems from the innermost ring.
    """
    points = ring_points(grid, polar.device).flatten(0, 1)
    radius = torch.arange(grid.n_rings, dtype=torch.float64, device=polar.device)
    area = 2 * math.pi * radius / grid.n_angles
    area[0] = math.pi / (4 * grid.n_angles)
    weighted = (polar * (2 * area / box_px**2)[:, None].to(polar.real.dtype)).flatten(1)
    along_x = _harmonics(points[:, 0], box_px, 1.0)
    along_y = _harmonics(points[:, 1], box_px, 1.0)
    result = polar.real.new_zeros(polar.shape[0], box_px, box_px)
    for start in range(0, points.shape[0], chunk := max(1, CHUNK_ELEMENTS // (polar.shape[0] * box_px))):
        block = slice(start, start + chunk)
        rows = weighted[:, None, block] * along_y[block].T  # d, y, points
        result += (rows @ along_x[block]).real
    return result


def _harmonics(frequency_px: Float[Tensor, p], n: int, sign: float) -> Complex[Tensor, "p n"]:
    """``exp(sign 2 pi i k (j - n // 2) / n)`` for all points and pixels."""
    position = (torch.arange(n, dtype=torch.float64, device=frequency_px.device) - n // 2) / n
    angle = (sign * 2 * math.pi * frequency_px[:, None] * position).float()
    return torch.polar(torch.ones_like(angle), angle)
