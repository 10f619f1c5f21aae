"""What a CTF leaves in a power spectrum: rings ``-cos 2γ``, faded where the grid cannot resolve them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from halfmap.optics.ctf import aberration_phase_rad
from halfmap.optics.electron import wavelength_A
from halfmap.typing import FloatArray
from halfmap.units import A_PER_MM


@dataclass(frozen=True)
class Microscope:
    """Constants of the CTF that are known beforehand."""

    voltage_kV: float
    cs_mm: float
    amplitude_contrast: float

    @property
    def wavelength_A(self) -> float:
        """Wavelength of the electrons."""
        return float(wavelength_A(self.voltage_kV))

    def phase_rad(self, frequency_squared: FloatArray, defocus_A: FloatArray | float, shift_rad: float) -> FloatArray:
        """Phase γ whose sine is the CTF."""
        return aberration_phase_rad(
            torch.from_numpy(np.ascontiguousarray(frequency_squared)),
            torch.as_tensor(defocus_A, dtype=torch.float64),
            voltage_kV=self.voltage_kV,
            cs_mm=self.cs_mm,
            amplitude_contrast=self.amplitude_contrast,
            phase_shift_rad=shift_rad,
        ).numpy()

    def lag_A(self, frequency_squared: FloatArray, defocus_A: FloatArray | float) -> FloatArray:
        """Distance in real space that a ring of the power spectrum belongs to: ``|dγ/ds| / π``."""
        wavelength = self.wavelength_A
        spherical = self.cs_mm * A_PER_MM * wavelength**3 * frequency_squared
        return 2.0 * np.sqrt(frequency_squared) * np.abs(wavelength * defocus_A - spherical)


def fading(lag_A: FloatArray, cos_2: FloatArray | float, length_A: float) -> FloatArray:
    """What averaging over cells leaves of rings, ``sinc(lag_x/L) sinc(lag_y/L)``; 0 where they alias.

    Parameters
    ----------
    lag_A
        Distances that the rings belong to.
    cos_2
        Cosine of twice the direction in the spectrum.
    length_A
        L, edge of the box that the cells belong to.
    """
    along_x = np.sqrt(np.clip(0.5 + 0.5 * np.asarray(cos_2), 0.0, 1.0)) * lag_A / length_A
    along_y = np.sqrt(np.clip(0.5 - 0.5 * np.asarray(cos_2), 0.0, 1.0)) * lag_A / length_A
    resolved = np.maximum(along_x, along_y) < 1.0
    return np.where(resolved, np.sinc(along_x) * np.sinc(along_y), 0.0)
