"""Maps taken apart by degree of spherical harmonics, and put together from the degrees of two."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import map_coordinates
from scipy.special import sph_harm_y
from torch import Tensor

from halfmap.typing import Array, FloatArray

RADIAL_STEP_PX = 0.5
SAMPLED = 1.5
"""Polar angles for each degree: more than one, so that degrees beyond the highest do not fold back."""
OVERLAP = 3
"""Samples by which the grid of angles runs on over poles and seam, for the splines."""


class Degrees:
    """The parts of maps of one size, about the centre of their box.

    Parameters
    ----------
    box_px
        Edge of the maps.
    radius_px
        Radius of what is in them.
    resolution_px
        Period of the finest detail in them; with the radius it says how high degrees go.
    """

    def __init__(self, box_px: int, radius_px: float, resolution_px: float) -> None:
        self.count = math.ceil(2 * math.pi * radius_px / resolution_px) + 1
        """Degrees, 0 to the highest."""
        n_tilt = math.ceil(SAMPLED * self.count)
        n_rot = 2 * n_tilt
        cosine, weight = np.polynomial.legendre.leggauss(n_tilt)
        tilt_rad = np.arccos(cosine)[::-1]
        rot_rad = 2 * np.pi * np.arange(n_rot) / n_rot
        degree, order = np.meshgrid(np.arange(self.count), np.arange(self.count), indexing="ij")
        # [degree, order, tilt]; orders beyond the degree are 0
        self._harmonic = np.where(
            (order <= degree)[..., None],
            sph_harm_y(degree[..., None], np.minimum(order, degree)[..., None], tilt_rad, 0.0).real,
            0.0,
        )
        self._analysis = self._harmonic * (2 * np.pi * weight[::-1])
        radius = np.arange(0.0, min(radius_px + 3.0, box_px / 2), RADIAL_STEP_PX)
        direction = np.stack(
            [
                np.broadcast_to(np.cos(tilt_rad)[:, None], (n_tilt, n_rot)),
                np.sin(tilt_rad)[:, None] * np.sin(rot_rad),
                np.sin(tilt_rad)[:, None] * np.cos(rot_rad),
            ]
        )
        self._points_px = direction[:, None] * radius[None, :, None, None] + box_px // 2
        self._voxels, self._inside = _polar_index(box_px, radius[-1], tilt_rad, n_rot)

    def mixed(
        self, first: Float[Tensor, "n n n"], second: Float[Tensor, "n n n"], of_first: Array, of_second: Array
    ) -> Float[Tensor, "n n n"]:
        """Each degree of the first map times one factor, plus that of the second times another.

        What lies beyond the highest degree is the first map's.
        """
        changed = self._sampled(first), self._sampled(second)
        parts = self._weighted(changed[0], of_first - 1.0) + self._weighted(changed[1], of_second)
        grid = _wrapped(parts)
        sum_of_parts = map_coordinates(grid, self._voxels, order=3, mode="nearest") * self._inside
        return first + torch.as_tensor(sum_of_parts, dtype=first.dtype, device=first.device)

    def _sampled(self, volume: Float[Tensor, "n n n"]) -> FloatArray:
        values: FloatArray = map_coordinates(volume.cpu().double().numpy(), self._points_px, order=3, mode="nearest")
        return values

    def _weighted(self, sampled: FloatArray, factors: Array) -> FloatArray:
        """Each degree times its factor, ``[radius, tilt, rot]``."""
        n_rot = sampled.shape[2]
        by_order = np.fft.rfft(sampled, axis=2)[:, :, : self.count]
        coefficients = np.einsum("rto,dot->rdo", by_order, self._analysis) * factors[None, :, None]
        back: FloatArray = np.fft.irfft(np.einsum("rdo,dot->rto", coefficients, self._harmonic), n_rot, axis=2)
        return back


def _polar_index(box_px: int, largest_px: float, tilt_rad: FloatArray, n_rot: int) -> tuple[FloatArray, FloatArray]:
    """Where each voxel lies in the wrapped grid of radius, tilt and rotation, and whether it lies in it at all."""
    axis = np.arange(box_px) - box_px // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(x**2.0 + y**2 + z**2)
    tilt = np.arccos(np.clip(z / np.maximum(radius, 1e-9), -1.0, 1.0))
    rot = np.mod(np.arctan2(y, x), 2 * np.pi)
    over_poles = np.concatenate([-tilt_rad[:OVERLAP][::-1], tilt_rad, 2 * np.pi - tilt_rad[-OVERLAP:][::-1]])
    index = np.stack(
        [
            radius / RADIAL_STEP_PX,
            np.interp(tilt, over_poles, np.arange(len(over_poles))),
            rot * n_rot / (2 * np.pi) + OVERLAP,
        ]
    )
    return index, (radius <= largest_px).astype(np.float64)


def _wrapped(values: FloatArray) -> FloatArray:
    """The grid, continued over both poles and past the seam."""
    half = values.shape[2] // 2
    north = np.roll(values[:, :OVERLAP][:, ::-1], half, axis=2)
    south = np.roll(values[:, -OVERLAP:][:, ::-1], half, axis=2)
    over = np.concatenate([north, values, south], axis=1)
    wrapped: FloatArray = np.concatenate([over[:, :, -OVERLAP:], over, over[:, :, :OVERLAP]], axis=2)
    return wrapped
