"""Pick particles in one micrograph with a template found by the survey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmap.io.mrc import read_image
from halfmap.picking.contamination import contaminated, roughness, value_at
from halfmap.picking.field import Field, field_of, flattened, picking_pixel_size_A, radial_power, signal_free
from halfmap.picking.micrograph import Micrograph
from halfmap.picking.score import maxima, score_map
from halfmap.picking.template import Template
from halfmap.typing import Array, FloatArray

LOWEST_SCORE = 2.5
"""Maxima below this are not kept: hundreds of places without a particle reach it."""


@dataclass(frozen=True)
class PickPlan:
    """Everything that picking in one micrograph needs besides the micrograph."""

    template: Template
    sign: int
    diameter_A: float
    min_distance_A: float
    controls: int
    seed: int
    device: str


def pick_micrograph(micrograph: Micrograph, *, plan: PickPlan) -> dict[str, Any]:
    """Find all maxima of the matched filter, and those of signal-free copies.

    Returns
    -------
    dict
        ``x_px``, ``y_px``, ``score``, ``strength`` (roughness there over the micrograph's median) of the
        maxima, ``control`` (scores in the copies, of all of them), ``n_edge`` and ``n_contaminated``
        maxima left out, ``contaminated_frac`` of the area.
    """
    image, _ = read_image(micrograph.name)
    return pick_image(np.asarray(image), micrograph, plan)


def pick_image(image: FloatArray, micrograph: Micrograph, plan: PickPlan) -> dict[str, Any]:
    """:func:`pick_micrograph` for an image in memory."""
    field = field_of(image, micrograph.pixel_size_A, 1.5 * plan.diameter_A, plan.device)
    field = field.resampled(picking_pixel_size_A(plan.template.diameter_A))
    flat = flattened(field, plan.template.diameter_A)
    power = radial_power(flat.image)
    n = flat.image.shape[-1]
    ctf = micrograph.defocus.image(n, flat.pixel_size_A, plan.device) if micrograph.defocus else None
    dirt = contaminated(field, plan.diameter_A)
    peaks = _maxima(flat, plan, power, ctf)
    in_dirt, at_edge = _faults(peaks, field, dirt, plan)
    good = ~(in_dirt | at_edge)
    y_px, x_px = (_micrograph_px(peaks[good, axis], field) for axis in (0, 1))
    rough = field.inside(roughness(field, plan.diameter_A))
    strength = value_at(rough, peaks[good, 0], peaks[good, 1]) / float(rough.median())
    return {
        "x_px": x_px.round(3).tolist(),
        "y_px": y_px.round(3).tolist(),
        "score": peaks[good, 2].round(4).tolist(),
        "strength": strength.round(4).tolist(),
        "control": _control_scores(flat, field, dirt, micrograph.name, plan, power, ctf),
        "n_edge": int((at_edge & ~in_dirt).sum()),
        "n_contaminated": int(in_dirt.sum()),
        "contaminated_frac": float(dirt.mean()),
    }


def _control_scores(
    flat: Field, field: Field, dirt: Array, name: str, plan: PickPlan, power: Tensor, ctf: Tensor | None
) -> list[float]:
    """Scores of the maxima of signal-free copies, where picks would be kept."""
    scores: list[float] = []
    for copy in range(plan.controls):
        peaks = _maxima(signal_free(flat, name, copy, plan.seed), plan, power, ctf)
        in_dirt, at_edge = _faults(peaks, field, dirt, plan)
        scores += peaks[~(in_dirt | at_edge), 2].round(4).tolist()
    return scores


def _maxima(field: Field, plan: PickPlan, power: Tensor, ctf: Tensor | None) -> FloatArray:
    """Maxima worth keeping, in pixels of ``field.inside``."""
    score = score_map(torch.fft.rfft2(field.image), field.pixel_size_A, plan.template, power, ctf)
    return maxima(plan.sign * field.inside(score), plan.min_distance_A / field.pixel_size_A, LOWEST_SCORE)


def _micrograph_px(position: FloatArray, field: Field) -> FloatArray:
    """Coordinates in the micrograph of coordinates in ``field.inside``."""
    return (position + field.origin()) * field.scale - field.margin_px


def _faults(peaks: FloatArray, field: Field, dirt: Array, plan: PickPlan) -> tuple[Array, Array]:
    """Which maxima lie in dirt, and which particles would reach beyond the edge of the micrograph."""
    rows, columns = (np.clip(np.rint(peaks[:, k]).astype(int), 0, dirt.shape[k] - 1) for k in (0, 1))
    radius_px = plan.diameter_A / 2.0 * field.scale / field.pixel_size_A
    at_edge = np.zeros(len(peaks), dtype=bool)
    for axis in (0, 1):
        position = _micrograph_px(peaks[:, axis], field)
        at_edge |= (position < radius_px - 0.5) | (position > field.shape[axis] - 0.5 - radius_px)
    return dirt[rows, columns], at_edge
