"""Sums of aligned frames: dose-weighted, unweighted, and the power spectrum of groups of frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.sums_fast import accumulate
from halfmap.optics.dose import dose_weights
from halfmap.typing import Array, FloatArray

N_RADII: Final = 4096
"""Entries of the table of dose weights, from frequency 0 to the corner's."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Transforms ``[y, x//2+1]`` of the sums, and the summed power of the groups."""

    weighted: Complex[Tensor, "y kx"]
    unweighted: Complex[Tensor, "y kx"]
    power: Float[Tensor, "y kx"]


@dataclass(frozen=True, eq=False)
class SumPlan:
    """How the frames are to be added: shifts, weight by frequency, groups."""

    shifts_px: FloatArray
    """``[n, 2]`` (x, y) shifts to apply."""
    weights: FloatArray
    """``[n, N_RADII]`` weight of each frame by frequency, from 0 to sqrt(1/2) cycles/px."""
    groups: Array
    """``[n]`` number of the power-spectrum group of each frame, non-decreasing."""


def plan_sums(
    shifts_px: FloatArray,
    *,
    dose_e_per_A2: FloatArray,
    pixel_size_A: float,
    voltage_kV: float,
    dose_weighting: bool,
    group_dose_e_per_A2: float = 4.0,
) -> SumPlan:
    """Weights and groups of the frames that take part.

    Parameters
    ----------
    shifts_px
        ``[n, 2]`` shifts to apply.
    dose_e_per_A2
        ``[n]`` exposure accumulated up to the end of each frame.
    pixel_size_A, voltage_kV
        For the damage at each frequency.
    dose_weighting
        Whether damaged frequencies count less; if not, all frames count alike.
    group_dose_e_per_A2
        Exposure of the frames that are added before a power spectrum is taken.
    """
    n = len(shifts_px)
    if dose_weighting:
        frequency = torch.linspace(0.0, math.sqrt(0.5), N_RADII, dtype=torch.float64) / pixel_size_A
        # Doses of frames that are left out count as exposure of the next one.
        each = torch.from_numpy(np.diff(dose_e_per_A2, prepend=0.0))
        weights = dose_weights(frequency, each, voltage_kV)
        table = weights.to(torch.float32).numpy()
    else:
        table = np.full((n, N_RADII), 1.0 / math.sqrt(n), np.float32)
    since_start = np.maximum(dose_e_per_A2 - dose_e_per_A2[0], 0.0)
    groups = np.floor(since_start / group_dose_e_per_A2 + 1e-6).astype(np.int64)
    return SumPlan(np.asarray(shifts_px, np.float64), table, groups)


def sum_frames(frames_ft: Complex[Tensor, "n y kx"], shape: tuple[int, int], plan: SumPlan) -> Sums:
    """Shift and add the frames; numba on the CPU, plain torch elsewhere."""
    if frames_ft.device.type != "cpu":
        return sum_frames_plainly(frames_ft, shape, plan)
    phase_y, phase_x = _phases(shape, plan.shifts_px, frames_ft.device)
    fy, fx = _frequencies(shape, frames_ft.device)
    weighted, unweighted, power = accumulate(
        frames_ft.numpy(), phase_y.numpy(), phase_x.numpy(), fy.numpy(), fx.numpy(), plan.weights, plan.groups
    )
    return Sums(torch.from_numpy(weighted), torch.from_numpy(unweighted), torch.from_numpy(power))


def sum_frames_plainly(frames_ft: Complex[Tensor, "n y kx"], shape: tuple[int, int], plan: SumPlan) -> Sums:
    """The plain torch form of ``sum_frames``: the reference of the fast one, and the one for CUDA."""
    device = frames_ft.device
    phase_y, phase_x = _phases(shape, plan.shifts_px, device)
    fy, fx = _frequencies(shape, device)
    radius = torch.sqrt(fy[:, None] ** 2 + fx[None, :] ** 2) * ((N_RADII - 1) / math.sqrt(0.5))
    index = radius.round().long().clamp_max(N_RADII - 1)
    table = torch.as_tensor(plan.weights, device=device)
    weighted, unweighted, group = (torch.zeros_like(frames_ft[0]) for _ in range(3))
    power = torch.zeros_like(radius)
    for i in range(len(frames_ft)):
        moved = frames_ft[i] * phase_y[i][:, None] * phase_x[i][None, :]
        weighted += moved * table[i][index]
        unweighted += moved
        group += moved
        if i + 1 == len(frames_ft) or plan.groups[i + 1] != plan.groups[i]:
            power += group.abs().square()
            group.zero_()
    return Sums(weighted, unweighted, power)


def _frequencies(shape: tuple[int, int], device: torch.device) -> tuple[Float[Tensor, " y"], Float[Tensor, " kx"]]:
    return (
        torch.fft.fftfreq(shape[0], dtype=torch.float32, device=device),
        torch.fft.rfftfreq(shape[1], dtype=torch.float32, device=device),
    )


def _phases(
    shape: tuple[int, int], shifts_px: FloatArray, device: torch.device
) -> tuple[Complex[Tensor, "n y"], Complex[Tensor, "n kx"]]:
    """Factors by rows and by columns whose product shifts each frame."""
    phases = []
    for frequency, shift in (
        (torch.fft.fftfreq(shape[0], dtype=torch.float64), shifts_px[:, 1]),
        (torch.fft.rfftfreq(shape[1], dtype=torch.float64), shifts_px[:, 0]),
    ):
        angle = -2.0 * math.pi * torch.as_tensor(shift, dtype=torch.float64)[:, None] * frequency[None, :]
        phases.append(torch.complex(torch.cos(angle), torch.sin(angle)).to(torch.complex64).to(device))
    return phases[0], phases[1]
