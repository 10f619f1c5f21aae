"""A smooth path through noisy shifts, as smooth as the data say and no more."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from halfmap.motion.trajectory_fast import smooth_at
from halfmap.typing import Array, FloatArray

_LEAST_INFORMATION = 1e-8
"""In 1/px²: nothing is known, but the equations can be solved."""
_REACH = 2
"""Frames on either side that a second difference joins a frame with."""
_LOG_SIGMAS = np.linspace(np.log(0.01), np.log(30.0), 33)


def smooth_trajectory(measured_px: FloatArray, information: FloatArray) -> tuple[FloatArray, float]:
    """Smooth measured shifts by a Gaussian prior on their second differences.

    The prior's width (px) is the one with the largest evidence, so that a jerky stage is
    followed and only noise is taken away (restricted maximum likelihood; Wahba 1985, Ann. Stat.
    13, 1378, eq. 1.6 with a grid in place of a line search).

    Parameters
    ----------
    measured_px
        ``[n, 2]`` shifts (x, y) of the frames.
    information
        ``[n, 2, 2]`` inverse covariance of each measurement, in 1/px²; zero for a frame that
        tells nothing, whose shift then follows from its neighbours.

    Returns
    -------
    smooth_px, sigma_px
        ``[n, 2]`` shifts and the standard deviation of the second differences; ``inf`` where
        there are too few frames to smooth.
    """
    n = len(measured_px)
    total = np.trace(information, axis1=1, axis2=2)
    informative = total > 0
    if n < 3 or informative.sum() < 3:
        return _nearest_informative(measured_px, informative), float("inf")
    roughness = _roughness(n)
    weight = np.zeros_like(roughness)
    # A direction that no frame tells anything about stays as measured.
    least = max(_LEAST_INFORMATION, 1e-10 * float(total.max())) * np.eye(2)
    known = information + np.where(informative[:, None, None], least, 0.0)
    weight[0, 0::2], weight[0, 1::2], weight[1, 0::2] = known[:, 0, 0], known[:, 1, 1], known[:, 0, 1]
    target = np.einsum("nab,nb->na", known, measured_px).reshape(-1)

    paths = np.empty((len(_LOG_SIGMAS), 2 * n))
    evidences = smooth_at(weight, roughness, target, _LOG_SIGMAS, paths) - (n - 2) * 2 * _LOG_SIGMAS
    if np.isnan(evidences).any():
        raise np.linalg.LinAlgError("the equations of a smooth path are not positive definite")
    best = int(np.argmax(evidences))
    return paths[best].reshape(n, 2), float(np.exp(_LOG_SIGMAS[best]))


@lru_cache(maxsize=8)
def _roughness(n: int) -> FloatArray:
    """Sum of the squared second differences of ``n`` places, x and y by turns, as a quadratic form; banded."""
    differences = np.diff(np.eye(n), n=2, axis=0)
    roughness: FloatArray = np.kron(_banded(differences.T @ differences, _REACH), [[1.0, 1.0], [0.0, 0.0]])[:-1]
    return roughness


def _banded(matrix: FloatArray, reach: int) -> FloatArray:
    """Diagonals 0 to ``reach`` of a symmetric matrix, one a row, as LAPACK stores their lower half."""
    rows = [np.append(np.diagonal(matrix, offset), np.zeros(offset)) for offset in range(reach + 1)]
    return np.stack(rows)


def _nearest_informative(measured_px: FloatArray, informative: Array) -> FloatArray:
    if informative.all() or not informative.any():
        return measured_px
    good = np.flatnonzero(informative)
    nearest = good[np.abs(np.arange(len(measured_px))[:, None] - good[None]).argmin(axis=1)]
    return np.asarray(measured_px[nearest])


def motion_A(
    shifts_A: FloatArray, dose_e_per_A2: FloatArray, early_e_per_A2: float = 4.0
) -> tuple[float, float, float]:
    """Length of a path: total, before and after the first 4 e/Å² (the field's early and late motion).

    >>> motion_A(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]), np.array([2.0, 4.0, 6.0]))
    (6.0, 5.0, 1.0)
    """
    steps = np.hypot(*np.diff(shifts_A, axis=0).T)
    early = float(steps[dose_e_per_A2[1:] <= early_e_per_A2].sum())
    return float(steps.sum()), early, float(steps.sum()) - early
