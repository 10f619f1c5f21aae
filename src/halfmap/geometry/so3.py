"""Grids of rotations: global ones over the asymmetric unit, local ones around given poses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler, matrix_from_rotation_vector, random_rotations
from halfmap.geometry.sphere import angles_from_direction, healpix_directions, healpix_spacing_rad
from halfmap.geometry.symmetry import asymmetric_unit_index, point_group


@dataclass(frozen=True, eq=False)
class RotationGrid:
    """Views times in-plane angles: every orientation is ``A(rot_rad[d], tilt_rad[d], psi_rad[p])``.

    Attributes
    ----------
    rot_rad, tilt_rad
        Views in the asymmetric unit of the point group, ``[n_directions]``.
    psi_rad
        In-plane angles at even steps over a full turn, ``[n_psi]``.
    weight
        Share of all views that each direction stands for (HEALPix pixels have equal areas); sums to 1.
    spacing_rad
        Typical distance of neighbours.
    """

    rot_rad: Float[Tensor, " directions"]
    tilt_rad: Float[Tensor, " directions"]
    psi_rad: Float[Tensor, " angles"]
    weight: Float[Tensor, " directions"]
    spacing_rad: float

    def __len__(self) -> int:
        return len(self.rot_rad) * len(self.psi_rad)

    def directions(self) -> Float[Tensor, "directions 3 3"]:
        """Matrices ``rot_img_from_map`` of the views at ``psi = 0``."""
        return matrix_from_euler(self.rot_rad, self.tilt_rad, 0.0)

    def matrices(self) -> Float[Tensor, "directions angles 3 3"]:
        """Matrices ``rot_img_from_map`` of all orientations of the grid."""
        return matrix_from_euler(self.rot_rad[:, None], self.tilt_rad[:, None], self.psi_rad)


def psi_count(order: int) -> int:
    """In-plane angles whose step (60° / 2^order) matches the distance of HEALPix directions.

    >>> psi_count(2)
    24
    """
    return 6 << order


def grid(order: int, symmetry: str = "C1", *, seed: int | None = None) -> RotationGrid:
    """Grid over all orientations that differ under a point group.

    Parameters
    ----------
    order
        HEALPix order: the spacing is 58.6° / 2^order.
    symmetry
        Name of the point group; each orbit of views is met exactly once.
    seed
        If given, the whole grid is turned at random (a uniform rotation of the views and an offset of psi
        within one step), so that grids of different iterations do not share their systematic error.

    Raises
    ------
    HalfmapError
        For an unknown point group or an order outside 0 to 12.
    """
    direction = healpix_directions(order)
    psi = torch.arange(psi_count(order), dtype=torch.float64) * (2.0 * math.pi / psi_count(order))
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        direction = direction @ random_rotations(1, generator)[0].T
        psi = psi + torch.rand(1, generator=generator, dtype=torch.float64) * (psi[1] - psi[0])
    operators = point_group(symmetry)
    rot, tilt = angles_from_direction(direction[asymmetric_unit_index(direction, operators) == 0])
    weight = torch.full_like(rot, 1.0 / max(len(rot), 1))
    if not len(rot):
        raise HalfmapError(
            f"HEALPix order {order} is too coarse for the asymmetric unit of {symmetry}", remedy="Use a higher order."
        )
    return RotationGrid(rot, tilt, psi, weight, healpix_spacing_rad(order))


def local_rotations(radius_rad: float, step_rad: float) -> Float[Tensor, "n 3 3"]:
    """Small rotations within ``radius_rad`` of the identity, the identity first, then by growing angle.

    Their rotation vectors lie on a body-centred cubic lattice, the best covering of space, whose
    points are as dense as those of a simple cubic lattice of step ``step_rad``.
    """
    if not (step_rad > 0.0 and radius_rad >= 0.0):
        raise HalfmapError(f"a local grid needs a positive step and radius, found {step_rad} and {radius_rad} rad")
    edge = step_rad * 2.0 ** (1.0 / 3.0)
    reach = math.ceil(radius_rad / edge) + 1
    axis = torch.arange(-reach, reach + 1, dtype=torch.float64) * edge
    corners = torch.cartesian_prod(axis, axis, axis)
    points = torch.cat((corners, corners + edge / 2.0))
    length = points.norm(dim=-1)
    points, length = points[length <= radius_rad * (1 + 1e-9)], length[length <= radius_rad * (1 + 1e-9)]
    return matrix_from_rotation_vector(points[length.argsort(stable=True)])


def local_grid(
    rot_img_from_map: Float[Tensor, "*batch 3 3"], radius_rad: float, step_rad: float
) -> Float[Tensor, "*batch n 3 3"]:
    """Poses within ``radius_rad`` of each given one, the given one first: small rotations of the image frame."""
    return local_rotations(radius_rad, step_rad).to(rot_img_from_map) @ rot_img_from_map.unsqueeze(-3)
