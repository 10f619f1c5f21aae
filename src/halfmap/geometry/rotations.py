"""Rotations as matrices, Euler angles and rotation vectors (conventions: ADR-0001)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.typing import Array

RealLike = Tensor | Array | Sequence[Any] | float | int
"""What angles and vectors may be given as; results are float64 tensors on the device of the input."""


def as_float64(value: RealLike) -> Tensor:
    """Return a float64 tensor, on the device of ``value`` if that is a tensor."""
    return torch.as_tensor(value, dtype=torch.float64)


def matrix_from_euler(rot_rad: RealLike, tilt_rad: RealLike, psi_rad: RealLike) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix ``rot_img_from_map`` of ZYZ Euler angles, ``Rz(psi) Ry(tilt) Rz(rot)``.

    Parameters
    ----------
    rot_rad, tilt_rad, psi_rad
        Angles in rad; shapes broadcast.

    Returns
    -------
    float64 matrices; a point ``r`` of the map is seen at ``matrix @ r``.
    The last row is the direction towards the viewer in the frame of the map,
    ``(sin tilt cos rot, sin tilt sin rot, cos tilt)``.
    """
    rot, tilt, psi = as_float64(rot_rad), as_float64(tilt_rad), as_float64(psi_rad)
    zero = torch.zeros_like(rot + tilt + psi)
    cr, sr, ct, st, cp, sp = rot.cos(), rot.sin(), tilt.cos(), tilt.sin(), psi.cos(), psi.sin()
    rows = (
        (cp * ct * cr - sp * sr, cp * ct * sr + sp * cr, -cp * st),
        (-sp * ct * cr - cp * sr, -sp * ct * sr + cp * cr, sp * st),
        (st * cr, st * sr, ct),
    )
    return torch.stack([torch.stack([entry + zero for entry in row], dim=-1) for row in rows], dim=-2)


def euler_from_matrix(rot_img_from_map: RealLike) -> Float[Tensor, "*batch 3"]:
    """ZYZ Euler angles (rot, tilt, psi) in rad; tilt in [0, π], rot = 0 where it is undetermined.

    ``psi`` is read from the matrix after ``rot`` was taken off, so that the three angles together
    give the matrix back to rounding error, near tilt 0 and π as well.
    """
    a = as_float64(rot_img_from_map)
    rot = torch.atan2(a[..., 2, 1], a[..., 2, 0])
    tilt = torch.atan2(torch.hypot(a[..., 2, 0], a[..., 2, 1]), a[..., 2, 2])
    cr, sr = rot.cos(), rot.sin()
    psi = torch.atan2(a[..., 0, 1] * cr - a[..., 0, 0] * sr, a[..., 1, 1] * cr - a[..., 1, 0] * sr)
    return torch.stack((rot, tilt, psi), dim=-1)


def in_plane(psi_rad: RealLike) -> Float[Tensor, "*batch 3 3"]:
    """Rotation ``Rz(psi)`` of the image frame; ``in_plane(psi) @ A(rot, tilt, 0) = A(rot, tilt, psi)``."""
    return matrix_from_euler(0.0, 0.0, psi_rad)


def angular_distance_rad(a: RealLike, b: RealLike) -> Float[Tensor, "*batch"]:
    """Angle of the rotation that takes ``a`` to ``b`` in rad, in [0, π]; leading shapes broadcast.

    Exact to rounding error for small and for large angles: with ``|a − b|² = 8 sin²(θ/2)`` and
    ``1 + tr(aᵀ b) = 4 cos²(θ/2)``.
    """
    first, second = as_float64(a), as_float64(b)
    half_sine = (first - second).square().sum(dim=(-2, -1)).sqrt() / math.sqrt(8.0)
    half_cosine = (1.0 + (first * second).sum(dim=(-2, -1))).clamp(min=0.0).sqrt() / 2.0
    return 2.0 * torch.atan2(half_sine, half_cosine)


def random_rotations(n: int, generator: torch.Generator) -> Float[Tensor, "n 3 3"]:
    """``n`` rotations drawn uniformly from SO(3), from normalised Gaussian quaternions."""
    quaternion = torch.randn(n, 4, generator=generator, dtype=torch.float64, device=generator.device)
    return matrix_from_quaternion(quaternion / quaternion.norm(dim=-1, keepdim=True))


def matrix_from_quaternion(quaternion: RealLike) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of unit quaternions ``(w, x, y, z)``, right-handed about (x, y, z)."""
    w, x, y, z = as_float64(quaternion).unbind(dim=-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def quaternion_from_matrix(rotation: RealLike) -> Float[Tensor, "*batch 4"]:
    """Unit quaternions ``(w, x, y, z)`` with ``w >= 0``, from whichever of four forms is best conditioned."""
    m = as_float64(rotation)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    # Four times the outer product q qᵀ: each row is the quaternion times one of its components.
    rows = (
        (1 + xx + yy + zz, wx, wy, wz),
        (wx, 1 + xx - yy - zz, xy, xz),
        (wy, xy, 1 - xx + yy - zz, yz),
        (wz, xz, yz, 1 - xx - yy + zz),
    )
    outer = torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
    best = outer.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)
    quaternion = torch.take_along_dim(outer, best[..., None, None], dim=-2).squeeze(-2)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_from_rotation_vector(rotation_vector_rad: RealLike) -> Float[Tensor, "*batch 3 3"]:
    """Exponential map: rotate right-handed about the vector by its length in rad (Rodrigues' formula).

    Differentiable everywhere, the zero vector included.
    """
    v = as_float64(rotation_vector_rad)
    angle_squared = v.square().sum(dim=-1, keepdim=True)
    small = angle_squared < 1e-8
    half = torch.where(small, torch.ones_like(angle_squared), angle_squared).sqrt() / 2.0
    # cos(θ/2) and sin(θ/2)/θ; their series are exact to 1e-18 below θ = 1e-4.
    cosine = torch.where(small, 1.0 - angle_squared / 8.0 + angle_squared.square() / 384.0, half.cos())
    sine_over_angle = torch.where(small, 0.5 - angle_squared / 48.0, half.sin() / (2.0 * half))
    return matrix_from_quaternion(torch.cat((cosine, sine_over_angle * v), dim=-1))


def rotation_vector_from_matrix(rotation: RealLike) -> Float[Tensor, "*batch 3"]:
    """Logarithm: axis times angle in rad, the angle in [0, π]."""
    quaternion = quaternion_from_matrix(rotation)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    length = v.norm(dim=-1, keepdim=True)
    small = length < 1e-9
    factor = torch.where(small, 2.0 / w, 2.0 * torch.atan2(length, w) / torch.where(small, 1.0, length))
    return factor * v
