"""A smooth local motion: a surface over the frame that changes smoothly in time, as RELION writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.typing import Array, FloatArray

N_SPACE: Final = 6
N_TIME: Final = 3
FIRST_ORDER: Final = 3
"""Number of working functions of the position up to first order."""
_SPACE: Final = np.array(
    [
        [1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 12.0**0.5, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 12.0**0.5, 0.0, 0.0],
        [-(180.0**0.5) / 12.0, 0.0, 180.0**0.5, 0.0, 0.0, 0.0],
        [-(180.0**0.5) / 12.0, 0.0, 0.0, 0.0, 180.0**0.5, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 12.0],
    ]
)
"""Working functions (orthonormal over the frame) as sums of 1, x, x², y, y², xy."""
_TIME: Final = np.array([[1.0, 0.0, 0.0], [4.0, -4.0, 0.0], [10.0, -30.0, 20.0]])
"""Working functions of the time from 0 to 1 as sums of t, t², t³; all vanish at 0, the last two at 1."""


def space_functions(centres: FloatArray) -> FloatArray:
    """Working functions ``[p, 6]`` at positions ``[p, 2]`` (x, y) from -0.5 to 0.5 over the frame."""
    x, y = centres.T
    values: FloatArray = np.stack([np.ones_like(x), x, x * x, y, y * y, x * y], axis=1) @ _SPACE.T
    return values


def time_functions(time: FloatArray) -> FloatArray:
    """Working functions ``[n, 3]`` at times from 0 to 1."""
    values: FloatArray = np.stack([time, time**2, time**3], axis=1) @ _TIME.T
    return values


@dataclass(frozen=True, eq=False)
class LocalModel:
    """Local shifts to apply to the frames, besides the global ones, in the form of RELION's polynomial.

    ``coefficients_px`` is ``[2, 6, 3]``: for x and y, for 1, x, x², y, y², xy (positions from -0.5 to 0.5 over the
    frame), the coefficients of z, z², z³, where z is the frame counted from 0 (``ThirdOrderPolynomialModel``;
    Zivanov, Nakane & Scheres 2019, IUCrJ 6, 5).
    """

    coefficients_px: FloatArray

    @classmethod
    def of_working(cls, working_px: FloatArray, n_frames: int) -> LocalModel:
        """From the coefficients ``[2, 6, 3]`` of the working functions of a movie of so many frames."""
        last = max(n_frames - 1, 1)
        per_frame = _TIME / last ** np.arange(1, N_TIME + 1)
        return cls(np.einsum("ask,st,kz->atz", working_px, _SPACE, per_frame))

    def surfaces_px(self, frames: Array) -> FloatArray:
        """Coefficients ``[n, 2, 6]`` of 1, x, x², y, y², xy at frames counted from 0."""
        powers = np.asarray(frames, np.float64)[:, None] ** np.arange(1, N_TIME + 1)
        surfaces: FloatArray = np.einsum("atz,nz->nat", self.coefficients_px, powers)
        return surfaces

    def shifts_px(self, frames: Array, positions: FloatArray) -> FloatArray:
        """Shifts ``[p, n, 2]`` (x, y) at positions ``[p, 2]`` from -0.5 to 0.5 and frames ``[n]`` from 0."""
        x, y = np.asarray(positions, np.float64).T
        terms = np.stack([np.ones_like(x), x, x * x, y, y * y, x * y], axis=1)
        shifts: FloatArray = np.einsum("nat,pt->pna", self.surfaces_px(frames), terms)
        return shifts

    def mean_px(self, n_frames: int) -> FloatArray:
        """Mean over the frame ``[n, 2]``, of each frame."""
        mean: FloatArray = self.surfaces_px(np.arange(n_frames)) @ np.array([1.0, 0.0, 1 / 12, 0.0, 1 / 12, 0.0])
        return mean

    def without_mean(self) -> LocalModel:
        """The same motion less its mean over the frame, which belongs to the global one."""
        coefficients = self.coefficients_px.copy()
        coefficients[:, 0] = -(coefficients[:, 2] + coefficients[:, 4]) / 12.0
        return LocalModel(coefficients)

    def largest_px(self, n_frames: int) -> float:
        """Longest local shift of any place in any frame."""
        edge = np.linspace(-0.5, 0.5, 9)
        positions = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
        return float(np.linalg.norm(self.shifts_px(np.arange(n_frames), positions), axis=-1).max())

    def scaled(self, factor: float) -> LocalModel:
        """The same motion in pixels of another size."""
        return LocalModel(self.coefficients_px * factor)
