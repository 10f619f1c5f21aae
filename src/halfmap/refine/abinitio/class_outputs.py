"""What an ab initio search of several classes writes: a map each, a table, and the class of each particle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.data.records import ImageSet, Volume
from halfmap.io.mrc import write_volume
from halfmap.io.star import StarBlock, write_star
from halfmap.refine.abinitio.classes import EMPTY_FRAC, ClassState
from halfmap.refine.abinitio.hypothesis import Hypothesis
from halfmap.refine.session import Session
from halfmap.typing import Array

NO_MAP = "None"
"""In place of the file of a class that no particle is in."""


def ranked(best: Hypothesis) -> Hypothesis:
    """The same with the classes in the order of how many particles they hold, the largest first."""
    order = np.argsort(-_population(best.classes), kind="stable")
    classes = ClassState(best.classes.frac[order], best.classes.balance[order], best.classes.posterior[:, order])
    return replace(
        best,
        volumes=tuple(best.volumes[number] for number in order),
        correlation=best.correlation[order],
        velocities=None,
        classes=classes,
    )


def write_classes(
    folder: Path, maps: Sequence[Volume], result: Hypothesis, resolution_A: Sequence[float], session: Session
) -> dict[str, Any]:
    """Write ``map_class001.mrc``, ``map_class002.mrc`` ... and ``classes.star``; a class without particles has no map.

    Parameters
    ----------
    folder
        Where they go.
    maps
        On the grid of the particles, the class with most particles first.
    result
        What was found, in the same order.
    resolution_A
        Where the halves of each class agree by half; they share their poses.
    session
        Whoever runs this.

    Returns
    -------
    Figures for the record of the job.
    """
    counts = _population(result.classes)
    shares = counts / max(counts.sum(), 1)
    names = []
    for number, (count, volume) in enumerate(zip(counts, maps, strict=True), start=1):
        names.append(f"{folder.name}/map_class{number:03d}.mrc" if count else NO_MAP)
        if count:
            write_volume(folder / f"map_class{number:03d}.mrc", volume)
    block = StarBlock(
        {
            "rlnReferenceImage": np.array(names, object),
            "rlnClassDistribution": shares,
            "rlnEstimatedResolution": np.asarray(resolution_A, dtype=np.float64),
            "rlnHalfmapClassParticles": counts,
        }
    )
    write_star(folder / "classes.star", {"model_classes": block})
    for number, (share, reached_A) in enumerate(zip(shares, resolution_A, strict=True), start=1):
        session.log(f"class {number}: {share:.0%} of the particles, {reached_A:.1f} Å")
        if share < EMPTY_FRAC / len(shares):
            session.warn(
                f"class {number} holds {share:.1%} of the particles: its map means little, ask for fewer --classes"
            )
    return {
        "classes": len(maps),
        "class_frac": [round(float(share), 3) for share in shares],
        "class_resolution_A": [round(reached_A, 1) if math.isfinite(reached_A) else None for reached_A in resolution_A],
    }


def with_classes(particles: ImageSet, result: Hypothesis, used: Array) -> ImageSet:
    """All particles with ``class_number``, from 1, and its posterior; both 0 for particles that were not used."""
    number, weight = np.zeros(len(particles), np.int64), np.zeros(len(particles))
    number[used] = result.classes.class_of + 1
    weight[used] = result.classes.posterior.max(axis=1)
    return particles.with_columns(class_number=number, class_posterior=weight)


def _population(classes: ClassState) -> Array:
    class_of = classes.class_of
    return np.bincount(class_of[class_of >= 0], minlength=classes.posterior.shape[1])
