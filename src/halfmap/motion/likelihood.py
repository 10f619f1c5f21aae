"""The log-likelihood of shifts: each frame against the sum of the others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.band import Band, moved_frame, multiplicity, rows_first, sum_of_moved
from halfmap.motion.likelihood_fast import add_derivatives, add_powers
from halfmap.typing import Array, FloatArray

_PARTS: Final = ("value", "gradient", "hessian")


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
    """Correlate each frame with the sum of the other frames; numba on the CPU, plain torch elsewhere.

    Parameters
    ----------
    band
        Low frequencies of the frames.
    shifts_px
        ``[n, 2]`` shifts (x, y) to apply.
    weight
        Of each coefficient, from ``Weighting.at``.
    """
    if band.ft.device.type != "cpu":
        return derivatives_plainly(band, shifts_px, weight)
    return derivatives_of_many(band.ft[None], band, shifts_px[None], weight).of(0)


def derivatives_of_many(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]
) -> Derivatives:
    """``derivatives`` of several sets of frames at shifts ``[p, n, 2]``; of ``band`` the frequencies matter."""
    if ft.device.type != "cpu":
        each = [derivatives_plainly(replace(band, ft=one), at, weight) for one, at in zip(ft, shifts_px, strict=True)]
        return Derivatives(*(np.stack([getattr(one, name) for one in each]) for name in _PARTS))
    omega_y, omega_x = ((2.0 * math.pi * f).float().numpy() for f in (band.fy, band.fx))
    sums = np.zeros((*shifts_px.shape[:2], 6))
    times = (weight * multiplicity(band)).numpy()
    for one, along_y, along_x, into in zip(ft, *_phase_tables(band, shifts_px), sums, strict=True):
        add_derivatives(rows_first(one), along_y, along_x, times, omega_y, omega_x, into)
    return _derivatives_of(sums)


def derivatives_plainly(band: Band, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]) -> Derivatives:
    """The plain torch form of ``derivatives``: the reference of the fast one, and the one for CUDA."""
    times = weight * multiplicity(band)
    omega_y, omega_x = 2.0 * math.pi * band.fy[:, None], 2.0 * math.pi * band.fx[None, :]
    total = sum_of_moved(band, shifts_px)
    sums = np.zeros((len(shifts_px), 6))
    for i, shift in enumerate(shifts_px):
        moved = moved_frame(band, i, shift)
        cross = moved.conj() * (total - moved) * times
        real, imaginary = cross.real, cross.imag
        terms = (
            real, -imaginary * omega_x, -imaginary * omega_y,
            real * omega_x**2, real * omega_x * omega_y, real * omega_y**2,
        )  # fmt: skip
        sums[i] = torch.stack([term.double().sum() for term in terms]).cpu().numpy()
    return _derivatives_of(sums)


def powers_of(band: Band, shifts_px: FloatArray) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """Power of the sum of the shifted frames, and sum of their powers; numba on the CPU, plain torch elsewhere."""
    if band.ft.device.type != "cpu":
        return powers_plainly(band, shifts_px)
    return mean_powers_of_many(band.ft[None], band, shifts_px[None])


def mean_powers_of_many(
    ft: Complex[Tensor, "p n ky kx"], band: Band, shifts_px: FloatArray
) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """``powers_of`` several sets of frames at shifts ``[p, n, 2]``, in the mean; of ``band`` the frequencies matter."""
    if ft.device.type != "cpu":
        each = [powers_plainly(replace(band, ft=one), at) for one, at in zip(ft, shifts_px, strict=True)]
        of_sums, of_eaches = (torch.stack(powers).mean(dim=0) for powers in zip(*each, strict=True))
        return of_sums, of_eaches
    of_sum, of_each = (np.zeros(tuple(ft.shape[2:]), np.float32) for _ in range(2))
    for one, along_y, along_x in zip(ft, *_phase_tables(band, shifts_px), strict=True):
        add_powers(rows_first(one), along_y, along_x, of_sum, of_each)
    of_sum /= len(ft)
    of_each /= len(ft)
    return torch.from_numpy(of_sum), torch.from_numpy(of_each)


def powers_plainly(band: Band, shifts_px: FloatArray) -> tuple[Float[Tensor, "ky kx"], Float[Tensor, "ky kx"]]:
    """The plain torch form of ``powers_of``: the reference of the fast one, and the one for CUDA."""
    of_each = torch.zeros_like(band.ft[0].real)
    for frame in band.ft:
        of_each += frame.abs().square()
    return sum_of_moved(band, shifts_px).abs().square(), of_each


def _phase_tables(band: Band, shifts_px: FloatArray) -> tuple[Array, Array]:
    """Factors ``[p, n, ky]`` and, as real and imaginary parts, ``[p, 2, n, kx]``, whose products shift the frames."""
    parts = []
    for axis, frequencies in ((1, band.fy), (0, band.fx)):
        turns = shifts_px[..., axis, None] * frequencies.double().numpy()
        angle = (-2.0 * math.pi * (turns - np.rint(turns))).astype(np.float32)
        parts.append((np.cos(angle), np.sin(angle)))
    along_y = np.empty(parts[0][0].shape, np.complex64)
    along_y.real, along_y.imag = parts[0]
    return along_y, np.stack(parts[1], axis=1)


def _derivatives_of(sums: FloatArray) -> Derivatives:
    hessian = sums[..., [3, 4, 4, 5]].reshape(*sums.shape[:-1], 2, 2)
    return Derivatives(sums[..., 0], sums[..., 1:3], hessian)
