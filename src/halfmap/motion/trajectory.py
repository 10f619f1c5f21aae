"""A smooth path through noisy shifts, as smooth as the data say and no more."""

from __future__ import annotations

import numpy as np

from halfmap.typing import Array, FloatArray

_LEAST_INFORMATION = 1e-8
"""In 1/px²: nothing is known, but the equations can be solved."""
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
    informative = np.array([np.trace(h) > 0 for h in information])
    if n < 3 or informative.sum() < 3:
        return _nearest_informative(measured_px, informative), float("inf")
    differences = np.kron(np.diff(np.eye(n), n=2, axis=0), np.eye(2))
    roughness = differences.T @ differences
    weight = np.zeros((2 * n, 2 * n))
    # A direction that no frame tells anything about stays as measured.
    least = max(_LEAST_INFORMATION, 1e-10 * float(np.trace(information, axis1=1, axis2=2).max())) * np.eye(2)
    for i, h in enumerate(information):
        weight[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = h + least if informative[i] else h
    target = weight @ measured_px.reshape(-1)

    def solve(log_sigma: float) -> tuple[float, FloatArray]:
        factor = np.linalg.cholesky(weight + roughness * np.exp(-2.0 * log_sigma))
        half = np.linalg.solve(factor, target)
        path = np.linalg.solve(factor.T, half)
        evidence = -(len(differences)) * log_sigma - np.log(np.diag(factor)).sum() + 0.5 * half @ half
        return float(evidence), path

    evidences = [solve(s)[0] for s in _LOG_SIGMAS]
    best = _LOG_SIGMAS[int(np.argmax(evidences))]
    return solve(best)[1].reshape(n, 2), float(np.exp(best))


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
