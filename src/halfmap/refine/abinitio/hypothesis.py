"""One candidate for the first map, or for the maps of several classes, and its way into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halfmap.refine.abinitio.classes import ClassState
from halfmap.refine.rings.expectation import Assignment
from halfmap.typing import Array, FloatArray


@dataclass(frozen=True)
class Hypothesis:
    """One candidate and what led to it: a map, or one map a class.

    Attributes
    ----------
    seed
        Number of its random start.
    symmetry
        Point group that is imposed at present.
    steps_done
        Steps done.
    volumes
        The map of each class, filtered and masked: the references of the next step.
    assignment
        View (index into the directions of the last step, all views of one class after those of another), in-plane
        angle and shift of each particle.
    rot_img_from_map
        Best pose of each particle seen so far, ``[n, 3, 3]``.
    correlation
        Fourier shell correlation of the half-maps of the last step, ``[class, shell]``.
    log_likelihood
        Mean over the particles of the last step.
    classes
        Weights of the classes, and what each particle has of each.
    velocities
        What a step goes beyond its aim by because of earlier steps (``pushed``), class by class.
    """

    seed: int
    symmetry: str
    steps_done: int
    volumes: tuple[Tensor, ...]
    assignment: Assignment
    rot_img_from_map: FloatArray
    correlation: FloatArray
    log_likelihood: float
    classes: ClassState
    velocities: tuple[Tensor, ...] | None = None

    @property
    def volume(self) -> Tensor:
        """The map of the first class, which is all there is without classes."""
        return self.volumes[0]


def arrays_of(hypothesis: Hypothesis, prefix: str) -> dict[str, Array]:
    """A hypothesis as arrays whose names begin with ``prefix``."""
    own = {
        "scalars": np.array([hypothesis.seed, hypothesis.steps_done, hypothesis.log_likelihood]),
        "symmetry": np.array(hypothesis.symmetry),
        "volumes": torch.stack(hypothesis.volumes).cpu().numpy(),
        "rot_img_from_map": hypothesis.rot_img_from_map,
        "correlation": hypothesis.correlation,
    }
    own |= {f"assignment.{name}": values for name, values in vars(hypothesis.assignment).items()}
    own |= {f"classes.{name}": values for name, values in vars(hypothesis.classes).items()}
    if hypothesis.velocities is not None:
        own["velocities"] = torch.stack(hypothesis.velocities).cpu().numpy()
    return {prefix + name: values for name, values in own.items()}


def hypothesis_of(arrays: dict[str, Array], prefix: str, device: torch.device) -> Hypothesis:
    """The hypothesis that :func:`arrays_of` made arrays of."""
    seed, steps_done, log_likelihood = arrays[prefix + "scalars"].tolist()
    velocities = arrays.get(prefix + "velocities")

    def maps(values: Array) -> tuple[Tensor, ...]:
        return tuple(torch.as_tensor(one, device=device) for one in values)

    return Hypothesis(
        int(seed),
        str(arrays[prefix + "symmetry"]),
        int(steps_done),
        maps(arrays[prefix + "volumes"]),
        Assignment(*(arrays[f"{prefix}assignment.{name}"] for name in Assignment.__dataclass_fields__)),
        arrays[prefix + "rot_img_from_map"],
        arrays[prefix + "correlation"],
        log_likelihood,
        ClassState(*(arrays[f"{prefix}classes.{name}"] for name in ClassState.__dataclass_fields__)),
        None if velocities is None else maps(velocities),
    )
