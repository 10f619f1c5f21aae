"""Bring one map onto another: rotation, shift, and hand.

All rotations of a grid are tried at low resolution with all shifts at once (by Fourier transform),
for both hands; the best are refined by their correlation. The last steps take all shells in which the two
agree, by least squares: a correlation of noisy maps is the larger the more its interpolation smooths them, and is
largest somewhat beside the truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Complex, Float
from scipy.ndimage import affine_transform
from scipy.optimize import minimize
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.crop import resample_3d
from halfmap.fourier.fsc import correlation_of_transforms
from halfmap.fourier.grid import real_space_radius_px
from halfmap.fourier.shells import shell_index_3d, spread, whitened
from halfmap.geometry.rotations import matrix_from_rotation_vector
from halfmap.geometry.so3 import grid
from halfmap.typing import FloatArray
from halfmap.validation.sampling import trilinear, voxel_places

COARSE_ORDER = 2
CANDIDATES = 6
BATCH = 64
PIXELS_PER_RESOLUTION = 2.5
FINE_RATIO = 2.5
"""The refinement by correlation ends at this many times finer sampling than the search."""
MAX_STEPS = 4
SETTLED_PX = 0.01
"""A step that moves no voxel of the sphere in the box by more is the last one."""
MOST_AGREEMENT = 0.98
"""Shells of better correlation count as this one: what is left of their difference is not noise."""


@dataclass(frozen=True)
class MapAlignment:
    """How a map lies in the frame of a reference.

    The aligned map has at ``r`` the value that the map has at ``rot_map_from_ref @ r + shift_A``
    (Å from the origin), after the map was mirrored in z if ``mirrored``.

    Attributes
    ----------
    rot_map_from_ref
        Rotation, ``[3, 3]``.
    shift_A
        Shift (x, y, z).
    mirrored
        Whether the other hand fits better.
    correlation, other_correlation
        Of this hand and of the other one, at the resolution of the comparison.
    """

    rot_map_from_ref: FloatArray
    shift_A: FloatArray
    mirrored: bool
    correlation: float
    other_correlation: float


def mirror_map(volume: Float[Tensor, "n n n"]) -> Float[Tensor, "n n n"]:
    """The other hand: z becomes -z about the origin voxel ``n // 2``."""
    mirrored = volume.flip(0)
    return torch.roll(mirrored, 1, dims=0) if volume.shape[0] % 2 == 0 else mirrored


def align_maps(
    volume: Float[Tensor, "n n n"],
    reference: Float[Tensor, "n n n"],
    pixel_size_A: float,
    *,
    resolution_A: float = 30.0,
    symmetry: str = "C1",
    either_hand: bool = True,
) -> MapAlignment:
    """Find the rotation, shift and hand that bring a map onto a reference on the same grid.

    Parameters
    ----------
    volume, reference
        Maps.
    pixel_size_A
        Of both.
    resolution_A
        Resolution of the search; the refinement goes on at finer sampling.
    symmetry
        Point group of the reference: equivalent rotations are searched once.
    either_hand
        Whether the mirrored map is tried as well.
    """
    if volume.shape != reference.shape:
        raise HalfmapError(f"maps to be aligned differ in shape: {tuple(volume.shape)} and {tuple(reference.shape)}")
    hands = (False, True) if either_hand else (False,)
    found = []
    for mirrored in hands:
        own = mirror_map(volume) if mirrored else volume
        coarse = _Comparison(own, reference, pixel_size_A, resolution_A)
        starts = coarse.search(symmetry)
        refined = sorted((coarse.refined(*start) for start in starts), key=lambda result: -result[0])[:2]
        fine = _Comparison(own, reference, pixel_size_A, resolution_A / FINE_RATIO)
        score, rotation, shift_A = max((fine.refined(r, s) for _, r, s in refined), key=lambda result: result[0])
        found.append((score, rotation, shift_A, mirrored))
    found.sort(key=lambda result: -result[0])
    best = found[0]
    other = found[1][0] if len(found) > 1 else math.nan
    return _tuned(volume, reference, MapAlignment(best[1], best[2], best[3], best[0], other), pixel_size_A)


