"""Banded equations for many widths of a prior at once: LAPACK called for each takes three times as long."""

from __future__ import annotations

import math

import numba
import numpy as np

from halfmap.typing import Array


@numba.njit(cache=True, nogil=True)
def solve_banded(band: Array, target: Array, factor: Array, path: Array) -> float:
    """Solve ``A path = target`` for a positive definite A, and return the logarithm of its determinant.

    ``band [k, n]`` holds ``A[j + k, j]``; ``factor`` of its shape is used up. NaN if A is not positive definite.
    """
    reach, n = band.shape[0] - 1, band.shape[1]
    log_det = 0.0
    for j in range(n):
        rest = band[0, j]
        for k in range(1, min(reach, j) + 1):
            rest -= factor[k, j - k] * factor[k, j - k]
        if not rest > 0.0:
            return np.nan
        pivot = math.sqrt(rest)
        factor[0, j] = pivot
        log_det += 2.0 * math.log(pivot)
        for i in range(1, min(reach, n - 1 - j) + 1):
            rest = band[i, j]
            for k in range(1, min(reach - i, j) + 1):
                rest -= factor[i + k, j - k] * factor[k, j - k]
            factor[i, j] = rest / pivot
    for j in range(n):
        rest = target[j]
        for k in range(1, min(reach, j) + 1):
            rest -= factor[k, j - k] * path[j - k]
        path[j] = rest / factor[0, j]
    for j in range(n - 1, -1, -1):
        rest = path[j]
        for k in range(1, min(reach, n - 1 - j) + 1):
            rest -= factor[k, j] * path[j + k]
        path[j] = rest / factor[0, j]
    return log_det


@numba.njit(cache=True, nogil=True)
def smooth_at(weight: Array, roughness: Array, target: Array, log_sigmas: Array, paths: Array) -> Array:
    """Paths ``[s, n]`` for priors of many widths, and the evidence of each but for what all have in common.

    Of ``(weight + roughness / sigma²) path = target``; NaN where that has no solution.
    """
    band, factor = np.empty_like(weight), np.empty_like(weight)
    evidences = np.empty(len(log_sigmas))
    for s in range(len(log_sigmas)):
        stiffness = math.exp(-2.0 * log_sigmas[s])
        for k in range(band.shape[0]):
            for j in range(band.shape[1]):
                band[k, j] = weight[k, j] + roughness[k, j] * stiffness
        evidence = -0.5 * solve_banded(band, target, factor, paths[s])
        for j in range(len(target)):
            evidence += 0.5 * target[j] * paths[s, j]
        evidences[s] = evidence
    return evidences
