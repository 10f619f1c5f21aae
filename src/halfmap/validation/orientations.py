"""How evenly a set of views samples Fourier space.

Sampling compensation factor SCF* of Baldwin & Lyumkis (2020, Prog. Biophys. Mol. Biol. 150, 160; 2021, 160, 53).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.geometry.sphere import fibonacci_directions
from halfmap.geometry.symmetry import point_group
from halfmap.typing import FloatArray

_SHELL_RADIUS_PX = 50.0
"""Fourier radius at which the sampling is looked at: a slice covers directions within 1/100 rad of its plane."""
_MAX_VIEWS = 20_000
_N_DIRECTIONS = 3000
_CHUNK = 2000
SIDE_VIEWS_SCF = 8.0 / math.pi**2
"""SCF of an even distribution of side views, the worst that leaves no gap: 0.81."""


@dataclass(frozen=True, eq=False)
class OrientationCover:
    """Sampling of Fourier space by views.

    Attributes
    ----------
    directions
        Unit vectors (x, y, z) on one hemisphere, ``[directions, 3]``.
    sampling
        Slices that pass through each direction, relative to the mean.
    scf_star
        1 for even sampling, 0.81 for side views only, towards 0 for gaps.
    unsampled_frac
        Share of the directions that no slice passes through.
    """

    directions: FloatArray
    sampling: FloatArray
    scf_star: float
    unsampled_frac: float


def orientation_cover(rot_img_from_map: Float[Tensor, "n 3 3"], symmetry: str = "C1") -> OrientationCover:
    """Sampling compensation factor of a set of poses under a point group.

    ``SCF = 1 / (⟨S⟩ ⟨1/S⟩)`` over the sampled directions, and ``1/SCF* = 1/SCF + ⟨S⟩/2 · f/(1−f)`` with the
    fraction ``f`` of directions without a slice. At most 20,000 views (evenly picked, symmetry copies
    included) are looked at.
    """
    operators = point_group(symmetry)
    step = max(1, math.ceil(len(rot_img_from_map) * len(operators) / _MAX_VIEWS))
    views = rot_img_from_map[::step, 2].double().cpu()
    views = (operators.mT @ views[:, None, :, None]).reshape(-1, 3).float()
    directions = fibonacci_directions(2 * _N_DIRECTIONS)[:_N_DIRECTIONS]
    sampling = torch.zeros(_N_DIRECTIONS, dtype=torch.float64)
    for start in range(0, len(views), _CHUNK):
        near = (directions.float() @ views[start : start + _CHUNK].T).abs() * _SHELL_RADIUS_PX < 0.5
        sampling += near.sum(dim=1)
    mean = float(sampling.mean())
    sampled = sampling[sampling > 0]
    if not len(sampled):
        return OrientationCover(directions.numpy(), sampling.numpy(), 0.0, 1.0)
    unsampled = 1.0 - len(sampled) / len(sampling)
    inverse = mean * float((1.0 / sampled).mean()) + 0.5 * mean * unsampled / (1.0 - unsampled)
    return OrientationCover(directions.numpy(), (sampling / mean).numpy(), 1.0 / inverse, unsampled)
