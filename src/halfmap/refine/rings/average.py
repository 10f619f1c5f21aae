"""The adjoint of the search: images, weighted by their posterior, averaged on the rings of each direction.

An image at in-plane angle ``psi`` adds ``exp(-i m psi) X_m(r)`` to the sum of its direction: turning
costs nothing, and summing over all poses is again a matrix product for every angular order. With
``X = CTF image / sigma2`` the average corrected for the CTF solves the normal equations whose
matrix is ``N(r, r') = sum_k a_r(k) W(k) a_r'(k)``, ``W = CTF^2 / sigma2`` (averaged over angles:
images meet a class at many in-plane angles), plus a prior ``1 / tau2(r)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.refine.rings.transform import N_TAPS, RingGrid, from_angular_coefficients

NEGLIGIBLE_WEIGHT = 1e-4
"""Posterior weight of one image at one shift below which that shift is left out of the sums."""


@dataclass(frozen=True)
class RingSums:
    """Weighted sums of images on the rings of each direction.

    Attributes
    ----------
    numerator
        Sum of ``CTF image / sigma2``, orders m: ``[m, d, r, 2]``.
    normal
        Sum of the bands of the normal matrix (``RingTransform.normal``): ``[d, b, r, 2]``.
    count
        Posterior weight of all images in each direction, ``[d]``.
    """

    numerator: Tensor
    normal: Tensor
    count: Tensor

    def __add__(self, other: RingSums) -> RingSums:
        return RingSums(self.numerator + other.numerator, self.normal + other.normal, self.count + other.count)

    def part(self, first: int, count: int) -> RingSums:
        """Those of some neighbouring directions."""
        some = slice(first, first + count)
        return RingSums(self.numerator[:, some], self.normal[some], self.count[some])

    def scaled(self, factor: float) -> RingSums:
        """All sums times a number."""
        return RingSums(self.numerator * factor, self.normal * factor, self.count * factor)


def empty_sums(grid: RingGrid, n_directions: int, device: torch.device) -> RingSums:
    """Sums of no images."""
    return RingSums(
        torch.zeros(grid.n_orders, n_directions, grid.n_rings, 2, device=device),
        torch.zeros(n_directions, N_TAPS, grid.n_rings, 2, device=device),
        torch.zeros(n_directions, device=device),
    )


def fits(sums: RingSums, grid: RingGrid) -> bool:
    """Whether a grid reaches at least as far as the one of the sums."""
    return sums.numerator.shape[0] <= grid.n_orders and sums.numerator.shape[2] <= grid.n_rings


def on_larger_grid(sums: RingSums, grid: RingGrid) -> RingSums:
    """The same sums on a grid that reaches further; the new rings and orders have seen nothing."""
    larger = empty_sums(grid, len(sums.count), sums.count.device)
    n_orders, _, n_rings, _ = sums.numerator.shape
    if not fits(sums, grid):
        raise HalfmapError(f"a grid of {grid.n_rings} rings and {grid.n_orders} orders does not hold the sums")
    larger.numerator[:n_orders, :, :n_rings] = sums.numerator
    larger.normal[:, :, :n_rings] = sums.normal
    return RingSums(larger.numerator, larger.normal, sums.count)


def sum_images(
    grid: RingGrid,
    posterior: Float[Tensor, "n psi s d"],
    images: Float[Tensor, "m ns r 2"],
    normal: Float[Tensor, "n b r 2"],
) -> RingSums:
    """Sum images over all their poses.

    Parameters
    ----------
    grid
        The rings.
    posterior
        Weight of every in-plane angle, shift and direction of each image.
    images
        Coefficients of the same images at the same shifts, as for ``rings.log_likelihoods``.
    normal
        Their parts of the normal equations, from ``RingTransform.normal``.
    """
    n, _, n_shifts, n_directions = posterior.shape
    by_shift = posterior.transpose(1, 2).reshape(n * n_shifts, grid.n_angles, n_directions)
    rows = torch.nonzero(by_shift.sum(dim=(1, 2)) > NEGLIGIBLE_WEIGHT)[:, 0]
    real, imag = _orders_of_weights(grid, by_shift[rows])
    of_direction = posterior.sum(dim=(1, 2))
    return RingSums(
        _complex_sum(real, imag, images[:, rows].flatten(2)),
        torch.tensordot(of_direction, normal, dims=([0], [0])),
        of_direction.sum(dim=0),
    )


def sum_aligned(
    grid: RingGrid,
    weights: Float[Tensor, "n d"],
    psi_rad: Float[Tensor, n],
    images: Float[Tensor, "m n r 2"],
    normal: Float[Tensor, "n b r 2"],
) -> RingSums:
    """Sum images at one in-plane angle each (of any value), with given weights in the directions."""
    orders = torch.arange(grid.n_orders, dtype=psi_rad.dtype, device=psi_rad.device)
    phase = orders[:, None] * psi_rad[None, :]
    real, imag = (part.to(weights.dtype)[:, :, None] * weights for part in (torch.cos(phase), -torch.sin(phase)))
    return RingSums(
        _complex_sum(real, imag, images.flatten(2)),
        torch.tensordot(weights, normal, dims=([0], [0])),
        weights.sum(dim=0),
    )


def _orders_of_weights(grid: RingGrid, weights: Float[Tensor, "u psi d"]) -> tuple[Tensor, Tensor]:
    """``sum_psi w exp(-i m psi)``, real and imaginary part, ``[m, u, d]``."""
    n_half = grid.n_angles // 2
    phase = np.pi * np.outer(np.arange(grid.n_orders), np.arange(n_half)) / n_half
    cosine = torch.as_tensor(np.cos(phase), dtype=weights.dtype, device=weights.device)
    sine = torch.as_tensor(-np.sin(phase), dtype=weights.dtype, device=weights.device)
    first, second = weights[:, :n_half], weights[:, n_half:]
    real = weights.new_empty(grid.n_orders, weights.shape[0], weights.shape[2])
    imag = torch.empty_like(real)
    for parity, folded in ((0, first + second), (1, first - second)):
        for matrix, out in ((cosine, real), (sine, imag)):
            out[parity::2] = (matrix[parity::2].expand(weights.shape[0], -1, -1) @ folded).transpose(0, 1)
    return real, imag


def _complex_sum(
    real: Float[Tensor, "m u d"], imag: Float[Tensor, "m u d"], values: Float[Tensor, "m u q"]
) -> Float[Tensor, "m d r 2"]:
    """Sum over u of (real + i imag) times values, whose last axis alternates real and imaginary parts."""
    shape = (real.shape[0], real.shape[2], values.shape[2] // 2, 2)
    by_real = (real.transpose(1, 2) @ values).view(shape)
    by_imag = (imag.transpose(1, 2) @ values).view(shape)
    return by_real + torch.stack([-by_imag[..., 1], by_imag[..., 0]], dim=-1)


def normal_matrices(sums: RingSums, n_angles: int) -> Float[Tensor, "2 d r r"]:
    """Symmetric matrices of the even and odd orders (first axis), float64."""
    bands = sums.normal.double().permute(3, 0, 1, 2) / n_angles  # parity, d, b, r
    matrix = torch.diag_embed(bands[:, :, 0])
    for band in range(1, bands.shape[2]):
        off = torch.diag_embed(bands[:, :, band, :-band], offset=band)
        matrix += off + off.transpose(-1, -2)
    return matrix


def averages(grid: RingGrid, sums: RingSums, inverse_tau2: Float[Tensor, "d r"]) -> Complex[Tensor, "d r t"]:
    """Averages corrected for the CTF, on half rings: the maximum of the posterior with variance tau2 of the signal.

    Parameters
    ----------
    grid
        The rings.
    sums
        Sums of images.
    inverse_tau2
        One over the expected power of the average at each ring (per Fourier pixel); positive.
    """
    prior = torch.diag_embed(inverse_tau2.double() * grid.pixels_per_point(inverse_tau2.device))
    numerator = torch.view_as_complex(sums.numerator).to(torch.complex128)
    solved = torch.empty_like(numerator)
    for parity, matrix in enumerate(normal_matrices(sums, grid.n_angles)):
        right = numerator[parity::2].permute(1, 2, 0)  # d, r, m
        factor = torch.linalg.cholesky(matrix + prior)
        real, imag = (torch.cholesky_solve(part.contiguous(), factor) for part in (right.real, right.imag))
        solved[parity::2] = torch.complex(real, imag).permute(2, 0, 1)
    return from_angular_coefficients(grid, solved).to(torch.complex64)
