"""Continuous refinement of a CTF on the pixels of the spectrum, with baseline and envelope free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.optimize import nnls

from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.search import Candidate
from halfmap.ctffit.spectrum import Rings, radial_basis
from halfmap.typing import FloatArray

MAX_ITERATIONS: Final = 25
N_ENVELOPE: Final = 6
SETTLED: Final = 0.01
"""A step that lowers χ² by less than this ends the refinement: it moved by a tenth of an error bar."""


@dataclass(frozen=True, eq=False)
class RingFit:
    """A refined candidate."""

    parameters: FloatArray
    """Mean defocus, astigmatism vector x and y (half difference) in Å, phase shift in rad."""
    covariance: FloatArray
    """``[4, 4]`` of the parameters; zeros for the phase shift where it was kept."""
    envelope: FloatArray
    """Amplitude of the rings in each shell, relative to the baseline."""
    offset: FloatArray
    """What is to be added to the baseline of each shell, relative to it."""
    cost: float
    """Weighted sum of squared residuals."""
    correlation: float
    """Weighted correlation of spectrum and rings over all pixels, after the baseline."""
    evidence: float
    """By how much rings lower χ² against a baseline alone. Pure noise reaches about 50 after the search."""


class RingModel:
    """Rings of a CTF on the pixels of a spectrum, as a function of few parameters.

    The phase is linear in defocus, ``γ = γ₀(s) + γ'(s) Δf + φ``; both functions are made once. Layers of a specimen of
    some thickness multiply the rings by ``sinc(λ t s²)`` (``ctffit.thickness``).
    """

    def __init__(self, rings: Rings, microscope: Microscope, near_defocus_A: float, thickness_A: float = 0.0) -> None:
        squared = rings.frequency_squared
        self.rings = rings
        at_zero = microscope.phase_rad(squared, 0.0, 0.0)
        self.by_defocus = ((microscope.phase_rad(squared, 1e4, 0.0) - at_zero) / 1e4).astype(np.float32)
        self._at_zero = at_zero.astype(np.float32)
        self.lag_A = microscope.lag_A(squared, near_defocus_A)
        fade = fading(self.lag_A, rings.cos_2, rings.length_A)
        self.fade = (fade * np.sinc(microscope.wavelength_A * thickness_A * squared)).astype(np.float32)
        self._cos_2, self._sin_2 = rings.cos_2.astype(np.float32), rings.sin_2.astype(np.float32)
        self.base = radial_basis(rings.shell_frequency)
        self.env = radial_basis(rings.shell_frequency, N_ENVELOPE)
        self.root_weight = np.sqrt(rings.weight)

    def rings_and_slope(self, parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
        """``-fading · cos 2γ`` of every pixel, and its derivative by γ."""
        mean, along, across, shift = (np.float32(p) for p in parameters)
        phase = self.by_defocus * (mean + along * self._cos_2 + across * self._sin_2)
        phase = 2.0 * (phase + self._at_zero + shift)
        return -self.fade * np.cos(phase), 2.0 * self.fade * np.sin(phase)

    def by_shell(self, values: FloatArray) -> FloatArray:
        """Weighted sums of pixels over shells."""
        return self.rings.weight * np.bincount(self.rings.shell, values, len(self.rings.shell_count))

    def cost_without_rings(self) -> float:
        """Weighted sum of squares that a smooth baseline alone leaves."""
        rings = self.rings
        root = np.sqrt(rings.weight * rings.shell_count)
        mean = np.bincount(rings.shell, rings.value) / rings.shell_count
        solution = np.linalg.lstsq(self.base * root[:, None], mean * root, rcond=None)[0]
        return float(self.by_shell((rings.value - (self.base @ solution)[rings.shell]) ** 2).sum())

    def evaluate(self, parameters: FloatArray) -> _State:
        """Best offset and envelope for given parameters, and what is left."""
        rings, base, env = self.rings, self.base, self.env
        model, slope = self.rings_and_slope(parameters)
        m, mm = self.by_shell(model)[:, None], self.by_shell(model * model)[:, None]
        count = (rings.weight * rings.shell_count)[:, None]
        v, vm = self.by_shell(rings.value), self.by_shell(rings.value * model)
        of_base, mixed, of_env = base.T @ (count * base), base.T @ (m * env), env.T @ (mm * env)
        height = _nowhere_negative(of_base, mixed, of_env, base.T @ v, env.T @ vm)
        offset = base @ np.linalg.solve(_with_ridge(of_base), base.T @ v - mixed @ height)
        envelope = env @ height
        root, scale = self.root_weight[rings.shell], (self.root_weight * envelope)[rings.shell]
        residual = root * (rings.value - offset[rings.shell]) - scale * model
        slope = scale * slope
        by_mean = slope * self.by_defocus
        jacobian = np.stack([by_mean, by_mean * self._cos_2, by_mean * self._sin_2, slope])
        return _State(model, residual, jacobian, envelope, offset, float(residual @ residual))


def _nowhere_negative(
    of_base: FloatArray, mixed: FloatArray, of_env: FloatArray, to_base: FloatArray, to_env: FloatArray
) -> FloatArray:
    """Least-squares coefficients of the envelope, none below zero, with the offset free.

    The arguments are the blocks of the normal equations. The offset is eliminated first; what is left is
    a problem of a few unknowns, solved under the bound (Lawson & Hanson 1974). Cutting a
    free solution off at zero instead would leave more than the best, and mislead the refinement.
    """
    of_base, of_env = _with_ridge(of_base), _with_ridge(of_env)
    eliminated = np.linalg.solve(of_base, np.column_stack([mixed, to_base]))
    normal = of_env - mixed.T @ eliminated[:, :-1]
    right = to_env - mixed.T @ eliminated[:, -1]
    root = np.linalg.cholesky(normal)
    return np.asarray(nnls(root.T, np.linalg.solve(root, right))[0])


def _with_ridge(normal: FloatArray) -> FloatArray:
    """Normal equations that can be solved even where rings or weights vanish."""
    return np.asarray(normal + (1e-9 * np.trace(normal) / len(normal) + 1e-30) * np.eye(len(normal)))


@dataclass(frozen=True, eq=False)
class _State:
    rings: FloatArray
    residual: FloatArray
    jacobian: FloatArray
    """``[4, n]``."""
    envelope: FloatArray
    offset: FloatArray
    cost: float


def refine(
    rings: Rings, microscope: Microscope, start: Candidate, *, fit_phase_shift: bool, thickness_A: float = 0.0
) -> RingFit:
    """Least squares by Levenberg-Marquardt; baseline and envelope are solved for at every step.

    The model of a pixel is ``offset(s) - envelope(s) · fading · cos 2γ`` with smooth offset and
    envelope (B-splines). They are linear, so each step solves for them first, from sums over
    shells, and then moves the parameters of γ (variable projection; Golub & Pereyra 1973).
    """
    free = 4 if fit_phase_shift else 3
    parameters = np.array([start.defocus_A, start.astigmatism_x_A, start.astigmatism_y_A, start.phase_shift_rad])
    model = RingModel(rings, microscope, start.defocus_A, thickness_A)
    state = model.evaluate(parameters)
    variance = state.cost / len(rings.value)
    damping = 1e-3
    for _ in range(MAX_ITERATIONS):
        jacobian = state.jacobian[:free]
        normal, gradient = jacobian @ jacobian.T, jacobian @ state.residual
        if not np.all(np.diag(normal) > 0):
            break
        step = np.zeros(4)
        step[:free] = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), gradient)
        trial = model.evaluate(parameters + step)
        gained = state.cost - trial.cost
        if gained > 0:
            parameters, state, damping = parameters + step, trial, max(damping * 0.2, 1e-6)
        else:
            damping *= 8.0
        if 0 <= gained < SETTLED * variance or damping > 1e4:
            break
    noise = _noise_at_rings(model, state)
    at_rings = float((state.rings**2) @ noise / max(float(state.rings @ state.rings), 1e-30))
    return RingFit(
        parameters=parameters,
        covariance=_covariance(state, free, noise),
        envelope=state.envelope,
        offset=state.offset,
        cost=state.cost,
        correlation=_correlation(rings, state),
        evidence=(model.cost_without_rings() - state.cost) / (at_rings * state.cost / len(rings.value)),
    )


def _covariance(state: _State, free: int, noise: FloatArray) -> FloatArray:
    jacobian = state.jacobian[:free]
    covariance = np.zeros((4, 4))
    variance = state.cost / max(len(state.residual) - 20, 1)
    inverse = np.linalg.pinv(jacobian @ jacobian.T)
    covariance[:free, :free] = inverse @ ((jacobian * noise) @ jacobian.T) @ inverse * variance
    return covariance


def _noise_at_rings(model: RingModel, state: _State) -> FloatArray:
    """Noise of each pixel at the lag of its rings, over its noise at all lags.

    Cells that share pixels of the full spectrum, and the faded edges of the micrograph, make neighbours alike: their
    noise is then stronger at small lags, where wide rings belong, and weaker at large ones.
    """
    rings, residual = model.rings, state.residual
    grid = np.zeros(rings.on_grid.shape)
    grid[rings.on_grid] = residual
    along_x = 2.0 * float((grid[:, 1:] * grid[:, :-1]).sum()) / state.cost
    along_y = 2.0 * float((grid[1:] * grid[:-1]).sum()) / state.cost
    turn = 2.0 * np.pi * model.lag_A / rings.length_A
    x, y = (np.sqrt(np.clip(0.5 + half * rings.cos_2, 0.0, 1.0)) for half in (0.5, -0.5))
    return np.asarray((1.0 + along_x * np.cos(turn * x)) * (1.0 + along_y * np.cos(turn * y)))


def _correlation(rings: Rings, state: _State) -> float:
    """Weighted correlation over pixels between the spectrum above its baseline and the rings."""
    weight = rings.weight[rings.shell]
    data, model = rings.value - state.offset[rings.shell], state.rings
    data, model = data - np.average(data, weights=weight), model - np.average(model, weights=weight)
    both = (weight * data) @ data * ((weight * model) @ model)
    return float((weight * data) @ model / np.sqrt(max(float(both), 1e-30)))
