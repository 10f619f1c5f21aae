"""Micrographs of thick ice: the simulated nodes are where they should be, and tell the thickness."""

import numpy as np
import pytest

from halfmap.ctffit.files import FitSettings, MicrographFiles, process_micrograph
from halfmap.ctffit.model import Microscope
from halfmap.io.mrc import write_image
from halfmap.simulate.background import random_background
from halfmap.simulate.form_factors import ice_phase_variance_density
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field
from halfmap.units import DEG

EDGE, PIXEL_A, VOLTAGE_KV, ENVELOPE_A2, LAYER_A = 1024, 1.2, 200.0, 60.0, 60.0
MICROSCOPE = Microscope(VOLTAGE_KV, 2.7, 0.1)


def relative_intensity(thickness_A, defocus, generator, tilt_deg=0.0):
    background = random_background(
        (EDGE, EDGE), PIXEL_A, kind="ordinary", voltage_kV=VOLTAGE_KV, ice_thickness_A=thickness_A, contaminants=0.0,
        generator=generator, ice_layers=max(1, round(thickness_A / LAYER_A)),
    )  # fmt: skip
    plane = IcePlane(np.tan(tilt_deg * DEG), 0.0)
    return background_field(background, plane, defocus, Optics(VOLTAGE_KV, 2.7, 0.1, 0.0, ENVELOPE_A2), PIXEL_A)


def fitted(folder, thickness_A, seed, tilt_deg=0.0):
    generator = np.random.default_rng(seed)
    field = relative_intensity(thickness_A, Defocus(15200.0, 14800.0, 0.5), generator, tilt_deg)
    image = generator.poisson(np.clip(field, 0.0, None) * 40.0 * PIXEL_A**2).astype(np.float32)
    write_image(folder / "a.mrc", image, PIXEL_A)
    files = MicrographFiles(
        folder / "a.mrc", None, folder / "a", PIXEL_A, MICROSCOPE, FitSettings(), local=tilt_deg > 0
    )
    return process_micrograph(files)


@pytest.mark.parametrize("thickness_A", [60.0, 1800.0])
def test_layers_have_the_power_of_independent_ice_at_every_depth(thickness_A):
    """Shells of the power of a picture without noise against ``½ - ½ sinc(λ t s²) cos 2γ`` (Tichelaar et al. 2020)."""
    field = relative_intensity(thickness_A, Defocus(12000.0, 12000.0, 0.0), np.random.default_rng(1)) / 2.0
    field = field - field.mean()
    power = np.abs(np.fft.rfft2(field)) ** 2 * PIXEL_A**2 / EDGE**2
    fx, fy = np.fft.rfftfreq(EDGE, PIXEL_A)[None], np.fft.fftfreq(EDGE, PIXEL_A)[:, None]
    s = np.hypot(fx, fy)
    gamma = MICROSCOPE.phase_rad(s**2, 12000.0, 0.0)
    rings = 0.5 - 0.5 * np.sinc(MICROSCOPE.wavelength_A * thickness_A * s**2) * np.cos(2.0 * gamma)
    ice = 0.3 * ice_phase_variance_density(s, thickness_A, VOLTAGE_KV) * np.exp(-0.5 * ENVELOPE_A2 * s**2)
    shell = np.rint(s * EDGE * PIXEL_A).astype(int).ravel()
    use = slice(40, 300)
    measured, expected = (np.bincount(shell, values.ravel())[use] for values in (power / ice, rings))
    count = np.bincount(shell)[use]
    assert np.sqrt(np.mean((measured - expected) ** 2 / count)) < 1.0
    assert np.mean(measured / expected) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(("thickness_A", "seed"), [(900.0, 0), (1500.0, 1), (3000.0, 2)])
def test_the_thickness_of_a_whole_micrograph_and_its_ctf_are_found(tmp_path, thickness_A, seed):
    value = fitted(tmp_path, thickness_A, seed)
    assert value["sample_thickness_A"] == pytest.approx(thickness_A, abs=max(50.0, 0.03 * thickness_A))
    assert 5.0 < value["sample_thickness_error_A"] < 60.0
    assert abs(0.5 * (value["defocus_u_A"] + value["defocus_v_A"]) - 15000.0) < 40.0
    vector = value["astigmatism_A"] * np.exp(2j * value["defocus_angle_rad"])
    assert abs(vector - 400.0 * np.exp(1j)) < 120.0


@pytest.mark.parametrize("tilt_deg", [0.0, 40.0])
def test_thin_ice_has_no_nodes_tilted_or_not(tmp_path, tilt_deg):
    """The defocus of a tilted specimen is spread over the micrograph as that of thick ice is over its depth."""
    value = fitted(tmp_path, 300.0, 3, tilt_deg)
    assert np.isnan(value["sample_thickness_A"])
    assert abs(0.5 * (value["defocus_u_A"] + value["defocus_v_A"]) - 15000.0) < 40.0
