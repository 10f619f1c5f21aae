"""References on rings: from real-space images, from volumes, and back to images."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.pixels import PixelList
from halfmap.fourier.slicing import extract_pixels, insert_pixels
from halfmap.geometry.rotations import in_plane
from halfmap.refine.rings.transform import RingGrid

CHUNK_ELEMENTS = 1 << 23


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
    area = grid.pixels_per_point(polar.device)
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


def rings_of_volume(
    grid: RingGrid,
    volume_ft: Complex[Tensor, "edge edge half"],
    rot_img_from_map: Float[Tensor, "d 3 3"],
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> Complex[Tensor, "d r t"]:
    """Central slices of a volume (``fourier.slices.prepare_volume``) at the points of the half rings.

    A ray of the ring points at angle ``t`` is the x axis of the view turned in its plane by ``t``.
    """
    rays = extract_pixels(
        volume_ft, _rays(grid, rot_img_from_map), _ray_pixels(grid, volume_ft), padding, threads=threads
    )
    return rays.reshape(rot_img_from_map.shape[0], grid.n_angles // 2, grid.n_rings).transpose(1, 2).contiguous()


def insert_rings(
    grid: RingGrid,
    values: Complex[Tensor, "d r t"],
    weights: Float[Tensor, "d r t"],
    rot_img_from_map: Float[Tensor, "d 3 3"],
    numerator: Complex[Tensor, "edge edge half"],
    denominator: Float[Tensor, "edge edge half"],
    padding: float = 2.0,
) -> None:
    """Add values and weights at the points of half rings to the accumulators in place.

    The adjoint of ``rings_of_volume``.
    """
    rays, ray_weights = (part.transpose(1, 2).reshape(-1, grid.n_rings).contiguous() for part in (values, weights))
    insert_pixels(
        rays,
        ray_weights,
        _rays(grid, rot_img_from_map),
        _ray_pixels(grid, numerator),
        numerator,
        denominator,
        padding,
    )


def _rays(grid: RingGrid, rot_img_from_map: Float[Tensor, "d 3 3"]) -> Float[Tensor, "dt 3 3"]:
    angle = math.pi * torch.arange(grid.n_angles // 2, dtype=torch.float64) / (grid.n_angles // 2)
    turned = in_plane(angle).to(rot_img_from_map) @ rot_img_from_map[:, None]
    return turned.flatten(0, 1)


def _ray_pixels(grid: RingGrid, like: Tensor) -> PixelList:
    """The pixels (r, 0), as a list of Fourier pixels."""
    radius = torch.arange(grid.n_rings, device=like.device)
    multiplicity = torch.where(radius == 0, 1.0, 2.0)
    reach = float(grid.n_rings - 1)
    return PixelList(2 * grid.n_rings, reach, reach, radius, torch.zeros_like(radius), radius, radius, multiplicity)
