"""Point groups in RELION's settings of the axes.

A symmetry operator ``S`` acts on points of the map and leaves the map unchanged, therefore the poses
``A`` and ``A S`` show the same image.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import RealLike, angular_distance_rad, as_float64, matrix_from_rotation_vector
from halfmap.geometry.sphere import GOLDEN_RATIO

VALID_NAMES = "C<n> and D<n> (C1, C2, D7, ...), T, O, I (the same as I2), I1, I2, I3, I4"

Generator = tuple[int, tuple[float, float, float]]
"""Order of a rotation, and its axis."""
# Order and axis of rotations that generate the group.
_POLYHEDRAL: dict[str, tuple[Generator, Generator]] = {
    "T": ((3, (0.0, 0.0, 1.0)), (2, (0.0, math.sqrt(2.0), 1.0))),
    "O": ((4, (0.0, 0.0, 1.0)), (3, (1.0, 1.0, 1.0))),
    "I1": ((2, (1.0, 0.0, 0.0)), (5, (GOLDEN_RATIO, 0.0, -1.0))),
    "I2": ((2, (0.0, 0.0, 1.0)), (5, (1.0, 0.0, GOLDEN_RATIO))),
    "I3": ((5, (0.0, 0.0, 1.0)), (2, (-1.0, 0.0, GOLDEN_RATIO))),
    "I4": ((5, (0.0, 0.0, 1.0)), (2, (1.0, 0.0, GOLDEN_RATIO))),
}
_MAX_ORDER = 1000
_X, _Z = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
_GENERAL_POINT = (0.3319, 0.1027, 0.9377)


def canonical_name(name: str) -> str:
    """Return the name of a point group as it is written in records.

    >>> canonical_name(" c4 "), canonical_name("I")
    ('C4', 'I2')

    Raises
    ------
    HalfmapError
        If the name is not one of a point group; the message lists the valid ones.
    """
    upper = name.strip().upper()
    upper = {"I": "I2"}.get(upper, upper)
    cyclic = re.fullmatch(r"[CD]([1-9]\d{0,3})", upper)
    if upper in _POLYHEDRAL or (cyclic and int(cyclic[1]) <= _MAX_ORDER):
        return upper
    raise HalfmapError(
        f"there is no point group {name!r}", remedy=f"Valid names are {VALID_NAMES}.", code="bad-symmetry"
    )


def point_group(name: str) -> Float[Tensor, "operators 3 3"]:
    """All rotations of a point group, the identity first (float64, orthonormal to 1e-12).

    ``Cn`` turns about z; ``Dn`` has a two-fold axis on x besides; ``T`` has a three-fold axis on z;
    ``O`` four-fold axes on x, y and z; ``I1`` to ``I4`` are RELION's settings (``I`` is ``I2``:
    two-fold axes on x, y and z).

    Raises
    ------
    HalfmapError
        If the name is not one of a point group; the message lists the valid ones.
    """
    return _operators(canonical_name(name)).clone()


def generators(name: str) -> tuple[Generator, ...]:
    """Order and axis of rotations whose products are the whole point group (none for C1).

    Raises
    ------
    HalfmapError
        If the name is not one of a point group; the message lists the valid ones.
    """
    canonical = canonical_name(name)
    if canonical in _POLYHEDRAL:
        return _POLYHEDRAL[canonical]
    main = (int(canonical[1:]), _Z)
    found = (main,) if canonical[0] == "C" else (main, (2, _X))
    return tuple(generator for generator in found if generator[0] > 1)


def turn_about(axis: RealLike, angle_rad: float) -> Float[Tensor, "*batch 3 3"]:
    """Rotations by one angle about axes ``[..., 3]`` of any length."""
    direction = as_float64(axis)
    return matrix_from_rotation_vector(direction / direction.norm(dim=-1, keepdim=True) * angle_rad)


@lru_cache(maxsize=32)
def _operators(name: str) -> Tensor:
    if name[0] in "CD":
        n = int(name[1:])
        turns = torch.stack([turn_about(_Z, 2.0 * math.pi * step / n) for step in range(n)])
        return turns if name[0] == "C" else torch.cat((turns, turns @ turn_about(_X, math.pi)))
    turns = torch.stack([turn_about(axis, 2.0 * math.pi / order) for order, axis in generators(name)])
    found = [torch.eye(3, dtype=torch.float64)]
    for operator in found:  # grows while it is walked through
        for turn in turns:
            product = turn @ operator
            if all((product - known).abs().max() > 1e-6 for known in found):
                found.append(product)
    return torch.stack(found)


def symmetrise_poses(
    rot_img_from_map: Float[Tensor, "*batch 3 3"], operators: Float[Tensor, "operators 3 3"]
) -> Float[Tensor, "*batch operators 3 3"]:
    """All poses that show the same image as each given one, the given one first."""
    return rot_img_from_map.unsqueeze(-3) @ operators.to(rot_img_from_map)


def coset_representatives(
    group: Float[Tensor, "operators 3 3"], subgroup: Float[Tensor, "members 3 3"]
) -> Float[Tensor, "representatives 3 3"]:
    """One ``r`` of each coset ``{r h}`` of a subgroup, the first in the order of the group."""
    representatives: list[Tensor] = []
    for operator in group:
        cosets = (float((other @ subgroup - operator).abs().amax(dim=(1, 2)).min()) for other in representatives)
        if not any(difference < 1e-6 for difference in cosets):
            representatives.append(operator)
    return torch.stack(representatives)


def nearest_equivalent(
    rot_img_from_map: Float[Tensor, "*batch 3 3"],
    towards: Float[Tensor, "*batch 3 3"],
    operators: Float[Tensor, "operators 3 3"],
) -> Float[Tensor, "*batch 3 3"]:
    """Of the poses equivalent to each given one, the one nearest to ``towards``."""
    equivalents = symmetrise_poses(rot_img_from_map, operators)
    best = angular_distance_rad(equivalents, towards.unsqueeze(-3)).argmin(dim=-1)
    return torch.take_along_dim(equivalents, best[..., None, None, None], dim=-3).squeeze(-3)


def asymmetric_unit_index(
    directions: Float[Tensor, "n 3"], operators: Float[Tensor, "operators 3 3"]
) -> Int[Tensor, " n"]:
    """For each direction ``d``, the operator ``S`` with which ``Sᵀ d`` lies in the asymmetric unit.

    The asymmetric unit is the set of directions that are nearer to one fixed point in general position
    than to all of its copies: every orbit meets it exactly once. A direction with index 0 (the
    identity) lies in it.
    """
    general = directions.new_tensor(_GENERAL_POINT)
    copies = operators.to(directions) @ general
    return torch.argmax(directions @ copies.T, dim=-1)
