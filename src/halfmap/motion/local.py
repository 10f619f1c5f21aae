"""Local motion: a smooth surface through what patches tell, as free as patches left out can foretell."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from halfmap.motion.band import Band, radial_frequency
from halfmap.motion.likelihood import Derivatives
from halfmap.motion.patches import Patches, cut_patches, derivatives_of_patches, pooled_weighting
from halfmap.motion.surface import FIRST_ORDER, N_SPACE, N_TIME, LocalModel, space_functions, time_functions
from halfmap.motion.trajectory import smooth_trajectory
from halfmap.typing import Array, FloatArray

FEWEST_PATCHES: Final = 4
FEWEST_FRAMES: Final = 3
TYPICAL_SHIFT_PX: Final = 10.0
"""Width of the prior of each working coefficient: wide, it only keeps the equations solvable."""
COARSE_TO_FINE: Final = (0.25, 0.5, 1.0)
"""Parts of the band in which the fit proceeds, so that shifts of several pixels are found."""
MAX_STEPS: Final = 10
CONVERGED_PX: Final = 0.005
"""A step that would change the shifts by less is not taken any more."""
SOFT_END: Final = 1.5
"""Where a soft part of the band ends, in units of its frequency: its weight is 1 % there."""
CERTAIN_SE: Final = 1.0
"""Standard errors by which the held-out gain has to be above nothing."""

NOT_WANTED: Final = "not asked for"
NO_SIGNAL: Final = "the frames have no signal in common"
TOO_FEW_FRAMES: Final = "fewer than 3 usable frames"
TOO_FEW_PATCHES: Final = "the frame holds fewer than 4 patches"
TOO_MUCH_DRIFT: Final = "all frames together see less than half of the field"
NOT_FORETOLD: Final = "patches left out do not confirm it"


@dataclass(frozen=True, eq=False)
class LocalMotion:
    """The local motion of a movie, or why none is corrected."""

    model: LocalModel | None
    """Shifts to apply besides the global ones, in px; ``None`` where only global motion is corrected."""
    reason: str = ""
    """Why there is no model."""
    grid: tuple[int, int] = (0, 0)
    """Patches along y and x."""
    space_order: int = 0
    time_order: int = 0
    gain: float = 0.0
    """Log-likelihood that the chosen freedom wins in patches left out of its fit."""
    gain_error: float = 0.0
    """Standard error of the gain, from the patches' scatter."""
    sharpness: float = 1.0
    """Weighted correlation between the frames' patches after local correction over that before."""
    centres: FloatArray = field(default_factory=lambda: np.zeros((0, 2)))
    """``[p, 2]`` (x, y) of the patches, from -0.5 to 0.5."""
    tracks_px: FloatArray = field(default_factory=lambda: np.zeros((0, 0, 2)))
    """``[p, n, 2]`` smoothed shifts of each patch on its own, relative to its first usable frame."""


def find_local_motion(
    band: Band,
    shifts_px: FloatArray,
    *,
    frames: Array,
    n_frames: int,
    shape: tuple[int, int],
    pixel_size_A: float,
    max_frequency: float,
    per_edge: int | None = None,
) -> LocalMotion:
    """Fit a smooth local motion about a global one, if patches that took no part in the fit confirm it.

    All patches are aligned at once: Gauss-Newton steps on the coefficients of the surface, in the sum of all
    patches' log-likelihoods. Each patch enters with the gradient of its shifts and its information matrix, so
    that no patch needs a peak of its own. How free the surface is, first or second order in space and first to third
    in time, is what foretells best the patches that are left out one at a time; nothing at all is among the choices.

    Parameters
    ----------
    band
        Low frequencies of the usable frames.
    shifts_px
        ``[n, 2]`` global shifts (x, y) of these frames.
    frames
        ``[n]`` their numbers, from 0.
    n_frames
        Number of frames of the movie, whether usable or not.
    shape
        Rows and columns of the frames.
    pixel_size_A
        Of the frames.
    max_frequency
        Highest frequency that tells anything, in cycles per pixel.
    per_edge
        Patches along the longer edge, if it is not to be chosen.
    """
    if len(shifts_px) < FEWEST_FRAMES:
        return LocalMotion(None, TOO_FEW_FRAMES)
    patches = cut_patches(
        band, shifts_px, shape=shape, pixel_size_A=pixel_size_A, max_frequency=max_frequency, per_edge=per_edge
    )
    if patches is None:
        return LocalMotion(None, TOO_MUCH_DRIFT)
    if len(patches.centres) < FEWEST_PATCHES:
        return LocalMotion(None, TOO_FEW_PATCHES, patches.grid)
    fit = _Fit(patches, np.asarray(frames), n_frames)
    working, at_end = _fitted_from_coarse_to_fine(fit)
    choice = _most_foretelling(at_end)
    tracks = _tracks(fit, working, at_end.derivatives)
    found = LocalMotion(
        None, NOT_FORETOLD, patches.grid, gain=choice.gain, gain_error=choice.gain_error,
        centres=patches.centres, tracks_px=tracks,
    )  # fmt: skip
    if choice.gain < CERTAIN_SE * choice.gain_error or choice.gain <= 0.0:
        return found
    working = at_end.solved(choice.free)
    working, at_end = fit.climbed(working, choice.free, 1.0, fit.evidence(working, 1.0))
    before, after = fit.evidence(0.0 * working, 1.0).value, at_end.value
    if not after > before > 0.0:
        return found
    return replace(
        found,
        model=LocalModel.of_working(working, n_frames),
        reason="",
        space_order=choice.space_order,
        time_order=choice.time_order,
        sharpness=after / before,
    )


