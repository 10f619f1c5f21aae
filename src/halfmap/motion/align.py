"""Whole-frame alignment: each frame against the sum of the others, weighted as the data deserve."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.align_fast import place_crosses
from halfmap.motion.band import (
    Band,
    fast_size,
    irfft2,
    moved,
    multiplicity,
    phases,
    picture_of_band,
    radial_frequency,
    radians_per_px,
    rows_first,
    without_lowest,
)
from halfmap.motion.likelihood import derivatives
from halfmap.motion.trajectory import smooth_trajectory
from halfmap.motion.weighting import Weighting, coherence
from halfmap.typing import Array, FloatArray

COARSE_GRID_PX = 256
"""Edge of the Fourier-cropped frames in which the first, wide search takes place."""
FIRST_BFACTOR_PX2 = 600.0
"""Weight exp(-B f²/2) of the first search, before the data have spoken."""
STANDS_OUT = 5.0
"""Height of a peak (in standard deviations) that noise does not reach: its maximum is about 3."""
FEWEST_GROUPS = 4
"""Frames are not grouped into fewer."""
MAX_ITERATIONS = 12
CONVERGED_PX = 0.01
COARSE_PARTS = (0.25, 0.5)
"""Parts of the band in which peaks are looked for before steps are taken in all of it."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """Shifts to apply to the frames, relative to the first, and how well they are known."""

    shifts_px: FloatArray
    """``[n, 2]`` (x, y), float64."""
    error_px: FloatArray
    """``[n]`` standard error of one coordinate before smoothing, from the curvature of the likelihood."""
    roughness_px: float
    """Standard deviation of the path's second differences that the data ask for."""
    iterations: int
    converged: bool
    signal: bool = True
    """False where the frames have nothing in common that could be aligned; all shifts are zero then."""
    max_frequency: float = 0.0
    """Highest frequency that told anything, in cycles per px."""
    sharpness: float = 1.0
    """Weighted correlation between all frames, aligned over not aligned."""
    group: int = 1
    """Number of frames that were aligned together."""


