"""What is known of a pose before its image is looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.geometry.rotations import matrix_from_rotation_vector, rotation_vector_from_matrix
from halfmap.geometry.sphere import icosahedron_directions
from halfmap.geometry.symmetry import coset_representatives, nearest_equivalent, point_group
from halfmap.refine.search.local import PoseScores
from halfmap.typing import Array


@dataclass(frozen=True, eq=False)
class GivenPoses:
    """Poses that particles come with, and how far from them they may be.

    Attributes
    ----------
    rot_img_from_map, shift_A
        ``[n, 3, 3]`` and ``[n, 2]``, float64.
    sigma_rad
        Standard deviation of a turn about each axis; infinite for any turn.
    sigma_A
        Standard deviation of the shift along x and y.
    exchanges
        Rotations of the map, the identity first, that may have been confused: ``A`` may as well be ``A S``.
    """

    rot_img_from_map: Float[Tensor, "n 3 3"]
    shift_A: Float[Tensor, "n 2"]
    sigma_rad: float
    sigma_A: float
    exchanges: Float[Tensor, "operators 3 3"]

    def of(self, members: Array) -> GivenPoses:
        """Those of some of the particles."""
        return replace(self, rot_img_from_map=self.rot_img_from_map[members], shift_A=self.shift_A[members])

    def starts(self) -> Float[Tensor, "starts 3 3"]:
        """Rotations of the map, the identity first, from which a thorough search starts.

        All exchanges if there are any; else turns by one standard deviation about the twelve axes of an icosahedron.
        """
        if len(self.exchanges) > 1 or not math.isfinite(self.sigma_rad):
            return self.exchanges
        turns = torch.cat((torch.zeros(1, 3, dtype=torch.float64), icosahedron_directions()))
        return matrix_from_rotation_vector(turns * self.sigma_rad)


def exchanges_of(relaxed: str, kept: str) -> Float[Tensor, "operators 3 3"]:
    """Rotations of a group that those of one of its subgroups do not make equal: one of each coset, identity first.

    Raises
    ------
    ValueError
        If the second is not a subgroup of the first.
    """
    group, subgroup = point_group(relaxed), point_group(kept)
    for operator in subgroup:
        if float((group - operator).abs().amax(dim=(1, 2)).min()) > 1e-6:
            raise ValueError(f"{kept} is not a subgroup of {relaxed}")
    # A S and A S' are one pose if S' = S h with h of the subgroup.
    return coset_representatives(group, subgroup)


@dataclass(frozen=True, eq=False)
class PosePrior:
    """Gaussian prior of shifts and, near given rotations, of rotations.

    Attributes
    ----------
    offset_box
        What every image has been shifted by already, less the mean of the prior, in boxes, ``[n, 2]``.
    sigma_box
        Standard deviation of shifts along one axis.
    near
        Rotations that those of the images are near to, up to their exchanges; None for all rotations alike.
    """

    offset_box: Float[Tensor, "n 2"]
    sigma_box: float
    near: GivenPoses | None = None

    def add_to(self, scores: PoseScores, image: Tensor, rot: Tensor, shift_box: Tensor) -> PoseScores:
        """Scores with the prior included; the information of a turn is that of a small one."""
        whole = self.offset_box[image] + shift_box
        precision = 1 / self.sigma_box**2
        gradient, information = scores.gradient.clone(), scores.information.clone()
        gradient[:, 3:] -= whole * precision
        information[:, 3, 3] += precision
        information[:, 4, 4] += precision
        value = scores.log_likelihood - 0.5 * precision * whole.square().sum(-1)
        if self.near is None or not math.isfinite(self.near.sigma_rad):
            return PoseScores(value, gradient, information)
        given = self.near.rot_img_from_map.to(rot)[image]
        mean = nearest_equivalent(given, rot, self.near.exchanges.to(rot))
        turn = rotation_vector_from_matrix(rot @ mean.transpose(-1, -2))
        tightness = 1 / self.near.sigma_rad**2
        gradient[:, :3] -= turn * tightness
        information[:, :3, :3] += tightness * torch.eye(3).to(information)
        return PoseScores(value - 0.5 * tightness * turn.square().sum(-1), gradient, information)
