import numpy as np
import pytest
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.ice import ice_signal
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import Spectrum, micrograph_spectrum
from halfmap.ctffit.thickness import thickness_from_nodes
from halfmap.simulate.background import random_background
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field

PARAMETERS = np.array([12000.0, 0.0, 0.0, 0.0])


def seen(titan, *, thickness_A=350.0, kind="ordinary", seed=1, edge=1024, pixel_A=1.2):
    """Signal of a simulated micrograph of ice."""
    generator = np.random.default_rng(seed)
    background = random_background(
        (edge, edge), pixel_A, kind=kind, voltage_kV=300.0, ice_thickness_A=thickness_A, contaminants=0.0,
        generator=generator,
    )  # fmt: skip
    optics = Optics(300.0, 2.7, 0.1, 0.0, 20.0)
    field = background_field(background, IcePlane(0.0, 0.0), Defocus(12000.0, 12000.0, 0.0), optics, pixel_A)
    image = generator.poisson(np.clip(field, 0.0, None) * 60.0 * pixel_A**2).astype(np.float32)
    return ice_signal(micrograph_spectrum(torch.from_numpy(image), pixel_A), titan, PARAMETERS)


def test_the_ring_of_water_grows_with_the_thickness(titan):
    found = [seen(titan, thickness_A=t).relative_thickness for t in (200.0, 400.0, 800.0)]
    assert found[1] > 1.3 * found[0]
    assert found[2] > 1.1 * found[1]  # The background, which it is relative to, grows too.


def test_vitreous_ice_has_no_crystals(titan):
    signal = seen(titan)
    assert abs(signal.ring_density) < 4 * signal.ring_density_error
    assert signal.relative_thickness > 5 * signal.relative_thickness_error


def test_crystals_stand_out_of_the_water(titan):
    assert seen(titan, kind="crystalline").ring_density > 4 * abs(seen(titan).ring_density)


def test_a_spectrum_that_ends_too_early_says_nothing(make_spectrum, titan):
    coarse = Spectrum(make_spectrum(12000, 12000, 0).power, 2.0)
    assert np.isnan(ice_signal(coarse, titan, PARAMETERS).ring_density)


@pytest.mark.parametrize("thickness_A", [700.0, 1200.0, 2000.0])
def test_thickness_is_found_where_the_nodes_are(make_spectrum, titan, thickness_A):
    spectrum = make_spectrum(12000, 11700, 20, bfactor_A2=20.0, averages=60.0, thickness_A=thickness_A)
    estimate = estimate_ctf(spectrum, titan, FitSettings())
    assert abs(estimate.defocus_u_A - 12000) < 50
    found = thickness_from_nodes(estimate.curve, titan)
    assert found.thickness_A == pytest.approx(thickness_A, abs=50.0)
    assert found.improvement > 30


@pytest.mark.parametrize("bfactor_A2", [20.0, 60.0, 150.0])
@pytest.mark.parametrize("averages", [9.0, 60.0])
def test_a_thin_specimen_has_no_nodes(make_spectrum, titan, bfactor_A2, averages):
    spectrum = make_spectrum(12000, 11700, 20, bfactor_A2=bfactor_A2, averages=averages, thickness_A=150.0)
    found = thickness_from_nodes(estimate_ctf(spectrum, titan, FitSettings()).curve, titan)
    assert np.isnan(found.thickness_A)
    assert np.isnan(found.error_A)


def test_noise_has_no_nodes(make_spectrum):
    microscope = Microscope(200.0, 2.7, 0.1)
    for seed in range(4):
        curve = estimate_ctf(make_spectrum(12000, 12000, 0, strength=0.0, seed=seed), microscope, FitSettings()).curve
        assert np.isnan(thickness_from_nodes(curve, microscope).thickness_A)