def align_frames(band: Band, *, shape: tuple[int, int], max_shift_px: float) -> Alignment:
    """Find the shift of every frame, by alternating between reference and shifts.

    Every frame is compared with the sum of all others. Frequencies are weighted by the Wiener
    filter of that sum over the noise, both measured from the frames themselves, so that the score
    is the log-likelihood of the shift. The path is smoothed by a prior whose strength the data
    choose (``motion.trajectory``). Where single frames hold too little for their peaks to stand out of noise, pairs
    of them are aligned instead, or fours, and so on.

    Parameters
    ----------
    band
        Low frequencies of the frames.
    shape
        Frame size (y, x) in px, for the reach of the wide search.
    max_shift_px
        Largest shift looked for in either direction.
    """
    n = band.ft.shape[0]
    if n < 2:
        return Alignment(np.zeros((n, 2)), np.full(n, np.inf), float("inf"), 0, True)
    coarse = band.cropped(0.5 * min(1.0, COARSE_GRID_PX / max(shape)))
    for group in _groupings(n):
        members = np.array_split(np.arange(n), n // group)
        shifts, signal = _search_widely(_added(coarse, members), shape, max_shift_px)
        if signal:
            found = _climbed(_added(band, members), shifts)
            return found if group == 1 else _per_frame(found, members, group)
    return Alignment(np.zeros((n, 2)), np.full(n, np.inf), float("inf"), 0, False, signal=False)


def _groupings(n_frames: int) -> list[int]:
    """Sizes of groups to try, as long as there are four groups."""
    sizes = [1]
    while n_frames // (2 * sizes[-1]) >= FEWEST_GROUPS:
        sizes.append(2 * sizes[-1])
    return sizes


def _added(band: Band, members: list[Array]) -> Band:
    """A band of the sums of frames that follow each other."""
    if len(members) == len(band.ft):
        return band
    return Band(torch.stack([band.ft[int(m[0]) : int(m[-1]) + 1].sum(dim=0) for m in members]), band.fy, band.fx)


def _per_frame(found: Alignment, members: list[Array], group: int) -> Alignment:
    """Shifts of frames from those of groups: between the groups' middles, and straight on beyond the outer ones."""
    middles = np.array([m.mean() for m in members])
    frames = np.arange(int(members[-1][-1]) + 1)
    left = np.clip(np.searchsorted(middles, frames) - 1, 0, len(middles) - 2)
    share = (frames - middles[left]) / (middles[left + 1] - middles[left])
    shifts = found.shifts_px[left] * (1.0 - share[:, None]) + found.shifts_px[left + 1] * share[:, None]
    error = np.concatenate([np.full(len(m), e) for m, e in zip(members, found.error_px, strict=True)])
    return replace(found, shifts_px=shifts - shifts[0], error_px=error, group=group)


def _climbed(band: Band, shifts: FloatArray) -> Alignment:
    """From shifts that are nearly right to the top of the likelihood with a smooth path."""
    n = len(shifts)
    weighting = Weighting.of(band, shifts)
    for part in COARSE_PARTS:
        inner = band.cropped(part * weighting.max_frequency)
        weight = weighting.at(inner)
        tried = smooth_trajectory(*_refine(inner, shifts, weight))[0]
        if coherence(inner, tried, weight) > coherence(inner, shifts, weight):
            shifts = tried
    error, sigma, change, iteration = np.full(n, np.inf), float("inf"), np.inf, 0
    for iteration in range(1, MAX_ITERATIONS + 1):
        if iteration in (1, 3):
            weighting = Weighting.of(band, shifts)
            inner = band.cropped(weighting.max_frequency)
            weight = weighting.at(inner)
        measured, information = _stepped(inner, shifts, weight)
        smooth, sigma = smooth_trajectory(measured, information)
        smooth -= smooth[0]
        change = float(np.sqrt(np.mean((smooth - shifts) ** 2)))
        shifts = smooth
        trace = np.trace(information, axis1=1, axis2=2)
        error = np.where(trace > 0, np.sqrt(2.0 / np.maximum(trace, 1e-30)), np.inf)
        if change < CONVERGED_PX:
            break
    aligned, before = (coherence(inner, s, weight) for s in (shifts, np.zeros_like(shifts)))
    return Alignment(
        shifts, error, sigma, iteration, change < CONVERGED_PX,
        max_frequency=weighting.max_frequency, sharpness=aligned / before if before > 0 else float("inf"),
    )  # fmt: skip


def _search_widely(band: Band, shape: tuple[int, int], max_shift_px: float) -> tuple[FloatArray, bool]:
    """Whole correlation maps of strongly low-passed frames; three rounds, coarse but safe.

    Returns the shifts, and whether at least half of the peaks stand out of their maps.
    """
    ny, nx = fast_size(band)
    frequency = radial_frequency(band)
    weight = without_lowest(torch.exp(-0.5 * FIRST_BFACTOR_PX2 * frequency**2), band)
    step_y, step_x = shape[0] / ny, shape[1] / nx
    y = torch.fft.fftfreq(ny, 1.0 / ny, device=frequency.device)
    x = torch.fft.fftfreq(nx, 1.0 / nx, device=frequency.device)
    allowed = (y.abs()[:, None] * step_y <= max_shift_px) & (x.abs()[None, :] * step_x <= max_shift_px)
    n = len(band.ft)
    shifts, share = np.zeros((n, 2)), 1.0 - 1.0 / n
    correlations = correlation_maps if band.ft.device.type == "cpu" else correlation_maps_plainly
    for _ in range(3):
        maps = correlations(band, shifts, weight, (ny, nx))
        peak = torch.where(allowed, maps, -torch.inf).flatten(1).argmax(dim=1).cpu().numpy()
        place, value = _parabolic_peaks(maps, peak // nx, peak % nx)
        shifts += share * (place * (step_x, step_y) - shifts)
        shifts -= shifts.mean(axis=0)
    return shifts, float(np.median(_peak_heights(maps, value))) > STANDS_OUT


def correlation_maps(
    band: Band, shifts: FloatArray, weight: Float[Tensor, "ky kx"], size: tuple[int, int]
) -> Float[Tensor, "n y x"]:
    """Maps of the correlation of each frame with the sum of the other, shifted ones; numba and scipy on the CPU."""
    out = np.zeros((len(shifts), size[0], size[1] // 2 + 1), np.complex64)
    along_y, along_x = phases(shifts[:, 1], band.fy).numpy(), phases(shifts[:, 0], band.fx).numpy()
    place_crosses(rows_first(band.ft), along_y, along_x, weight.numpy(), out)
    return irfft2(torch.from_numpy(out), size)


def correlation_maps_plainly(
    band: Band, shifts: FloatArray, weight: Float[Tensor, "ky kx"], size: tuple[int, int]
) -> Float[Tensor, "n y x"]:
    """The plain torch form of ``correlation_maps``."""
    frames = moved(band.ft, band, shifts)
    return picture_of_band(band.ft.conj() * (frames.sum(dim=0) - frames) * weight, size)


def _peak_heights(maps: Float[Tensor, "n y x"], peaks: FloatArray) -> FloatArray:
    """Heights of the peaks above the medians of their maps, in (robust) standard deviations of the maps."""
    some = maps[:, ::2, ::2].flatten(1)
    median = some.median(dim=1).values
    spread = (some - median[:, None]).abs().median(dim=1).values
    heights: FloatArray = (peaks - median.cpu().numpy()) / (1.4826 * spread.cpu().numpy() + 1e-30)
    return heights


def _parabolic_peaks(maps: Float[Tensor, "n y x"], row: Array, column: Array) -> tuple[FloatArray, FloatArray]:
    """Sub-pixel positions ``[n, 2]`` (x, y) of maxima, counted from the origin with wrap-around, and values there."""
    ny, nx = maps.shape[1:]
    each = np.arange(len(maps))
    steps = ((0, 0), (0, -1), (0, 1), (-1, 0), (1, 0))
    index = np.stack([(each * ny + (row + dy) % ny) * nx + (column + dx) % nx for dy, dx in steps])
    at, *sides = maps.flatten()[torch.as_tensor(index, device=maps.device)].double().cpu().numpy()
    place = []
    for position, n, (before, after) in ((column, nx, sides[:2]), (row, ny, sides[2:])):
        curvature = before - 2.0 * at + after
        bends = curvature < 0
        offset = np.where(bends, 0.5 * (before - after) / np.where(bends, curvature, -1.0), 0.0)
        place.append((position + n // 2) % n - n // 2 + np.clip(offset, -0.5, 0.5))
    return np.stack(place, axis=1), at


def _refine(band: Band, shifts: FloatArray, weight: Float[Tensor, "ky kx"]) -> tuple[FloatArray, FloatArray]:
    """One round of peaks near the present shifts: new shifts ``[n, 2]`` and information ``[n, 2, 2]``."""
    frames = moved(band.ft, band, shifts)
    crosses = frames.conj() * (frames.sum(dim=0) - frames) * (weight * multiplicity(band))
    step = 0.25 / max(float(band.fx[-1]), 1e-6)
    offsets = np.arange(-3, 4) * step
    scores = (phases(-offsets, band.fy) @ crosses @ phases(-offsets, band.fx).T).real
    peak = scores.flatten(1).argmax(dim=1).cpu().numpy()
    starts = offsets[np.stack([peak % 7, peak // 7], axis=1)]
    places, information = _newton(crosses, band, starts, reach=step)
    # The others' mean is off by -1/(n-1) of a frame's own error, so a full step would overshoot.
    return shifts + (1.0 - 1.0 / len(shifts)) * places, information


def _stepped(band: Band, shifts: FloatArray, weight: Float[Tensor, "ky kx"]) -> tuple[FloatArray, FloatArray]:
    """One Newton step of every frame from shifts that are nearly right: new ones, and information ``[n, 2, 2]``."""
    found = derivatives(band, shifts, weight)
    reach = 0.5 / max(float(band.fx[-1]), 1e-6)
    share = 1.0 - 1.0 / len(shifts)
    measured, information = shifts.copy(), np.zeros((len(shifts), 2, 2))
    for i, (gradient, hessian) in enumerate(zip(found.gradient, found.hessian, strict=True)):
        if np.linalg.eigvalsh(hessian)[0] <= 0:
            continue
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() < reach:
            measured[i] += share * step
            information[i] = hessian
    return measured, information


def _newton(
    crosses: Complex[Tensor, "n ky kx"], band: Band, starts: FloatArray, *, reach: float
) -> tuple[FloatArray, FloatArray]:
    """Climb to the peaks of ``Re Σ cross · exp(2πi f·d)`` from points ``[n, 2]`` close to them.

    Returns the peaks (x, y) and minus the Hessians there; the start and zero information where there is no maximum.
    """
    places: FloatArray = starts.copy()
    information: FloatArray = np.zeros((len(starts), 2, 2))
    lost = np.zeros(len(starts), bool)
    for _ in range(4):
        gradient, information = _derivatives(crosses, band, places)
        lost |= np.linalg.eigvalsh(information)[:, 0] <= 0
        solvable = np.where(lost[:, None, None], np.eye(2), information)
        step = np.where(lost[:, None], 0.0, np.linalg.solve(solvable, gradient[..., None])[..., 0])
        places += step
        lost |= np.abs(places - starts).max(axis=1) > 2.0 * reach
        if np.abs(step).max() < CONVERGED_PX:
            break
    places[lost], information[lost] = starts[lost], 0.0
    return places, information


def _derivatives(crosses: Complex[Tensor, "n ky kx"], band: Band, places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradients (x, y) and minus the Hessians of the correlations, each at its point of ``[n, 2]``."""
    factors = []
    for frequencies, at in ((band.fy, places[:, 1]), (band.fx, places[:, 0])):
        phase, omega = phases(-at, frequencies), radians_per_px(frequencies)
        factors.append(torch.stack([phase, 1j * omega * phase, -(omega**2) * phase], dim=1))
    moments = (factors[0] @ (crosses @ factors[1].mT)).real.double().cpu().numpy()
    gradient = np.stack([moments[:, 0, 1], moments[:, 1, 0]], axis=1)
    mixed = moments[:, 1, 1]
    hessian = np.stack([moments[:, 0, 2], mixed, mixed, moments[:, 2, 0]], axis=1)
    return gradient, -hessian.reshape(-1, 2, 2)
