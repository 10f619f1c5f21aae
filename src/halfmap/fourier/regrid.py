"""A map on another grid, with any ratio of pixel sizes."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def regrid_matrix(n_in: int, pixel_in_A: float, n_out: int, pixel_out_A: float) -> Float[Tensor, "n_out n_in"]:
    """Matrix from ``n_in`` samples to ``n_out`` along one axis: a sum of the frequencies that both have.

    Both axes have their origin at sample ``n // 2``; what lies outside the input is zero.
    """
    length = n_in * pixel_in_A
    to = (torch.arange(n_out, dtype=torch.float64) - n_out // 2) * pixel_out_A
    of = (torch.arange(n_in, dtype=torch.float64) - n_in // 2) * pixel_in_A
    highest = min((n_in - 1) // 2, math.floor(length * 0.5 / pixel_out_A - 1e-9))
    k = torch.arange(1, highest + 1, dtype=torch.float64)
    phase_to, phase_of = (2 * math.pi / length * where[:, None] * k for where in (to, of))
    matrix = (1 + 2 * (phase_to.cos() @ phase_of.cos().T + phase_to.sin() @ phase_of.sin().T)) / n_in
    inside = (to >= of[0] - 0.5 * pixel_in_A) & (to <= of[-1] + 0.5 * pixel_in_A)
    return matrix * inside[:, None]


def regrid_3d(
    volume: Float[Tensor, "n n n"], pixel_in_A: float, n_out: int, pixel_out_A: float
) -> Float[Tensor, "n_out n_out n_out"]:
    """A cubic map on a grid of ``n_out`` voxels of another size, by band-limited interpolation along each axis."""
    matrix = regrid_matrix(volume.shape[0], pixel_in_A, n_out, pixel_out_A).to(volume.device)
    moved = volume.double()
    for _ in range(3):  # Each turn resamples the last axis and brings the next one there.
        moved = (moved @ matrix.T).permute(2, 0, 1)
    return moved.to(volume.dtype).contiguous()
