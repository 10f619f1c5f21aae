import math

import numpy as np
import pytest
import torch

from halfmap.fourier.grid import frequencies_2d
from halfmap.optics.ctf import ctf_1d, ctf_2d
from halfmap.optics.electron import interaction_constant_rad_per_VA, wavelength_A

OPTICS = {"voltage_kV": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}


def slow_ctf(
    fx: float, fy: float, u: float, v: float, angle: float, kV: float, cs: float, w: float, phi: float
) -> float:
    """The textbook formula with an arctangent, in plain Python numbers."""
    volts = kV * 1e3
    wavelength = 12.2643247 / math.sqrt(volts * (1 + volts * 0.978466e-6))
    s2 = fx * fx + fy * fy
    defocus = 0.5 * (u + v + (u - v) * math.cos(2 * (math.atan2(fy, fx) - angle)))
    chi = math.pi * wavelength * defocus * s2 - 0.5 * math.pi * cs * 1e7 * wavelength**3 * s2**2
    return math.sin(chi + phi + math.atan2(w, math.sqrt(1 - w * w)))


def test_equals_the_textbook_formula():
    fx, fy = frequencies_2d((8, 8), 1.3)
    found = ctf_2d(fx.double(), fy.double(), 15000.0, 13000.0, 0.6, 300.0, 2.7, 0.1, 0.4)
    expected = np.array(
        [[slow_ctf(x, y, 15000, 13000, 0.6, 300, 2.7, 0.1, 0.4) for x, y in zip(a, b, strict=True)]
         for a, b in zip(fx.tolist(), fy.tolist(), strict=True)]
    )  # fmt: skip
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)  # λ of the textbook is 3e-6 off


def test_the_numbers_of_the_adr():
    wavelength = float(wavelength_A(300.0))
    frequency = torch.linspace(0, 0.2, 20001, dtype=torch.float64)
    curve = ctf_1d(frequency, 15000.0, **OPTICS)
    assert float(curve[0]) == pytest.approx(0.1)
    assert curve[1:200].diff().min() > 0  # a positive first lobe
    zero = float(frequency[torch.nonzero(curve < 0)[0, 0]])
    phase = math.pi * wavelength * 15000 * zero**2 - 0.5 * math.pi * 2.7e7 * wavelength**3 * zero**4 + math.asin(0.1)
    assert phase == pytest.approx(math.pi, abs=1e-3)


def test_the_slow_axis_lies_where_the_angle_says():
    """Along defocus_u the image behaves as if its defocus were u everywhere; across, as if it were v."""
    frequency = torch.tensor([0.05, 0.1], dtype=torch.float64)
    angle = 0.5
    fx, fy = frequency[None] * math.cos(angle), frequency[None] * math.sin(angle)
    along = ctf_2d(fx, fy, 20000.0, 15000.0, angle, **OPTICS)[0]
    torch.testing.assert_close(along, ctf_1d(frequency, 20000.0, **OPTICS))
    across = ctf_2d(-fy, fx, 20000.0, 15000.0, angle, **OPTICS)[0]
    torch.testing.assert_close(across, ctf_1d(frequency, 15000.0, **OPTICS))


def test_parameters_broadcast_over_images():
    fx, fy = frequencies_2d((8, 8), 2.0)
    defocus = torch.tensor([[10000.0, 20000.0, 30000.0]])
    volts = torch.tensor([[300.0], [200.0]])
    many = ctf_2d(fx, fy, defocus, defocus + 500, 0.1, volts, 2.7, 0.1, 0.0, 80.0)
    assert many.shape == (2, 3, 8, 5)
    assert many.dtype == torch.float32
    one = ctf_2d(fx, fy, 30000.0, 30500.0, 0.1, 200.0, 2.7, 0.1, 0.0, 80.0)
    torch.testing.assert_close(many[1, 2], one)
    radial = ctf_1d(fx[0], torch.tensor([1e4, 2e4]), **OPTICS)
    assert radial.shape == (2, 5)


def test_single_precision_is_good_enough_at_high_defocus():
    fx, fy = frequencies_2d((256, 256), 1.0)
    single = ctf_2d(fx, fy, 40000.0, 38000.0, 1.0, **OPTICS)
    double = ctf_2d(fx.double(), fy.double(), 40000.0, 38000.0, 1.0, **OPTICS)
    assert (single - double).abs().max() < 5e-4


def test_the_envelope_and_the_phase_plate():
    frequency = torch.tensor([0.0, 0.1], dtype=torch.float64)
    plain, damped = ctf_1d(frequency, 1e4, **OPTICS), ctf_1d(frequency, 1e4, **OPTICS, bfactor_A2=100.0)
    torch.testing.assert_close(damped, plain * torch.exp(-100.0 * frequency**2 / 4))
    shifted = ctf_1d(frequency, 1e4, **OPTICS, phase_shift_rad=math.pi / 2)
    assert float(shifted[0]) == pytest.approx(math.cos(math.asin(0.1)))


def test_wavelengths_and_interaction_constants():
    for kV, wavelength in ((300.0, 0.0196875), (200.0, 0.0250793), (100.0, 0.0370144)):
        assert float(wavelength_A(kV)) == pytest.approx(wavelength, abs=5e-8)
    # Kirkland, Advanced Computing in Electron Microscopy: 0.6526 rad/(kV Å) at 300 kV, 0.9244 at 100 kV.
    assert interaction_constant_rad_per_VA(300.0) == pytest.approx(0.6526e-3, rel=1e-3)
    assert interaction_constant_rad_per_VA(100.0) == pytest.approx(0.9244e-3, rel=1e-3)
