"""Spectra of known CTF: expected power times the noise of a periodogram."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import Spectrum

TITAN = Microscope(voltage_kV=300.0, cs_mm=2.7, amplitude_contrast=0.1)


@pytest.fixture(scope="session")
def titan() -> Microscope:
    return TITAN


@pytest.fixture(scope="session")
def make_spectrum() -> Callable[..., Spectrum]:
    """Build a spectrum; ``strength`` is the height of rings over the noise at zero frequency."""

    def make(
        u_A, v_A, angle_deg, *, strength=1.0, bfactor_A2=60.0, averages=9.0, pixel_size_A=1.4, microscope=TITAN,
        phase_shift_rad=0.0, seed=0, ice=0.0, thickness_A=0.0,
    ) -> Spectrum:  # fmt: skip
        box = 512
        fx, fy = np.fft.rfftfreq(box, pixel_size_A)[None], np.fft.fftfreq(box, pixel_size_A)[:, None]
        s2 = fx**2 + fy**2
        angle = np.arctan2(fy, fx) - np.radians(angle_deg)
        defocus = (u_A + v_A) / 2 + (u_A - v_A) / 2 * np.cos(2 * angle)
        wavelength = microscope.wavelength_A
        gamma = np.pi * wavelength * defocus * s2 - np.pi / 2 * microscope.cs_mm * 1e7 * wavelength**3 * s2**2
        gamma = gamma + phase_shift_rad + np.arcsin(microscope.amplitude_contrast)
        rings = 0.5 - 0.5 * np.sinc(wavelength * thickness_A * s2) * np.cos(2 * gamma)
        background = 1.0 + 4.0 * np.exp(-s2 / 0.002)
        expected = background + strength * rings * np.exp(-bfactor_A2 * s2 / 2)
        expected = expected + ice * np.exp(-0.5 * ((np.sqrt(s2) - 1 / 3.67) / 0.002) ** 2)
        noise = np.random.default_rng(seed).gamma(averages, 1 / averages, s2.shape)
        return Spectrum(torch.from_numpy((expected * noise).astype(np.float32)), pixel_size_A)

    return make
