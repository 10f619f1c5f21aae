"""One movie to one micrograph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex
from torch import Tensor

from halfmap.errors import BadInputError
from halfmap.fourier.periodogram import binned_power, centred_amplitude
from halfmap.motion.align import Alignment, align_frames
from halfmap.motion.band import Band, band_indices, borrowed, empty, place_band, rfft2_into
from halfmap.motion.frames import FrameCorrector, Frames
from halfmap.motion.local import NO_SIGNAL, NOT_WANTED, LocalMotion, find_local_motion
from halfmap.motion.sums import plan_sums, sum_frames
from halfmap.motion.surface import LocalModel
from halfmap.motion.trajectory import motion_A
from halfmap.typing import Array, FloatArray

ALIGNMENT_BAND = 0.25
"""Highest frequency used for alignment, in cycles per (binned) pixel."""
FINEST_ALIGNMENT_A = 4.0
"""Nothing finer than this is used for alignment."""
SMALLEST_FRAME_PX = 64


@dataclass(frozen=True)
class MovieSettings:
    """Facts and wishes about one movie."""

    pixel_size_A: float
    """Of the frames as recorded."""
    voltage_kV: float
    dose_per_frame_e_per_A2: float
    pre_exposure_e_per_A2: float = 0.0
    binning: float = 1.0
    dose_weighting: bool = True
    unweighted: bool = False
    """Whether the sum without dose weighting is wanted too."""
    halves: bool = False
    """Whether sums of the odd and of the even frames are wanted too."""
    local: bool = True
    """Whether local motion is looked for."""
    patches: int | None = None
    """Patches along the longer edge, if they are not to be chosen."""
    max_shift_A: float = 80.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class MotionResult:
    """A micrograph and how it came about. Shifts are those applied to the frames."""

    weighted: FloatArray
    unweighted: FloatArray | None
    """None where it was not asked for."""
    halves: tuple[FloatArray, ...]
    """Sums of the 1st, 3rd, ... and of the 2nd, 4th, ... usable frame, where they were asked for."""
    pixel_size_A: float
    power_spectrum: FloatArray
    """Centred square picture of amplitudes."""
    power_spectrum_pixel_size_A: float
    """Its step in frequency is 1 / (its edge in px · this)."""
    shifts_A: FloatArray
    """``[n, 2]`` (x, y) shift applied to each frame, relative to the first."""
    alignment: Alignment
    local: LocalMotion
    """What was found of local motion, in binned px."""
    local_model: LocalModel | None
    """The local shifts that were applied, in binned px, with no mean over the frame."""
    motion_total_A: float
    motion_early_A: float
    motion_late_A: float
    motion_local_A: float
    """Longest local shift of any place."""


def correct_movie(frames: Frames, settings: MovieSettings, *, movie_file: str | Path, device: str) -> MotionResult:
    """Align the frames of a movie, as wholes and locally, and add them, weighted by dose.

    Parameters
    ----------
    frames
        From ``read_frames``.
    settings
        Pixel size, exposure and options.
    movie_file
        For messages.
    device
        Where the transforms are kept and computed.
    """
    shape = binned_shape(frames.shape, settings.binning, movie_file)
    with borrowed((int(frames.usable.sum()), shape[0], shape[1] // 2 + 1), device) as frames_ft:
        transform_frames(frames, frames_ft, shape, seed=settings.seed)
        pixel_size_A = settings.pixel_size_A * frames.shape[1] / shape[1]
        return _aligned_and_added(frames_ft, frames.usable, shape, pixel_size_A, settings)


def _aligned_and_added(
    frames_ft: Complex[Tensor, "n y kx"],
    usable: Array,
    shape: tuple[int, int],
    pixel_size_A: float,
    settings: MovieSettings,
) -> MotionResult:
    """The micrograph from the transforms of the usable frames."""
    numbers = np.flatnonzero(usable)
    band = alignment_band(frames_ft, shape, pixel_size_A)
    alignment = align_frames(band, shape=shape, max_shift_px=settings.max_shift_A / pixel_size_A)
    local = local_motion(band, alignment, numbers, len(usable), shape, pixel_size_A, settings)
    shifts, model = fill_left_out(alignment.shifts_px, usable), local.model
    if model is not None:
        # The mean over the frame of the local motion is whole-frame motion.
        shifts, model = shifts + model.mean_px(len(usable)), model.without_mean()
    dose = settings.pre_exposure_e_per_A2 + settings.dose_per_frame_e_per_A2 * np.arange(1, len(usable) + 1)
    plan = plan_sums(
        shifts[usable],
        dose_e_per_A2=dose[usable],
        pixel_size_A=pixel_size_A,
        voltage_kV=settings.voltage_kV,
        dose_weighting=settings.dose_weighting,
        frames=numbers,
    )
    pictures = sum_frames(frames_ft, shape, plan, local=model, unweighted=settings.unweighted)
    halves = []
    if settings.halves and len(numbers) > 1:
        halves = [sum_frames(frames_ft[i::2], shape, plan.every_other(i), local=model).weighted for i in (0, 1)]
    power, power_pixel_size_A = binned_power(pictures.power, shape, pixel_size_A)
    total, early, late = motion_A(shifts * pixel_size_A, dose)
    return MotionResult(
        weighted=pictures.weighted.cpu().numpy(),
        unweighted=None if pictures.unweighted is None else pictures.unweighted.cpu().numpy(),
        halves=tuple(half.cpu().numpy() for half in halves),
        pixel_size_A=pixel_size_A,
        power_spectrum=centred_amplitude(power),
        power_spectrum_pixel_size_A=power_pixel_size_A,
        shifts_A=shifts * pixel_size_A,
        alignment=alignment,
        local=local,
        local_model=model,
        motion_total_A=total,
        motion_early_A=early,
        motion_late_A=late,
        motion_local_A=0.0 if model is None else model.largest_px(len(usable)) * pixel_size_A,
    )


def local_motion(
    band: Band,
    alignment: Alignment,
    numbers: Array,
    n_frames: int,
    shape: tuple[int, int],
    pixel_size_A: float,
    settings: MovieSettings,
) -> LocalMotion:
    """Local motion about a global one, if it is wanted and there is any signal to find it by."""
    if not settings.local:
        return LocalMotion(None, NOT_WANTED)
    if not alignment.signal:
        return LocalMotion(None, NO_SIGNAL)
    return find_local_motion(
        band,
        alignment.shifts_px,
        frames=numbers,
        n_frames=n_frames,
        shape=shape,
        pixel_size_A=pixel_size_A,
        max_frequency=alignment.max_frequency,
        per_edge=settings.patches,
    )


def binned_shape(shape: tuple[int, int], binning: float, movie_file: str | Path) -> tuple[int, int]:
    """Size of the micrograph: unchanged without binning, else even and of the wanted ratio."""
    out = shape if binning == 1.0 else (2 * round(shape[0] / binning / 2), 2 * round(shape[1] / binning / 2))
    if min(out) < SMALLEST_FRAME_PX:
        raise BadInputError(
            movie_file, "size (rows, columns)", found=f"{shape}, {out} when binned",
            expected=f"at least {SMALLEST_FRAME_PX} px each way", remedy="Check the file, or bin less.",
        )  # fmt: skip
    return out


def transform_frames(frames: Frames, out: Complex[Tensor, "n y kx"], shape: tuple[int, int], *, seed: int) -> None:
    """Fourier transforms of the usable frames, corrected and cropped to ``shape``."""
    corrector = FrameCorrector(frames, seed)
    image = np.empty(frames.shape, np.float32)
    whole = empty((image.shape[0], image.shape[1] // 2 + 1), out.dtype, out.device)
    for index, transform in zip(np.flatnonzero(frames.usable), out, strict=True):
        corrector.corrected(int(index), image)
        rfft2_into(torch.from_numpy(image).to(out.device), transform if shape == frames.shape else whole)
        if shape != frames.shape:
            transform.copy_(cropped(whole, frames.shape, shape))


def cropped(
    transform: Complex[Tensor, "y kx"], shape_in: tuple[int, int], shape: tuple[int, int]
) -> Complex[Tensor, "y_out kx_out"]:
    """Fourier crop of a frame, grey values kept; the new Nyquist frequencies are left empty.

    ``fourier.crop`` does it for square images.
    """
    rows, columns = (shape[0] - 1) // 2, (shape[1] - 1) // 2 + 1
    out = torch.zeros((shape[0], shape[1] // 2 + 1), dtype=transform.dtype, device=transform.device)
    out[: rows + 1, :columns] = transform[: rows + 1, :columns]
    out[shape[0] - rows :, :columns] = transform[shape_in[0] - rows :, :columns]
    return out * ((shape[0] * shape[1]) / (shape_in[0] * shape_in[1]))


def alignment_band(frames_ft: Complex[Tensor, "n y kx"], shape: tuple[int, int], pixel_size_A: float) -> Band:
    """The low frequencies of the frames; in memory a row of all frames lies together."""
    limit = min(ALIGNMENT_BAND, pixel_size_A / FINEST_ALIGNMENT_A)
    rows, columns = band_indices(shape, limit)
    device = frames_ft.device
    ft = empty((len(rows), len(frames_ft), columns), frames_ft.dtype, device).permute(1, 0, 2)
    for transform, into in zip(frames_ft, ft, strict=True):
        place_band(transform, into)
    fy = torch.fft.fftfreq(shape[0], device=device)[rows.to(device)]
    fx = torch.fft.rfftfreq(shape[1], device=device)[:columns]
    return Band(ft, fy, fx)


def fill_left_out(shifts_px: FloatArray, usable: Array) -> FloatArray:
    """Shifts of all frames from those of the usable ones: between neighbours, and zero at the first frame."""
    at = np.flatnonzero(usable)
    every = np.arange(len(usable))
    filled = np.stack([np.interp(every, at, shifts_px[:, axis]) for axis in (0, 1)], axis=1)
    return np.asarray(filled - filled[0])
