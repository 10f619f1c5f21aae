"""Where the particles of a micrograph are, and the static picture that they and the ice make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfmap.fourier.grid import frequencies_2d
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.optics.ctf import ctf_2d
from halfmap.optics.electron import interaction_constant_rad_per_VA, wavelength_A
from halfmap.simulate.background import Background, defocus_planes_A, interpolate_planes
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics, Projector, contrast_images
from halfmap.typing import FloatArray

_BATCH: Final = 32
_FOCAL_STEP_A: Final = 100.0
_THROWS: Final = 1000
_DELOCALISATION_TO_A: Final = 4.0
"""Resolution to which the image of a particle is kept whole; what is spread further wraps around."""


@dataclass(frozen=True, eq=False)
class Particles:
    """Particles of one micrograph; positions (x, y) in px from the first pixel, in the first frame."""

    position_px: Float[np.ndarray, "n 2"]
    euler_rad: Float[np.ndarray, "n 3"]
    class_number: Int[np.ndarray, " n"]
    defocus_offset_A: Float[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.position_px)


@dataclass(frozen=True)
class IcePlane:
    """The plane of the ice: defocus grows by ``slope_x`` and ``slope_y`` Å per Å from the centre of the frame."""

    slope_x: float
    slope_y: float

    def offset_A(self, x_A: FloatArray, y_A: FloatArray) -> FloatArray:
        """Defocus over that at the centre, at positions from the centre."""
        offset: FloatArray = self.slope_x * x_A + self.slope_y * y_A
        return offset


def scattered_positions_px(
    count: int, free: Bool[np.ndarray, "y x"], distance_px: float, generator: np.random.Generator
) -> Float[np.ndarray, "n 2"]:
    """Draw up to ``count`` positions (x, y) on free pixels of a frame, none closer than a distance.

    Darts are thrown until ``count`` are placed or 1000 throws in a row have failed.
    """
    height, width = free.shape
    placed = np.empty((count, 2))
    found = failed = 0
    while found < count and failed < _THROWS:
        dart = generator.uniform(-0.5, [width - 0.5, height - 0.5])
        column = min(max(round(dart[0]), 0), width - 1)
        row = min(max(round(dart[1]), 0), height - 1)
        offset = placed[:found] - dart
        if free[row, column] and (offset[:, 0] ** 2 + offset[:, 1] ** 2 >= distance_px**2).all():
            placed[found] = dart
            found, failed = found + 1, 0
        else:
            failed += 1
    return placed[:found]


def contrast_box_px(diameter_A: float, largest_defocus_A: float, pixel_size_A: float, voltage_kV: float) -> int:
    """Even box that holds a particle with what the CTF spreads around it, D + 2 λ Δf / d at d = 4 Å."""
    resolution_A = max(_DELOCALISATION_TO_A, 2.0 * pixel_size_A)
    spread_A = 2.0 * float(wavelength_A(voltage_kV)) * largest_defocus_A / resolution_A
    return 2 * int(np.ceil((diameter_A + spread_A) / (2.0 * pixel_size_A)))


def particle_field(
    particles: Particles,
    projector: Projector,
    defocus: Defocus,
    optics: Optics,
    *,
    shape: tuple[int, int],
    margin_px: int,
    box_px: int,
) -> Float[np.ndarray, "y x"]:
    """Relative change of intensity ``[y, x]`` by all particles, on the frame with a margin around it.

    Weak phase object: ``−2 σ CTF ⊗ projected potential``, so protein is dark in underfocus.
    """
    field = np.zeros((shape[0] + 2 * margin_px, shape[1] + 2 * margin_px), np.float32)
    sigma = interaction_constant_rad_per_VA(optics.voltage_kV)
    nearest = np.round(particles.position_px).astype(int)
    for start in range(0, len(particles), _BATCH):
        batch = slice(start, start + _BATCH)
        rotations = matrix_from_euler(*torch.from_numpy(particles.euler_rad[batch].T))
        offset = torch.from_numpy(particles.defocus_offset_A[batch])
        images = contrast_images(
            projector.project(rotations, particles.class_number[batch]),
            box_px,
            projector.pixel_size_A,
            defocus_u_A=defocus.u_A + offset,
            defocus_v_A=defocus.v_A + offset,
            defocus_angle_rad=torch.full_like(offset, defocus.angle_rad),
            displacement_A=torch.from_numpy((particles.position_px[batch] - nearest[batch]) * projector.pixel_size_A),
            optics=optics,
        )
        for image, (column, row) in zip(
            -2.0 * sigma * images.numpy(), (nearest[batch] + margin_px).tolist(), strict=True
        ):
            _add(field, image, row - box_px // 2, column - box_px // 2)
    return field


def _add(field: FloatArray, image: FloatArray, top: int, left: int) -> None:
    """Add a square image to a field at its top left corner; what lies outside is lost."""
    n = len(image)
    y0, y1 = max(top, 0), min(top + n, field.shape[0])
    x0, x1 = max(left, 0), min(left + n, field.shape[1])
    if y0 < y1 and x0 < x1:
        field[y0:y1, x0:x1] += image[y0 - top : y1 - top, x0 - left : x1 - left]


def background_field(
    background: Background, plane: IcePlane, defocus: Defocus, optics: Optics, pixel_size_A: float
) -> Float[np.ndarray, "y x"]:
    """Relative intensity ``[y, x]`` (1 = open ice) of the background, its phase seen through the CTF.

    The tilt of the ice is followed by blending focal planes 100 Å apart. Layers of thick ice add their contrast, each
    at its own defocus.
    """
    shape: tuple[int, int] = background.phase_rad.shape
    y, x = np.meshgrid(*((np.arange(n, dtype=np.float32) - n // 2) * pixel_size_A for n in shape), indexing="ij")
    local = plane.offset_A(x, y)
    planes = defocus_planes_A(local, _FOCAL_STEP_A)
    fx, fy = frequencies_2d(shape, pixel_size_A)
    phases_ft = [torch.fft.rfft2(torch.from_numpy(p)) for p in (background.phase_rad, *background.layers_rad)]
    depths_A = (0.0, *background.layer_offset_A.tolist())
    seen = [
        torch.fft.irfft2(
            sum(
                phase_ft * _contrast_transfer(fx, fy, defocus, float(offset) + depth_A, optics)
                for phase_ft, depth_A in zip(phases_ft, depths_A, strict=True)
            ),
            s=shape,
        )
        for offset in planes
    ]
    contrast = interpolate_planes(torch.stack(seen), planes, local)
    field: FloatArray = background.transmission * (1.0 - 2.0 * contrast)
    return field


def _contrast_transfer(fx: Tensor, fy: Tensor, defocus: Defocus, offset_A: float, optics: Optics) -> Tensor:
    return ctf_2d(
        fx,
        fy,
        defocus.u_A + offset_A,
        defocus.v_A + offset_A,
        defocus.angle_rad,
        optics.voltage_kV,
        optics.cs_mm,
        optics.amplitude_contrast,
        optics.phase_shift_rad,
        optics.envelope_A2,
    )
