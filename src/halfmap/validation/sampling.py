"""A volume between its voxels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def voxel_places(n: int, device: torch.device | str = "cpu") -> Float[Tensor, "voxels 3"]:
    """Place (x, y, z) of each voxel of a cubic volume in px from the origin ``n // 2``, in memory order (float64)."""
    axis = torch.arange(n, dtype=torch.float64, device=device) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.stack([x, y, z], dim=-1).reshape(-1, 3)


def trilinear(volume: Float[Tensor, "n n n"], places: Float[Tensor, "batch points 3"]) -> Float[Tensor, "batch points"]:
    """Values at places (x, y, z) in px from the origin ``n // 2``; 0 outside the volume."""
    n = volume.shape[0]
    # grid_sample counts from -1 to 1 between the outermost voxel centres.
    normalised = ((places + n // 2) * (2 / (n - 1)) - 1).to(volume.dtype)[:, None, None]
    source = volume.expand(len(places), 1, -1, -1, -1)
    return torch.nn.functional.grid_sample(source, normalised, align_corners=True)[:, 0, 0, 0]