def aligned_map(volume: Float[Tensor, "n n n"], alignment: MapAlignment, pixel_size_A: float) -> Float[Tensor, "n n n"]:
    """The map in the frame of the reference, by quintic splines."""
    own = mirror_map(volume) if alignment.mirrored else volume
    matrix = alignment.rot_map_from_ref[::-1, ::-1]
    centre = np.array([n // 2 for n in own.shape], dtype=np.float64)
    offset = centre + alignment.shift_A[::-1] / pixel_size_A - matrix @ centre
    turned = affine_transform(own.cpu().numpy(), matrix, offset, order=5, mode="constant")
    return torch.as_tensor(turned, dtype=volume.dtype, device=volume.device)


def _tuned(
    volume: Float[Tensor, "n n n"], reference: Float[Tensor, "n n n"], alignment: MapAlignment, pixel_size_A: float
) -> MapAlignment:
    """Gauss-Newton steps to the pose that leaves least of the map unexplained by the reference, in all shells."""
    n = reference.shape[0]
    shell = shell_index_3d(n, reference.device)
    reference_ft = whitened(torch.fft.rfftn(reference), shell)
    for _ in range(MAX_STEPS):
        map_ft = whitened(torch.fft.rfftn(aligned_map(volume, alignment, pixel_size_A)), shell)
        agreement = correlation_of_transforms(map_ft, reference_ft).clamp(0.0, MOST_AGREEMENT)
        # The whitened map is the reference times the agreement, and noise with the rest of its power.
        precision = torch.where(agreement > 0, 1 / (1 - agreement.square()).sqrt(), 0.0)
        own = torch.fft.irfftn(map_ft * spread(precision.float(), shell), s=(n, n, n))
        expected_ft = reference_ft * spread((agreement * precision).float(), shell)
        turn_rad, shift_px = _step(own, expected_ft)
        # What the map shows moved lies there because the map was looked at too little turned and shifted.
        rotation = alignment.rot_map_from_ref @ matrix_from_rotation_vector(-turn_rad).numpy()
        shift_A = alignment.shift_A - rotation @ shift_px.numpy() * pixel_size_A
        alignment = replace(alignment, rot_map_from_ref=rotation, shift_A=shift_A)
        if float(turn_rad.norm()) * n / 2 + float(shift_px.norm()) < SETTLED_PX:
            break
    return alignment


def _step(
    own: Float[Tensor, "n n n"], expected_ft: Complex[Tensor, "n n k"]
) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Turn (a rotation vector) and shift (px), both small, that bring an expected map nearest to one, float64.

    Least squares on ``own(r) = expected(r) + turn · (r × ∇) expected + shift · ∇ expected``.
    """
    n = own.shape[0]
    half, whole = torch.fft.rfftfreq(n, device=own.device), torch.fft.fftfreq(n, device=own.device)
    along_x, along_y, along_z = (
        torch.fft.irfftn(expected_ft * (2j * math.pi * along), s=(n, n, n))
        for along in (half[None, None, :], whole[None, :, None], whole[:, None, None])
    )
    axis = torch.arange(n, dtype=own.dtype, device=own.device) - n // 2
    x, y, z = axis[None, None, :], axis[None, :, None], axis[:, None, None]
    turned = (y * along_z - z * along_y, z * along_x - x * along_z, x * along_y - y * along_x)
    terms = torch.stack([*turned, along_x, along_y, along_z]).flatten(1)
    rest = own - torch.fft.irfftn(expected_ft, s=(n, n, n))
    normal, right = (terms @ terms.T).double(), (terms @ rest.flatten()).double()
    scale = torch.diagonal(normal).clamp_min(1e-30).sqrt()
    # Nothing tells a turn of a ball: what the equations do not know stays as it is.
    solved = torch.linalg.pinv(normal / scale[:, None] / scale, rcond=1e-4, hermitian=True) @ (right / scale) / scale
    found: Tensor = solved.cpu()
    return found[:3], found[3:]


class _Comparison:
    """Two maps sampled for one resolution, compared within a sphere."""

    def __init__(
        self,
        volume: Float[Tensor, "n n n"],
        reference: Float[Tensor, "n n n"],
        pixel_size_A: float,
        resolution_A: float,
    ) -> None:
        n = volume.shape[0]
        wanted = n * pixel_size_A / (resolution_A / PIXELS_PER_RESOLUTION)
        self.n = min(n, 2 * math.ceil(wanted / 2))
        self.pixel_size_A = n * pixel_size_A / self.n
        sphere = (real_space_radius_px((self.n,) * 3) <= 0.48 * self.n).to(volume)
        self._volume, self._reference = (self._prepared(v, sphere) for v in (volume, reference))
        self._norm = float(self._reference.norm())
        self._points = voxel_places(self.n, volume.device)

    def _prepared(self, volume: Tensor, sphere: Tensor) -> Tensor:
        small = resample_3d(volume, self.n) if volume.shape[0] != self.n else volume
        masked = small * sphere
        return masked - sphere * (masked.sum() / sphere.sum())

    def _turned(self, rotations: Tensor, shifts_px: Tensor) -> Float[Tensor, "b n n n"]:
        """The volume sampled at ``rotation @ r + shift``."""
        points = self._points @ rotations.transpose(-1, -2) + shifts_px[:, None, :]
        return trilinear(self._volume, points).reshape(-1, self.n, self.n, self.n)

    def search(self, symmetry: str) -> list[tuple[FloatArray, FloatArray]]:
        """Best rotations of the grid with their best shifts, in Å."""
        rotations = grid(COARSE_ORDER, symmetry).matrices().reshape(-1, 3, 3).to(self._points.device)
        reference_ft = torch.fft.rfftn(self._reference)
        scores, places = [], []
        for start in range(0, len(rotations), BATCH):
            part = rotations[start : start + BATCH]
            turned = self._turned(part, part.new_zeros(len(part), 3))
            product = torch.fft.rfftn(turned, dim=(1, 2, 3)) * reference_ft.conj()
            correlation = torch.fft.irfftn(product, s=(self.n,) * 3, dim=(1, 2, 3)).flatten(1)
            best, place = correlation.max(dim=1)
            scores.append(best / turned.flatten(1).norm(dim=1).clamp_min(1e-30))
            places.append(place)
        score, place = torch.cat(scores), torch.cat(places)
        chosen = torch.argsort(-score, stable=True)[:CANDIDATES].tolist()
        result = []
        for index in chosen:
            peak = np.array(np.unravel_index(int(place[index]), (self.n,) * 3))[::-1]
            wrapped = (peak + self.n // 2) % self.n - self.n // 2
            # The turned map is displaced by the peak in the reference's frame.
            rotation = rotations[index].cpu().numpy()
            result.append((rotation, rotation @ wrapped * self.pixel_size_A))
        return result

    def correlation(self, rotation: FloatArray, shift_A: FloatArray) -> float:
        """Correlation with the reference at one pose."""
        turned = self._turned(
            torch.as_tensor(rotation, device=self._points.device)[None],
            torch.as_tensor(shift_A / self.pixel_size_A, device=self._points.device)[None],
        )[0]
        return float((turned * self._reference).sum() / (turned.norm() * self._norm).clamp_min(1e-30))

    def refined(self, rotation: FloatArray, shift_A: FloatArray) -> tuple[float, FloatArray, FloatArray]:
        """Climb to the nearest maximum of the correlation."""
        radius_A = 0.35 * self.n * self.pixel_size_A

        def pose(parameters: FloatArray) -> tuple[FloatArray, FloatArray]:
            turn = matrix_from_rotation_vector(torch.as_tensor(parameters[:3] * self.pixel_size_A / radius_A)).numpy()
            return turn @ rotation, shift_A + parameters[3:] * self.pixel_size_A

        result = minimize(
            lambda parameters: -self.correlation(*pose(parameters)),
            np.zeros(6),
            method="Powell",
            options={"xtol": 1e-2, "ftol": 1e-5, "maxfev": 500},
        )
        return (-float(result.fun), *pose(result.x))
