"""Noise power of each optics group at each shell, for the passes that work on rings."""

from __future__ import annotations

import numpy as np

from halfmap.refine.images.observations import ParticleSource, batches
from halfmap.refine.rings.expectation import Expectation
from halfmap.typing import Array, FloatArray


def noise_from_images(observations: ParticleSource, rows: Array, radius_px: int) -> FloatArray:
    """Mean power of the images in each shell, ``[groups, radius_px + 1]``: the signal is little beside the noise."""
    shell = observations.lattice.within(radius_px).shell.cpu().numpy()
    pixels = np.maximum(np.bincount(shell), 1)
    power = np.zeros((observations.n_groups, radius_px + 1))
    group = observations.group[rows]
    for number in range(observations.n_groups):
        part = rows[group == number]
        for some in batches(part, len(shell)):
            squared = observations.batch(some, radius_px).ft.abs().square()
            power[number] += np.bincount(shell, weights=squared.double().sum(dim=0).cpu().numpy()) / pixels
        power[number] /= max(len(part), 1)
    power[:, 0] = power[:, 1]
    known = power.sum(axis=1) > 0
    power[~known] = power[known].mean(axis=0) if known.any() else 1.0
    return power


def reaching(observations: ParticleSource, sigma2: FloatArray, rows: Array, radius_px: int, n_rings: int) -> FloatArray:
    """Known noise on all rings, ``[groups, n_rings]``; where it was not looked at yet, the power of the images."""
    if radius_px + 1 > sigma2.shape[1]:
        power = noise_from_images(observations, rows, radius_px)
        power[:, : sigma2.shape[1]] = sigma2
        sigma2 = power
    extended = np.repeat(sigma2[:, radius_px : radius_px + 1], n_rings, axis=1)
    extended[:, : radius_px + 1] = sigma2[:, : radius_px + 1]
    return extended


def noise_from_residuals(
    observations: ParticleSource, sigma2: FloatArray, found: Expectation, radius_px: int, *, share: float
) -> FloatArray:
    """Noise moved by ``share`` towards what the averages leave unexplained, shells up to ``radius_px``.

    Rings lend to and borrow from their neighbours, so that the ratio is smoothed before it is used.
    """
    shell = observations.lattice.within(radius_px).shell.cpu().numpy()
    pixels = 2.0 * np.bincount(shell, minlength=radius_px + 1)[1:]
    expected = np.maximum(found.seen[:, None] * pixels, 1.0)
    residual = found.residual[:, 1 : radius_px + 1]
    kernel = np.array([0.25, 0.5, 0.25])
    updated = sigma2[:, : radius_px + 1].copy()
    for group in np.flatnonzero(found.seen > 0):
        ratio = np.clip(residual[group] / expected[group], 0.3, 3.0)
        smooth = np.convolve(np.pad(ratio, 1, mode="edge"), kernel, mode="valid")
        updated[group, 1:] *= 1 - share + share * smooth
    updated[:, 0] = updated[:, 1]
    return updated
