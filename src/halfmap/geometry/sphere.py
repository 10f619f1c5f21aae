"""Directions on the sphere: HEALPix pixel centres (Górski et al. 2005, ApJ 622, 759) and Fibonacci points."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.errors import HalfmapError

MAX_ORDER = 12
GOLDEN_RATIO = (1.0 + math.sqrt(5.0)) / 2.0


def healpix_angles(order: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Angles (rot_rad, tilt_rad) of the ``12 · 4^order`` HEALPix pixel centres in nested order.

    ``rot`` is the azimuth and ``tilt`` the polar angle, so that they are the Euler angles of views.

    Raises
    ------
    HalfmapError
        If the order is negative or above 12.
    """
    if not 0 <= order <= MAX_ORDER:
        raise HalfmapError(f"HEALPix order {order} is outside 0 to {MAX_ORDER}")
    n_side = 2**order
    pixel = torch.arange(12 * n_side**2)
    face = pixel // n_side**2
    ix, iy = torch.zeros_like(pixel), torch.zeros_like(pixel)
    for bit in range(order):
        ix |= ((pixel >> (2 * bit)) & 1) << bit
        iy |= ((pixel >> (2 * bit + 1)) & 1) << bit
    ring = (face // 4 + 2) * n_side - ix - iy - 1
    in_ring = torch.where(ring < n_side, ring, torch.where(ring > 3 * n_side, 4 * n_side - ring, n_side))
    cap = in_ring.double() ** 2 / (3.0 * n_side**2)
    belt = (2 * n_side - ring).double() * (2.0 / (3.0 * n_side))
    z = torch.where(ring < n_side, 1.0 - cap, torch.where(ring > 3 * n_side, cap - 1.0, belt))
    column = (2 * (face % 4) + torch.where((face // 4) == 1, 0, 1)) * in_ring + ix - iy
    rot = torch.remainder(column.double() * (math.pi / 4.0) / in_ring, 2.0 * math.pi)
    return rot, torch.acos(z)


def healpix_directions(order: int) -> Float[Tensor, "n 3"]:
    """Unit vectors (x, y, z) of the HEALPix pixel centres in nested order."""
    return direction_from_angles(*healpix_angles(order))


def direction_from_angles(rot_rad: Float[Tensor, "*n"], tilt_rad: Float[Tensor, "*n"]) -> Float[Tensor, "*n 3"]:
    """Unit vector towards the viewer of Euler angles rot and tilt: the last row of their matrix."""
    return torch.stack((tilt_rad.sin() * rot_rad.cos(), tilt_rad.sin() * rot_rad.sin(), tilt_rad.cos()), dim=-1)


def angles_from_direction(direction: Float[Tensor, "*n 3"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Euler angles (rot_rad, tilt_rad) of views from a direction."""
    x, y, z = direction.unbind(dim=-1)
    return torch.atan2(y, x), torch.atan2(torch.hypot(x, y), z)


def healpix_spacing_rad(order: int) -> float:
    """Square root of the area of a pixel: the typical distance of neighbours.

    >>> round(healpix_spacing_rad(2) * 180 / math.pi, 2)
    14.66
    """
    return math.sqrt(4.0 * math.pi / (12 * 4**order))


def fibonacci_directions(n: int) -> Float[Tensor, "n 3"]:
    """``n`` nearly evenly spread unit vectors (Fibonacci lattice; González 2010, Math. Geosci. 42, 49)."""
    index = torch.arange(n, dtype=torch.float64)
    z = 1.0 - (2.0 * index + 1.0) / n
    return direction_from_angles(index * (math.pi * (3.0 - math.sqrt(5.0))), torch.acos(z))


def icosahedron_directions() -> Float[Tensor, "12 3"]:
    """Unit vectors to the twelve vertices of an icosahedron with two-fold axes on x, y and z."""
    vertices = [
        vertex
        for a in (-1.0, 1.0)
        for b in (-GOLDEN_RATIO, GOLDEN_RATIO)
        for vertex in ((0.0, a, b), (a, b, 0.0), (b, 0.0, a))
    ]
    return torch.tensor(vertices, dtype=torch.float64) / math.hypot(1, GOLDEN_RATIO)
