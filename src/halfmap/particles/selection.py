"""Select particles of a 2D classification from its files."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.mrc import open_stack
from halfmap.io.star import read_star
from halfmap.particles.options import SelectOptions
from halfmap.particles.select import REASON_LABEL, chosen_classes, class_features, listed_classes, split
from halfmap.typing import Array, FloatArray


@dataclass(frozen=True, eq=False)
class Selection:
    """What is kept and what is left out, with the reasons and the scores of the classes."""

    kept: ImageSet
    excluded: ImageSet
    classes: list[dict[str, Any]]
    reasons: dict[str, int]


def select_particles(particles: ImageSet, averages: Path | None, options: SelectOptions) -> Selection:
    """Choose classes by list or by their averages, apply the conditions, and split the particles.

    Parameters
    ----------
    particles
        With ``class_number`` where classes matter.
    averages
        Stack of class averages; ``classes.star`` beside it tells their resolution. None to choose by
        list or conditions alone.
    options
        What to keep.
    """
    keep, why, classes = None, [""], []
    if options.keep:
        particles.require(["class_number"], needed_for="selecting classes")
        count = class_counts(particles, len(open_stack(averages)) if averages else 0)
        keep = listed_classes(options.keep, len(count))
        why = ["not_listed"] * len(count)
        classes = [
            {"class": k + 1, "particles": int(count[k]), "kept": bool(keep[k]), "weakest": ""}
            for k in range(len(count))
        ]
    elif averages is not None:
        particles.require(["class_number"], needed_for="selecting classes")
        keep, why, classes = _automatic(particles, averages, options.min_score)
    elif not options.where:
        raise HalfmapError(
            "there is nothing to select by: no class averages, no --keep, no --where.",
            remedy="Give the classes.mrcs of class2d after the particles, or one of these options.",
        )
    reasons = split(particles, keep, why, options.where)
    left_out = np.flatnonzero(reasons != "")
    excluded = particles.select(left_out)
    rows = Table(excluded.rows.columns, {**excluded.rows.foreign, REASON_LABEL: reasons[left_out]})
    return Selection(
        kept=particles.select(np.flatnonzero(reasons == "")),
        excluded=excluded.with_rows(rows),
        classes=classes,
        reasons=dict(Counter(reasons[left_out].tolist()).most_common()),
    )


def class_counts(particles: ImageSet, n_classes: int) -> Array:
    """Particles in each class, for at least ``n_classes`` classes."""
    number = particles["class_number"]
    return np.bincount(number[number >= 1], minlength=n_classes + 1)[1:]


def _automatic(particles: ImageSet, averages: Path, min_score: float) -> tuple[Array, list[str], list[dict[str, Any]]]:
    stack = open_stack(averages)
    count = class_counts(particles, len(stack))
    if len(count) > len(stack):
        raise BadInputError(
            averages, "number of class averages", found=len(stack),
            expected=f"at least {len(count)}, the largest class",
            remedy="Give the classes.mrcs of the same classification.",
        )  # fmt: skip
    pixel_size_A = stack.pixel_size_A or float(particles.pixel_size_A()[0])
    n = stack.shape[-1]
    diameter_A = float(np.max(particles.rows.get("particle_diameter_A", 0.6 * n * pixel_size_A)))
    radius_px = min(diameter_A / 2.0 / pixel_size_A, 0.45 * n)
    images = stack.read(np.arange(len(stack)))
    features = class_features(images, count, _resolutions_A(averages, len(stack)), radius_px)
    keep, score, weakest = chosen_classes(features, min_score)
    classes = [
        {
            "class": k + 1, "particles": int(count[k]), "score": round(float(score[k]), 3), "kept": bool(keep[k]),
            "weakest": weakest[k], "resolution_A": _rounded(features.resolution_A[k]),
            "contrast": _rounded(features.contrast[k]), "offset_radii": _rounded(features.offset_radii[k]),
        }
        for k in range(len(stack))
    ]  # fmt: skip
    return keep, weakest, classes


def _rounded(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None


def _resolutions_A(averages: Path, n_classes: int) -> FloatArray:
    """Resolution of each class from ``classes.star`` beside the stack; NaN where it is not told."""
    path = averages.with_name("classes.star")
    unknown = np.full(n_classes, np.nan)
    if not path.is_file():
        return unknown
    for block in read_star(path).values():
        if "rlnEstimatedResolution" in block and len(block["rlnEstimatedResolution"]) == n_classes:
            values = np.asarray(block["rlnEstimatedResolution"], dtype=np.float64)
            return np.where(values > 0, values, np.nan)
    return unknown
