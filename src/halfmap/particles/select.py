"""Which classes hold particles: by their averages relative to the set, or by a list.

A class is as good as its weakest feature. Each feature is compared with what the better half of the
particles reach, so that the rule means the same at any signal, box and resolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.data.conditions import fulfils
from halfmap.data.records import ImageSet
from halfmap.errors import HalfmapError
from halfmap.typing import Array, FloatArray

FEW_CLASSES = 3
"""Up to this many classes with particles, nothing is left out automatically: there is nothing to compare with."""
WORST_RESOLUTION_RATIO, GOOD_RESOLUTION_RATIO = 3.5, 1.5
"""Resolution over the typical one at which a class scores 0, and from which down it scores 1: a rare view of a
good particle, with a tenth of the usual number, comes out up to about 2.5 times coarser."""
OFF_CENTRE_RADII = 0.5
LEAST_SHARE = 0.1
"""Share of the mean population below which a class scores less than 1."""
REASON_LABEL: Final = "halfmapReason"


@dataclass(frozen=True, eq=False)
class ClassFeatures:
    """One value a class: particles, resolution (NaN if unknown), signal, offset of the centre."""

    count: Array
    resolution_A: FloatArray
    contrast: FloatArray
    """Variance within the particle's circle over that outside of it."""
    offset_radii: FloatArray
    """Distance of the density's centre from the middle, in radii of the particle."""


def class_features(images: FloatArray, count: Array, resolution_A: FloatArray, radius_px: float) -> ClassFeatures:
    """Measure class averages ``[k, y, x]``, protein white, particle in a circle of ``radius_px``."""
    n = images.shape[-1]
    y, x = np.indices((n, n)) - n // 2
    distance = np.hypot(y, x)
    inside, outside = distance <= radius_px, (distance > radius_px) & (distance <= n // 2)
    values = np.asarray(images, dtype=np.float64)
    level = values[:, outside].mean(axis=1) if outside.any() else np.zeros(len(values))
    flat = values - level[:, None, None]
    variance_inside = flat[:, inside].var(axis=1)
    variance_outside = flat[:, outside].var(axis=1) if outside.any() else np.zeros(len(values))
    contrast = variance_inside / np.maximum(variance_outside, 1e-6 * variance_inside + 1e-30)
    mass = np.clip(flat, 0.0, None) * inside
    total = np.maximum(mass.sum(axis=(1, 2)), 1e-30)
    offset = np.hypot((mass * y).sum(axis=(1, 2)) / total, (mass * x).sum(axis=(1, 2)) / total)
    return ClassFeatures(np.asarray(count), np.asarray(resolution_A, dtype=np.float64), contrast, offset / radius_px)


def class_scores(features: ClassFeatures) -> dict[str, FloatArray]:
    """Score each feature of each class from 0 to 1."""
    count = features.count.astype(np.float64)
    used = count > 0
    mean = count[used].mean() if used.any() else 1.0
    typical_A = _typical(features.resolution_A, count, better_is_larger=False)
    ratio = features.resolution_A / typical_A
    resolution = (WORST_RESOLUTION_RATIO - ratio) / (WORST_RESOLUTION_RATIO - GOOD_RESOLUTION_RATIO)
    known = np.isfinite(features.resolution_A) & np.isfinite(typical_A)
    strong = _typical(np.log(np.maximum(features.contrast, 1e-30)), count, better_is_larger=True)
    contrast = features.contrast / np.exp(strong) * 4.0
    return {
        "population": np.clip(count / (LEAST_SHARE * mean), 0.0, 1.0),
        "resolution": np.clip(np.where(known, resolution, 1.0), 0.0, 1.0),
        "contrast": np.clip(contrast, 0.0, 1.0),
        "centre": np.clip(2.0 * (1.0 - features.offset_radii / OFF_CENTRE_RADII), 0.0, 1.0),
    }


def _typical(values: FloatArray, count: FloatArray, *, better_is_larger: bool) -> float:
    """The value that the better half of the particles' classes reach on average; NaN if none is known."""
    known = np.isfinite(values) & (count > 0)
    if not known.any():
        return float("nan")
    order = np.argsort(-values[known] if better_is_larger else values[known], kind="stable")
    sorted_values, weights = values[known][order], count[known][order]
    before = np.cumsum(weights) - weights
    share = np.clip(0.5 * weights.sum() - before, 0.0, weights)
    return float((sorted_values * share).sum() / share.sum())


def judge(scores: dict[str, FloatArray]) -> tuple[FloatArray, list[str]]:
    """Overall score of each class, its weakest feature's, and the name of that feature."""
    names = list(scores)
    table = np.stack([scores[name] for name in names])
    weakest = table.argmin(axis=0)
    return table.min(axis=0), [names[index] for index in weakest.tolist()]


def chosen_classes(features: ClassFeatures, min_score: float) -> tuple[Array, FloatArray, list[str]]:
    """Mask of the classes to keep, their scores and weakest features.

    All classes with particles are kept if there are few of them, or if none would be left.
    """
    score, weakest = judge(class_scores(features))
    used = features.count > 0
    keep = used & (score >= min_score)
    if used.sum() <= FEW_CLASSES or not keep.any():
        keep = used
    return keep, score, weakest


def listed_classes(text: str, n_classes: int) -> Array:
    """Mask of the classes named in a list such as ``1,4,7-9``.

    >>> listed_classes("1,3-4", 5).tolist()
    [True, False, True, True, False]
    """
    keep = np.zeros(n_classes, dtype=bool)
    for part in text.split(","):
        first, _, last = part.partition("-")
        start, end = int(first), int(last or first)
        if not 1 <= start <= end <= n_classes:
            raise HalfmapError(
                f"class {part} does not exist; there are {n_classes}.", remedy="Give numbers from 1 on, as 1,4,7-9."
            )
        keep[start - 1 : end] = True
    return keep


def split(particles: ImageSet, keep_class: Array | None, why: Sequence[str], conditions: Sequence[str]) -> Array:
    """Reason for which each particle is left out, "" for those that are kept.

    Parameters
    ----------
    particles
        With ``class_number`` if ``keep_class`` is given.
    keep_class, why
        Mask of the classes to keep and a word for each class that is not.
    conditions
        For :func:`halfmap.data.conditions.fulfils`; all must hold.
    """
    reasons = np.full(len(particles), "", dtype=object)
    if keep_class is not None:
        number = particles["class_number"]
        known = (number >= 1) & (number <= len(keep_class))
        dropped = known & ~keep_class[np.clip(number, 1, len(keep_class)) - 1]
        reasons[~known] = "no_class"
        reasons[dropped] = [f"class_{k}:{why[k - 1]}" for k in number[dropped].tolist()]
    for condition in conditions:
        failed = ~fulfils(particles, condition) & (reasons == "")
        reasons[failed] = f"not_{condition.replace(' ', '')}"
    return reasons
