"""Soft edges in real and Fourier space, and box sizes that transform fast."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from halfmap.fourier.grid import real_space_radius_px


def cosine_edge(beyond: Float[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    """1 where the argument is 0 or less, 0 where it is 1 or more, half a period of a cosine between."""
    return 0.5 + 0.5 * torch.cos(math.pi * beyond.clamp(0.0, 1.0))


def low_pass(radius_px: Float[Tensor, "*any"], cutoff_px: float) -> Float[Tensor, "*any"]:
    """Half a period of a cosine over the two shells about a cut-off."""
    return cosine_edge((radius_px - cutoff_px) / 2.0 + 0.5)


def soft_ball(
    shape: tuple[int, ...], diameter_px: float, edge_px: float, device: torch.device | str = "cpu"
) -> Float[Tensor, "*image"]:
    """A disc or ball about the origin ``n // 2``: 1 within the diameter, a cosine edge outwards, 0 beyond."""
    return cosine_edge((real_space_radius_px(shape, device) - diameter_px / 2) / edge_px)


def even_fast_size(n: int) -> int:
    """Smallest even number of at least ``n`` whose prime factors are 2, 3 and 5.

    >>> even_fast_size(62), even_fast_size(64)
    (64, 64)
    """
    return 2 * int(next_fast_len(math.ceil(max(2, n) / 2), real=True))
