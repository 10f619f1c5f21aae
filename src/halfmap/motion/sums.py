"""Sums of aligned frames: dose-weighted, unweighted, and the power spectrum of groups of frames."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.band import empty, irfft2, phases
from halfmap.motion.sums_fast import accumulate
from halfmap.motion.surface import LocalModel
from halfmap.motion.warp import prefiltered, warp_added
from halfmap.optics.dose import dose_weights
from halfmap.typing import Array, FloatArray

N_RADII: Final = 4096
"""Entries of the table of dose weights, from frequency 0 to the corner's."""
LIKE_PX: Final = 0.15
"""Frames whose local shifts are everywhere as near as this to their mean are warped together; on average they are
nearer by far, and nearer than local shifts are known."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """Sums ``[y, x]`` of the frames, and the summed power of their groups."""

    weighted: Float[Tensor, "y x"]
    unweighted: Float[Tensor, "y x"] | None
    """None where it was not asked for."""
    power: Float[Tensor, "y kx"]


@dataclass(eq=False)
class Sums:
    """Transforms ``[y, x//2+1]`` that frames are added to."""

    weighted: Complex[Tensor, "y kx"]
    unweighted: Complex[Tensor, "rows kx"]
    """Without rows where it was not asked for."""
    group: Complex[Tensor, "y kx"]
    """Sum of the frames of the power-spectrum group that is not yet complete."""
    power: Float[Tensor, "y kx"]

    @classmethod
    def empty(cls, like: Complex[Tensor, "y kx"], *, unweighted: bool = True) -> Sums:
        """Zeros of a frame's size; of no size where a sum is not wanted."""
        rows = len(like) if unweighted else 0
        shapes = tuple(like.shape), (rows, like.shape[1]), tuple(like.shape)
        weighted, without, group = (empty(shape, like.dtype, like.device).zero_() for shape in shapes)
        return cls(weighted, without, group, empty(tuple(like.shape), torch.float32, like.device).zero_())


@dataclass(frozen=True, eq=False)
class SumPlan:
    """How the frames are to be added: shifts, weight by frequency, groups."""

    shifts_px: FloatArray
    """``[n, 2]`` (x, y) shifts to apply."""
    weights: FloatArray
    """``[n, N_RADII]`` weight of each frame by frequency, from 0 to sqrt(1/2) cycles/px."""
    ends: Array
    """``[n]`` bool: whether a frame is the last of its power-spectrum group."""
    frames: Array
    """``[n]`` numbers of the frames in the movie, from 0."""

    def every_other(self, first: int) -> SumPlan:
        """The plan of every second frame, from the first or the second on."""
        part = slice(first, None, 2)
        return SumPlan(self.shifts_px[part], self.weights[part], self.ends[part], self.frames[part])


def plan_sums(
    shifts_px: FloatArray,
    *,
    dose_e_per_A2: FloatArray,
    pixel_size_A: float,
    voltage_kV: float,
    dose_weighting: bool,
    frames: Array,
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
    frames
        ``[n]`` their numbers in the movie, from 0.
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
    ends = np.append(groups[1:] != groups[:-1], True)
    return SumPlan(np.asarray(shifts_px, np.float64), table, ends, frames)


def sum_frames(
    frames_ft: Complex[Tensor, "n y kx"],
    shape: tuple[int, int],
    plan: SumPlan,
    *,
    local: LocalModel | None = None,
    unweighted: bool = False,
) -> Pictures:
    """Shift and add the frames.

    Frames are weighted and shifted as wholes in Fourier space. Where there is local motion, those with nearly the
    same are then added, brought to real space, and warped; the power spectrum is that before warping.

    Parameters
    ----------
    frames_ft
        Transforms of the usable frames.
    shape
        Rows and columns of a frame.
    plan
        Shifts, weights and groups.
    local
        Local shifts to apply besides.
    unweighted
        Whether the sum without dose weights is wanted too.
    """
    sums = Sums.empty(frames_ft[0], unweighted=unweighted)
    if local is None:
        add_frames(frames_ft, shape, plan, slice(0, len(frames_ft)), sums)
        return Pictures(
            irfft2(sums.weighted, shape), irfft2(sums.unweighted, shape) if unweighted else None, sums.power
        )
    surfaces = local.surfaces_px(plan.frames)
    wanted = ("weighted", "unweighted") if unweighted else ("weighted",)
    total = {name: empty(shape, torch.float32, frames_ft.device).zero_() for name in wanted}
    for part in like_surfaces(surfaces):
        sums.weighted.zero_()
        sums.unweighted.zero_()
        add_frames(frames_ft, shape, plan, part, sums)
        surface = surfaces[part].mean(axis=0)
        for name in wanted:
            transform = getattr(sums, name)
            if np.abs(surface).sum(axis=1).max() < 0.5 * LIKE_PX:
                total[name] += irfft2(transform, shape)
            else:
                warp_added(irfft2(prefiltered(transform, shape), shape), surface, total[name])
    return Pictures(total["weighted"], total.get("unweighted"), sums.power)


def like_surfaces(surfaces_px: FloatArray) -> list[slice]:
    """Runs of frames whose local shifts ``[n, 2, 6]`` are everywhere near the run's mean."""
    edge = np.linspace(-0.5, 0.5, 9)
    x, y = np.meshgrid(edge, edge)
    fields = surfaces_px @ np.stack([np.ones_like(x), x, x * x, y, y * y, x * y]).reshape(6, -1)
    runs, start = [], 0
    for i in range(1, len(fields) + 1):
        part = fields[start : i + 1]
        if i == len(fields) or np.linalg.norm(part - part.mean(axis=0), axis=1).max() > LIKE_PX:
            runs.append(slice(start, i))
            start = i
    return runs


def add_frames(
    frames_ft: Complex[Tensor, "n y kx"], shape: tuple[int, int], plan: SumPlan, part: slice, sums: Sums
) -> None:
    """Shift some of the frames and add them to the sums; numba on the CPU, plain torch elsewhere."""
    if frames_ft.device.type != "cpu":
        add_frames_plainly(frames_ft, shape, plan, part, sums)
        return
    phase_y, phase_x = _phases(shape, plan.shifts_px[part], frames_ft.device)
    accumulate(
        frames_ft[part].numpy(), phase_y.numpy(), phase_x.numpy(), _radii(shape), plan.weights[part], plan.ends[part],
        sums.weighted.numpy(), sums.unweighted.numpy(), sums.group.numpy(), sums.power.numpy(),
    )  # fmt: skip


def add_frames_plainly(
    frames_ft: Complex[Tensor, "n y kx"], shape: tuple[int, int], plan: SumPlan, part: slice, sums: Sums
) -> None:
    """The plain torch form of ``add_frames``: the reference of the fast one, and the one for CUDA.

    Parameters
    ----------
    frames_ft
        Transforms of the usable frames.
    shape
        Rows and columns of a frame.
    plan
        Shifts, weights and groups.
    part
        Which frames to add.
    sums
        What is added to.
    """
    device = frames_ft.device
    phase_y, phase_x = _phases(shape, plan.shifts_px, device)
    index = torch.as_tensor(_radii(shape).astype(np.int64), device=device)
    table = torch.as_tensor(plan.weights, device=device)
    for i in range(part.start, part.stop):
        moved = frames_ft[i] * phase_y[i][:, None] * phase_x[i][None, :]
        sums.weighted += moved * table[i][index]
        if len(sums.unweighted):
            sums.unweighted += moved
        sums.group += moved
        if plan.ends[i]:
            sums.power += sums.group.abs().square()
            sums.group.zero_()


@lru_cache(maxsize=1)
def _radii(shape: tuple[int, int]) -> Array:
    """Entry ``[y, kx]`` of the table of dose weights for each coefficient; the same for all movies of a session."""
    radius = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    entry = np.rint(radius * ((N_RADII - 1) / math.sqrt(0.5)))
    return np.asarray(np.minimum(entry, N_RADII - 1), np.uint16)


def _phases(
    shape: tuple[int, int], shifts_px: FloatArray, device: torch.device
) -> tuple[Complex[Tensor, "n y"], Complex[Tensor, "n kx"]]:
    """Factors by rows and by columns whose product shifts each frame."""
    fy = torch.fft.fftfreq(shape[0], dtype=torch.float64, device=device)
    fx = torch.fft.rfftfreq(shape[1], dtype=torch.float64, device=device)
    return phases(shifts_px[:, 1], fy), phases(shifts_px[:, 0], fx)
