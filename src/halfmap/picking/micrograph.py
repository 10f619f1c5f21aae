"""One micrograph as picking sees it: its file, pixel size and CTF."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet
from halfmap.fourier.grid import frequencies_2d
from halfmap.optics.ctf import ctf_2d


@dataclass(frozen=True)
class Defocus:
    """The CTF parameters of one micrograph."""

    defocus_u_A: float
    defocus_v_A: float
    defocus_angle_rad: float
    phase_shift_rad: float
    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float

    def image(self, n: int, pixel_size_A: float, device: torch.device | str) -> Float[Tensor, "n half"]:
        """The CTF on the half layout of square images."""
        fx, fy = frequencies_2d((n, n), pixel_size_A, device)
        return ctf_2d(
            fx, fy, self.defocus_u_A, self.defocus_v_A, self.defocus_angle_rad,
            self.voltage_kV, self.cs_mm, self.amplitude_contrast, self.phase_shift_rad,
        )  # fmt: skip


@dataclass(frozen=True)
class Micrograph:
    """A micrograph to pick in; ``defocus`` is None where no CTF was fitted."""

    name: str
    pixel_size_A: float
    defocus: Defocus | None


def micrographs_of(images: ImageSet) -> list[Micrograph]:
    """The micrographs of a set, in its order."""
    fitted = all(column in images for column in ("defocus_u_A", "defocus_v_A", "defocus_angle_rad"))
    phase = images.rows.get("phase_shift_rad", 0.0)
    return [
        Micrograph(
            name=str(images["micrograph_name"][row]),
            pixel_size_A=float(images.pixel_size_A()[row]),
            defocus=_defocus(images, row, float(phase[row])) if fitted else None,
        )
        for row in range(len(images))
    ]


def _defocus(images: ImageSet, row: int, phase_shift_rad: float) -> Defocus:
    names = ("defocus_u_A", "defocus_v_A", "defocus_angle_rad")
    optics = ("voltage_kV", "cs_mm", "amplitude_contrast")
    values = {name: float(images[name][row]) for name in names + optics}
    return Defocus(phase_shift_rad=phase_shift_rad, **values)
