"""The log-likelihood of shifts: each frame against the sum of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.band import Band, moved, multiplicity, phases, radians_per_px, rows_first
from halfmap.motion.likelihood_fast import add_derivatives, add_powers
from halfmap.typing import Array, FloatArray

_AT_ONCE: Final = 2**26
"""Coefficients that are worked on together in plain torch."""


@dataclass(frozen=True, eq=False)
class Derivatives:
    """Log-likelihood of the shifts of all frames, and what it tells about them."""

    value: FloatArray
    """``[..., n]`` weighted correlation of each frame with the sum of the others."""
    gradient: FloatArray
    """``[..., n, 2]`` along x and y, per px."""
    hessian: FloatArray
    """``[..., n, 2, 2]`` minus the second derivatives, per px²."""

    def of(self, index: int) -> Derivatives:
        """Those of one of several sets of frames."""
        return Derivatives(self.value[index], self.gradient[index], self.hessian[index])


def derivatives(band: Band, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]) -> Derivatives:
    """Correlate each frame with the sum of the other frames.

    Parameters
    ----------
    band
        Low frequencies of the frames.
    shifts_px
        ``[n, 2]`` shifts (x, y) to apply.
    weight
        Of each coefficient, from ``Weighting.at``.
    """
    return derivatives_of_many(band.ft[None], band, shifts_px[None], weight).of(0)


def derivatives_of_many(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]
) -> Derivatives:
    """``derivatives`` of several sets of frames at shifts ``[p, n, 2]``; of ``band`` the frequencies matter.

    Numba on the CPU, plain torch elsewhere.
    """
    if ft.device.type != "cpu":
        return derivatives_plainly(ft, band, shifts_px, weight)
    omega_y, omega_x = radians_per_px(band.fy).numpy(), radians_per_px(band.fx).numpy()
    sums = np.zeros((*shifts_px.shape[:2], 6))
    times = (weight * multiplicity(band)).numpy()
    for one, along_y, along_x, into in zip(ft, *_phase_tables(band, shifts_px), sums, strict=True):
        add_derivatives(rows_first(one), along_y, along_x, times, omega_y, omega_x, into)
    return _derivatives_of(sums)


def derivatives_plainly(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]
) -> Derivatives:
    """The plain torch form of ``derivatives_of_many``: the reference of the fast one, and the one for CUDA."""
    times = weight * multiplicity(band)
    omega_y, omega_x = radians_per_px(band.fy), radians_per_px(band.fx)
    powers_x = torch.stack([torch.ones_like(omega_x), omega_x, omega_x**2], dim=1)
    sums = []
    for some in _chunks(ft):
        frames = moved(ft[some], band, shifts_px[some])
        cross = frames.conj() * (frames.sum(dim=1, keepdim=True) - frames) * times
        real, imaginary = (cross.real @ powers_x).double(), (cross.imag @ powers_x[:, :2]).double()
        terms = (
            real[..., 0], -imaginary[..., 1], -imaginary[..., 0] * omega_y,
            real[..., 2], real[..., 1] * omega_y, real[..., 0] * omega_y**2,
        )  # fmt: skip
        sums.append(torch.stack(terms, dim=-1).sum(dim=-2).cpu().numpy())
    return _derivatives_of(np.concatenate(sums))


def powers_of(band: Band, shifts_px: FloatArray) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """Power of the sum of the shifted frames, and sum of their powers."""
    return mean_powers_of_many(band.ft[None], band, shifts_px[None])


def mean_powers_of_many(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray
) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """``powers_of`` several sets of frames at shifts ``[p, n, 2]``, in the mean; of ``band`` the frequencies matter.

    Numba on the CPU, plain torch elsewhere.
    """
    if ft.device.type != "cpu":
        return mean_powers_plainly(ft, band, shifts_px)
    of_sum, of_each = (np.zeros(tuple(ft.shape[2:]), np.float32) for _ in range(2))
    for one, along_y, along_x in zip(ft, *_phase_tables(band, shifts_px), strict=True):
        add_powers(rows_first(one), along_y, along_x, of_sum, of_each)
    of_sum /= len(ft)
    of_each /= len(ft)
    return torch.from_numpy(of_sum), torch.from_numpy(of_each)


def mean_powers_plainly(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray
) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """The plain torch form of ``mean_powers_of_many``: the reference of the fast one, and the one for CUDA."""
    of_sum, of_each = (torch.zeros(ft.shape[2:], device=ft.device) for _ in range(2))
    for some in _chunks(ft):
        of_sum += _power(moved(ft[some], band, shifts_px[some]).sum(dim=1)).sum(dim=0)
        of_each += _power(ft[some]).sum(dim=(0, 1))
    return of_sum / len(ft), of_each / len(ft)


def _power(values: Complex[Tensor, "*any"]) -> Float[Tensor, "*any"]:
    return values.real.square() + values.imag.square()


def _chunks(ft: Complex[Tensor, "p n ky kx"]) -> list[slice]:
    """Sets of frames that are worked on together."""
    step = max(1, _AT_ONCE // max(ft[0].numel(), 1))
    return [slice(first, first + step) for first in range(0, len(ft), step)]


def _phase_tables(band: Band, shifts_px: FloatArray) -> tuple[Array, Array]:
    """Factors ``[p, n, ky]`` and, as real and imaginary parts, ``[p, 2, n, kx]``, whose products shift the frames."""
    along_x = phases(shifts_px[..., 0], band.fx)
    return phases(shifts_px[..., 1], band.fy).numpy(), torch.stack([along_x.real, along_x.imag], dim=1).numpy()


def _derivatives_of(sums: FloatArray) -> Derivatives:
    hessian = sums[..., [3, 4, 4, 5]].reshape(*sums.shape[:-1], 2, 2)
    return Derivatives(sums[..., 0], sums[..., 1:3], hessian)
