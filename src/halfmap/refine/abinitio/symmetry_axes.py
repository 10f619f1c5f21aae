"""Where a map without imposed symmetry has the axes of a point group."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from halfmap.fourier.crop import resample_3d
from halfmap.fourier.grid import real_space_radius_px
from halfmap.geometry.rotations import matrix_from_rotation_vector
from halfmap.geometry.so3 import grid
from halfmap.geometry.symmetry import point_group
from halfmap.typing import FloatArray
from halfmap.validation.sampling import trilinear, voxel_places

SEARCH_ORDER = 2
CANDIDATES = 3
OPERATORS_COMPARED = 8
"""Operators by which frames are judged; a larger group is sampled."""
PIXELS_PER_RESOLUTION = 2.5
POINTS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Axes:
    """The frame in which a map is symmetric: it has at ``rot_map_from_axes @ r + shift_A`` what belongs at ``r``.

    Attributes
    ----------
    rot_map_from_axes
        Rotation, ``[3, 3]``.
    shift_A
        Shift (x, y, z).
    agreement
        Power of the symmetrised map over that of the map: 1 if it is symmetric.
    """

    rot_map_from_axes: FloatArray
    shift_A: FloatArray
    agreement: float


def find_axes(volume: Float[Tensor, "n n n"], symmetry: str, pixel_size_A: float, *, resolution_A: float) -> Axes:
    """Search all frames for the one in which the mean over the point group keeps most of the map.

    Parameters
    ----------
    volume
        Map, centred to within some pixels, zero outside the particle.
    symmetry
        Point group.
    pixel_size_A
        Of the map.
    resolution_A
        Features that are compared.
    """
    n = volume.shape[0]
    n_small = min(n, 2 * math.ceil(n * pixel_size_A * PIXELS_PER_RESOLUTION / resolution_A / 2))
    small = resample_3d(volume, n_small) if n_small < n else volume
    small_A = n * pixel_size_A / n_small
    every = point_group(symmetry).to(volume.device)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(0))
    operators = every[order[:OPERATORS_COMPARED].to(every.device)]

    def agreement(rotation: FloatArray, shift_A: FloatArray) -> float:
        copies = _copies(small, rotation, shift_A / small_A, operators)
        # A frame that moves the map out of the box gains nothing: the power is compared with all of it.
        inside = small - small.mean()
        mean = copies.mean(dim=0)
        mean = mean - mean.mean()
        return float(mean.square().sum() / inside.square().sum().clamp_min(1e-30))

    at_rest = np.zeros(3)
    rotations = grid(SEARCH_ORDER, symmetry).matrices().reshape(-1, 3, 3).numpy()
    scores = np.array([agreement(rotation, at_rest) for rotation in rotations])
    radius_A = 0.35 * n * pixel_size_A
    best = Axes(np.eye(3), at_rest, -1.0)
    for start in rotations[np.argsort(-scores, kind="stable")[:CANDIDATES]]:

        def pose(parameters: FloatArray, start: FloatArray = start) -> tuple[FloatArray, FloatArray]:
            turn = matrix_from_rotation_vector(torch.as_tensor(parameters[:3] * small_A / radius_A)).numpy()
            return turn @ start, parameters[3:] * small_A

        result = minimize(
            lambda parameters, pose=pose: -agreement(*pose(parameters)),
            np.zeros(6), method="Powell", options={"xtol": 1e-2, "ftol": 1e-4, "maxfev": 150},
        )  # fmt: skip
        if -result.fun > best.agreement:
            best = Axes(*pose(result.x), float(-result.fun))
    return best


def symmetrised_map(
    volume: Float[Tensor, "n n n"], axes: Axes, symmetry: str, pixel_size_A: float
) -> Float[Tensor, "n n n"]:
    """The mean over the point group, in the frame of its axes."""
    operators = point_group(symmetry).to(volume.device)
    return _copies(volume, axes.rot_map_from_axes, axes.shift_A / pixel_size_A, operators).mean(dim=0)


def _copies(
    volume: Float[Tensor, "n n n"],
    rotation: FloatArray,
    shift_px: FloatArray,
    operators: Float[Tensor, "operators 3 3"],
) -> Float[Tensor, "operators n n n"]:
    """The map sampled at ``rotation @ operator @ r + shift`` for every operator; zero outside the largest sphere."""
    n = volume.shape[0]
    points = voxel_places(n, volume.device)
    turn = torch.as_tensor(rotation, device=volume.device) @ operators
    shift = torch.as_tensor(shift_px, device=volume.device)
    sphere = (real_space_radius_px((n,) * 3, volume.device) < n // 2).to(volume.dtype)
    parts = []
    at_once = max(1, POINTS_AT_ONCE // n**3)
    for start in range(0, len(turn), at_once):
        some = turn[start : start + at_once]
        placed = points @ some.transpose(-1, -2) + shift
        parts.append(trilinear(volume, placed).reshape(-1, n, n, n))
    return torch.cat(parts) * sphere
