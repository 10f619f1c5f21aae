"""The matched filter: how much a place looks like the particle, in units of the noise there."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.spatial import cKDTree
from torch import Tensor

from halfmap.fourier.grid import friedel_weight, radius_px
from halfmap.picking.template import Template
from halfmap.typing import Array, FloatArray


def score_map(
    field_ft: Complex[Tensor, "n half"],
    pixel_size_A: float,
    template: Template,
    power: Float[Tensor, "n half"],
    ctf: Float[Tensor, "n half"] | None,
) -> Float[Tensor, "n n"]:
    """Correlate a field with the template as the microscope shows it, whitened.

    ``IFFT(F · T·CTF / P) / sqrt(Σ (T·CTF)² / P)``: the matched filter for noise of power ``P``,
    which has variance 1 where there is only noise. White particles have positive scores, dark
    ones negative.

    Parameters
    ----------
    field_ft
        Transform of the flattened micrograph.
    pixel_size_A
        Its pixel size.
    template
        The shape of the particle.
    power
        Power of the noise a pixel (``field.radial_power``).
    ctf
        CTF on the half layout; None for a template that is not modulated.
    """
    n = field_ft.shape[-2]
    frequency = radius_px((n, n), field_ft.device) / (n * pixel_size_A)
    seen = template.transform(frequency)
    if ctf is not None:
        seen = seen * ctf
    seen = seen.clone()
    seen[0, 0] = 0.0
    weighted = seen / power
    norm = float((seen * weighted * friedel_weight((n, n), seen.device)).double().sum()) ** 0.5 / n
    result: Tensor = torch.fft.irfft2(field_ft * weighted, s=(n, n)) / max(norm, 1e-30)
    return result


def maxima(score: Float[Tensor, "y x"], min_distance_px: float, least: float) -> FloatArray:
    """Local maxima of at least ``least`` that no higher one is nearer to than ``min_distance_px``.

    Returns
    -------
    array ``[n, 3]`` float64
        y, x (with the fraction of a pixel, by a parabola in each direction) and score, highest first.
    """
    values = score.cpu().numpy()
    pooled = torch.nn.functional.max_pool2d(score[None, None], 3, stride=1, padding=1)[0, 0]
    y, x = np.nonzero((values == pooled.cpu().numpy()) & (values >= least))
    order = np.lexsort((x, y, -values[y, x]))
    y, x = y[order], x[order]
    kept = _far_apart(np.stack((y, x), axis=1).astype(np.float64), min_distance_px)
    y, x = y[kept], x[kept]
    dy, dx = _vertex(values, y, x, 0), _vertex(values, y, x, 1)
    return np.stack((y + dy, x + dx, values[y, x]), axis=1).astype(np.float64)


def _far_apart(points: FloatArray, min_distance_px: float) -> Array:
    """Mask of the points that no point before them in the order, itself kept, is near to."""
    kept = np.ones(len(points), dtype=bool)
    if len(points) == 0:
        return kept
    neighbours = cKDTree(points).query_ball_point(points, min_distance_px)
    for index, near in enumerate(neighbours):
        if kept[index]:
            kept[[other for other in near if other > index]] = False
    return kept


def _vertex(values: FloatArray, y: Array, x: Array, axis: int) -> FloatArray:
    """Offset of the top of a parabola through a maximum and its neighbours along an axis; 0 at the border."""
    step = (1, 0) if axis == 0 else (0, 1)
    position, size = (y, x)[axis], values.shape[axis]
    inner = (position > 0) & (position < size - 1)
    before = values[np.where(inner, y - step[0], y), np.where(inner, x - step[1], x)].astype(np.float64)
    after = values[np.where(inner, y + step[0], y), np.where(inner, x + step[1], x)].astype(np.float64)
    curvature = before - 2.0 * values[y, x] + after
    curved = inner & (curvature < 0)
    offset = 0.5 * (before - after) / np.where(curved, curvature, 1.0)
    return np.where(curved, np.clip(offset, -0.5, 0.5), 0.0)
