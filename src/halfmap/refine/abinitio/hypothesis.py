"""One candidate for the first map, and its way into checkpoints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from halfmap.refine.rings.expectation import Assignment
from halfmap.typing import Array, FloatArray


@dataclass(frozen=True)
class Hypothesis:
    """One candidate map and what led to it.

    Attributes
    ----------
    seed
        Number of its random start.
    symmetry
        Point group that is imposed at present.
    steps_done
        Steps done.
    volume
        The map, filtered and masked: the reference of the next step.
    assignment
        View (index into the directions of the last step), in-plane angle and shift of each particle.
    rot_img_from_map
        Best pose of each particle seen so far, ``[n, 3, 3]``.
    correlation
        Fourier shell correlation of the half-maps of the last step.
    log_likelihood
        Mean over the particles of the last step.
    velocity
        What a step goes beyond its aim by because of earlier steps (``pushed``).
    """

    seed: int
    symmetry: str
    steps_done: int
    volume: Tensor
    assignment: Assignment
    rot_img_from_map: FloatArray
    correlation: FloatArray
    log_likelihood: float
    velocity: Tensor | None = None


def arrays_of(hypothesis: Hypothesis, prefix: str) -> dict[str, Array]:
    """A hypothesis as arrays whose names begin with ``prefix``."""
    own = {
        "scalars": np.array([hypothesis.seed, hypothesis.steps_done, hypothesis.log_likelihood]),
        "symmetry": np.array(hypothesis.symmetry),
        "volume": hypothesis.volume.cpu().numpy(),
        "rot_img_from_map": hypothesis.rot_img_from_map,
        "correlation": hypothesis.correlation,
    }
    own |= {f"assignment.{name}": values for name, values in vars(hypothesis.assignment).items()}
    if hypothesis.velocity is not None:
        own["velocity"] = hypothesis.velocity.cpu().numpy()
    return {prefix + name: values for name, values in own.items()}


def hypothesis_of(arrays: dict[str, Array], prefix: str, device: torch.device) -> Hypothesis:
    """The hypothesis that :func:`arrays_of` made arrays of."""
    seed, steps_done, log_likelihood = arrays[prefix + "scalars"].tolist()
    velocity = arrays.get(prefix + "velocity")
    return Hypothesis(
        int(seed),
        str(arrays[prefix + "symmetry"]),
        int(steps_done),
        torch.as_tensor(arrays[prefix + "volume"], device=device),
        Assignment(*(arrays[f"{prefix}assignment.{name}"] for name in Assignment.__dataclass_fields__)),
        arrays[prefix + "rot_img_from_map"],
        arrays[prefix + "correlation"],
        log_likelihood,
        None if velocity is None else torch.as_tensor(velocity, device=device),
    )
