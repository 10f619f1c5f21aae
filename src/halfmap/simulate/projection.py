"""From a map and poses to images as the microscope forms them, without noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.grid import frequencies_2d
from halfmap.fourier.pixels import pixel_list
from halfmap.fourier.transform import centred_irfft2, centred_rfft2
from halfmap.optics.ctf import ctf_2d
from halfmap.simulate.slicing import central_slices, oversampled_transform


class Optics(NamedTuple):
    """What the CTFs of all particles of one optics group share."""

    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float
    phase_shift_rad: float = 0.0
    envelope_A2: float = 0.0


class Projector:
    """Projects the conformations of a model, all on one grid.

    ``volumes`` have equal shape and pixel size; their oversampled Fourier transforms are kept.
    """

    def __init__(self, volumes: Sequence[Volume]) -> None:
        first = volumes[0]
        for volume in volumes:
            if volume.data.shape != first.data.shape or volume.pixel_size_A != first.pixel_size_A:
                raise HalfmapError("the conformations of a model must be given on one grid")
        self.pixel_size_A = first.pixel_size_A
        self.box_px = first.data.shape[0]
        self._pixels = pixel_list(self.box_px, self.box_px / 2)
        self._transforms = [oversampled_transform(torch.from_numpy(volume.data)) for volume in volumes]

    def project(
        self, rot_img_from_map: Float[Tensor, "n 3 3"], class_number: Int[np.ndarray, " n"]
    ) -> Float[Tensor, "n y x"]:
        """Line integrals along the beam, in the unit of the map times Å; classes count from 1."""
        images = torch.zeros(len(rot_img_from_map), self.box_px, self.box_px)
        for number in np.unique(class_number):
            chosen = torch.from_numpy(np.flatnonzero(class_number == number))
            slices = central_slices(self._transforms[int(number) - 1], rot_img_from_map[chosen], self._pixels)
            images[chosen] = centred_irfft2(slices, self.box_px) * self.pixel_size_A
        return images


def contrast_images(
    projections: Float[Tensor, "n y x"],
    box_px: int,
    pixel_size_A: float,
    *,
    defocus_u_A: Float[Tensor, " n"],
    defocus_v_A: Float[Tensor, " n"],
    defocus_angle_rad: Float[Tensor, " n"],
    displacement_A: Float[Tensor, "n 2"],
    optics: Optics,
) -> Float[Tensor, "n box box"]:
    """Pad projections to a larger box, apply the CTF, and move them by a displacement (x, y).

    ``image(k) = CTF(k) · projection(k) · exp(−2πi k · displacement)``: the displacement is minus the shift of
    ADR-0001. The box must leave room for what the CTF spreads around the particle.
    """
    n_in = projections.shape[-1]
    if box_px < n_in:
        raise HalfmapError(f"a box of {box_px} px cannot hold projections of {n_in} px")
    before = box_px // 2 - n_in // 2
    after = box_px - n_in - before
    padded = torch.nn.functional.pad(projections, (before, after, before, after))
    fx, fy = frequencies_2d((box_px, box_px), pixel_size_A)
    ctf = ctf_2d(
        fx,
        fy,
        defocus_u_A,
        defocus_v_A,
        defocus_angle_rad,
        optics.voltage_kV,
        optics.cs_mm,
        optics.amplitude_contrast,
        optics.phase_shift_rad,
        optics.envelope_A2,
    )
    turns = displacement_A[:, 0, None, None].float() * fx + displacement_A[:, 1, None, None].float() * fy
    ramp = torch.polar(ctf, -2.0 * torch.pi * turns)
    return centred_irfft2(centred_rfft2(padded) * ramp, box_px)