def _fitted_from_coarse_to_fine(fit: _Fit) -> tuple[FloatArray, _Evidence]:
    """The surface of all freedom, and the evidence about it; weights are measured anew for the whole band."""
    every = np.ones((2, N_SPACE, N_TIME), bool)
    working: FloatArray = np.zeros(every.shape)
    fit.weigh(working)
    start = fit.evidence(working, COARSE_TO_FINE[0])
    for part, wider in pairwise(COARSE_TO_FINE):
        tried, _ = fit.climbed(working, every, part, start)
        if wider == 1.0:
            fit.weigh(tried)
        start, there = (fit.evidence(w, wider) for w in (working, tried))
        if there.value > start.value:
            working, start = tried, there
    return fit.climbed(working, every, 1.0, start)


@dataclass(frozen=True, eq=False)
class _Evidence:
    """The patches' log-likelihood, to second order about a place: ``b·θ − θ·A·θ/2`` relative to no local motion."""

    matrices: FloatArray
    """``[p, 36, 36]`` A of each patch."""
    vectors: FloatArray
    """``[p, 36]`` b of each patch."""
    derivatives: Derivatives

    @property
    def value(self) -> float:
        """Weighted correlation at the place itself."""
        return float(self.derivatives.value.sum())

    def solved(self, free: Array) -> FloatArray:
        """Coefficients ``[2, 6, 3]`` at the top, some of them free."""
        chosen = np.flatnonzero(free)
        working = np.zeros(free.size)
        working[chosen] = _top(self.matrices.sum(axis=0), self.vectors.sum(axis=0), chosen)
        return working.reshape(free.shape)

    def foretold(self, free: Array) -> FloatArray:
        """``[p]`` log-likelihood that each patch gains from the fit to all others, with some coefficients free."""
        chosen = np.flatnonzero(free)
        others = self.matrices.sum(axis=0) - self.matrices, self.vectors.sum(axis=0) - self.vectors
        working = _top(others[0], others[1], chosen)
        own = self.matrices[:, chosen[:, None], chosen]
        curved = np.squeeze(working[:, None, :] @ own @ working[:, :, None], (1, 2))
        gains: FloatArray = (self.vectors[:, chosen] * working).sum(axis=1) - 0.5 * curved
        return gains


def _top(matrices: FloatArray, vectors: FloatArray, chosen: Array) -> FloatArray:
    """Chosen coefficients ``[..., c]`` at the top of ``b·θ − θ·A·θ/2`` and the prior, the others being zero."""
    prior = np.eye(len(chosen)) / TYPICAL_SHIFT_PX**2
    solved: FloatArray = np.linalg.solve(matrices[..., chosen[:, None], chosen] + prior, vectors[..., chosen, None])
    return solved[..., 0]


class _Fit:
    """The log-likelihood of a surface, given patches."""

    def __init__(self, patches: Patches, frames: Array, n_frames: int) -> None:
        self.patches = patches
        self.space = space_functions(patches.centres)
        self.time = time_functions(frames / max(n_frames - 1, 1))
        self._weights: dict[float, torch.Tensor] = {}

    def shifts_px(self, working: FloatArray) -> FloatArray:
        """Shifts ``[p, n, 2]`` of the patches."""
        return np.ascontiguousarray(np.moveaxis(self.space @ working @ self.time.T, 0, -1))

    def weigh(self, working: FloatArray) -> None:
        """Measure the weights anew, given the present surface."""
        weighting = pooled_weighting(self.patches, self.shifts_px(working))
        band = self.patches.band(0)
        weight, frequency = weighting.at(band), radial_frequency(band)
        for part in COARSE_TO_FINE:
            share = frequency / (part * weighting.max_frequency)
            soft = torch.exp(-2.0 * share**2) * (share < SOFT_END) if part < 1.0 else 1.0
            self._weights[part] = weight * soft

    def evidence(self, working: FloatArray, part: float) -> _Evidence:
        """The likelihood about a surface, in a part of the band."""
        found = derivatives_of_patches(self.patches, self.shifts_px(working), self._weights[part])
        per_frame = np.maximum(np.trace(found.hessian, axis1=-2, axis2=-1).sum(axis=0), 0.0)
        per_frame *= len(per_frame) / max(per_frame.sum(), 1e-30) / (1.0 - 1.0 / len(per_frame))
        # All shifts of a patch are relative: a shift common to all its frames is not seen, and taken out.
        weighted = per_frame[:, None] * self.time
        in_time = self.time.T @ weighted - np.outer(weighted.sum(axis=0), weighted.sum(axis=0)) / per_frame.sum()
        of_patch = _positive(found.hessian.mean(axis=1))
        size = working.size
        in_space = self.space[:, :, None] * self.space[:, None, :]
        # [p, a s k, b t l]: the surface's functions s and t, k and l, along a and b.
        matrices = of_patch[:, :, None, None, :, None, None] * in_space[:, None, :, None, None, :, None]
        matrices = (matrices * in_time[:, None, None, :]).reshape(-1, size, size)
        along = np.swapaxes(found.gradient, 1, 2) @ self.time
        slopes = (along[:, :, None, :] * self.space[:, None, :, None]).reshape(-1, size)
        return _Evidence(matrices, slopes + matrices @ working.reshape(-1), found)

    def climbed(self, working: FloatArray, free: Array, part: float, here: _Evidence) -> tuple[FloatArray, _Evidence]:
        """Gauss-Newton steps to the top of the likelihood, from a place and the evidence about it."""
        for _ in range(MAX_STEPS):
            solved = here.solved(free)
            if np.sqrt(np.mean(self.shifts_px(solved - working) ** 2)) < CONVERGED_PX:
                break
            there = self.evidence(solved, part)
            if not there.value > here.value:
                break
            working, here = solved, there
        return working, here


def _positive(matrices: FloatArray) -> FloatArray:
    """Symmetric matrices with negative eigenvalues set to zero."""
    values, vectors = np.linalg.eigh(matrices)
    positive: FloatArray = np.einsum("pij,pj,pkj->pik", vectors, np.maximum(values, 0.0), vectors)
    return positive


@dataclass(frozen=True, eq=False)
class _Choice:
    free: Array
    space_order: int
    time_order: int
    gain: float
    gain_error: float


def _most_foretelling(evidence: _Evidence) -> _Choice:
    """The freedom with the largest log-likelihood in patches that are left out of the fit in turn."""
    choices = []
    n_patches = len(evidence.vectors)
    for space_order, terms in ((1, FIRST_ORDER), (2, N_SPACE)):
        for time_order in range(1, N_TIME + 1):
            free = np.zeros((2, N_SPACE, N_TIME), bool)
            free[:, :terms, :time_order] = True
            gains = evidence.foretold(free)
            error = float(np.sqrt(n_patches) * gains.std(ddof=1))
            choices.append(_Choice(free, space_order, time_order, float(gains.sum()), error))
    return max(choices, key=lambda choice: choice.gain)


def _tracks(fit: _Fit, working: FloatArray, found: Derivatives) -> FloatArray:
    """Each patch's own path: one Newton step from the surface, smoothed as its own data ask for."""
    start = fit.shifts_px(working)
    per_frame = np.maximum(np.trace(found.hessian, axis1=-2, axis2=-1).sum(axis=0), 0.0)
    per_frame /= max(per_frame.mean(), 1e-30)
    tracks = np.empty_like(start)
    for patch, mean in enumerate(_positive(found.hessian.mean(axis=1))):
        information = per_frame[:, None, None] * mean
        inverse = np.linalg.pinv(information, rcond=1e-6, hermitian=True)
        measured = start[patch] + np.einsum("nab,nb->na", inverse, found.gradient[patch])
        tracks[patch] = smooth_trajectory(measured, information)[0]
    return tracks - tracks[:, :1]
