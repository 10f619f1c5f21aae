import numpy as np
import pytest

from halfmap.ctffit.estimate import FitSettings, defocus_of, estimate_ctf
from halfmap.ctffit.model import Microscope
from halfmap.errors import HalfmapError
from halfmap.units import DEG


def apart_deg(a_rad, b_deg):
    return abs((a_rad / DEG - b_deg + 90) % 180 - 90)


@pytest.mark.parametrize(
    ("u_A", "v_A", "angle_deg"),
    [
        (20000, 19300, -50),
        (8000, 7500, 30),
        (34000, 33000, 80),
        (12000, 11900, 10),
        (5200, 4700, 85),
        (15000, 13200, -5),
    ],
)
def test_defocus_within_50_A_and_angle_within_2_degrees(make_spectrum, titan, u_A, v_A, angle_deg):
    estimate = estimate_ctf(make_spectrum(u_A, v_A, angle_deg), titan, FitSettings())
    assert abs(estimate.defocus_u_A - u_A) < 50
    assert abs(estimate.defocus_v_A - v_A) < 50
    assert apart_deg(estimate.defocus_angle_rad, angle_deg) < 2 + (u_A - v_A < 200) * 5
    assert estimate.fit_resolution_A < 6
    assert estimate.evidence > 500


@pytest.mark.parametrize("voltage_kV", [100.0, 120.0, 200.0, 300.0])
def test_every_voltage(make_spectrum, voltage_kV):
    microscope = Microscope(voltage_kV, 2.0, 0.07)
    estimate = estimate_ctf(make_spectrum(14000, 13500, 60, microscope=microscope), microscope, FitSettings())
    assert abs(estimate.defocus_u_A - 14000) < 50
    assert abs(estimate.defocus_v_A - 13500) < 50


def test_errors_are_as_large_as_they_say(make_spectrum, titan):
    misses = []
    for seed in range(6):
        spectrum = make_spectrum(18000, 17400, 20, strength=0.4, seed=seed)
        estimate = estimate_ctf(spectrum, titan, FitSettings())
        misses.append(((estimate.defocus_u_A + estimate.defocus_v_A) / 2 - 17700) / estimate.defocus_error_A)
    assert 0.3 < np.sqrt(np.mean(np.square(misses))) < 2.0


def test_a_phase_shift_is_found(make_spectrum, titan):
    spectrum = make_spectrum(9000, 8600, 40, phase_shift_rad=1.2)
    estimate = estimate_ctf(spectrum, titan, FitSettings(phase_shift=True))
    assert estimate.phase_shift_rad == pytest.approx(1.2, abs=0.1)
    assert abs(estimate.defocus_u_A - 9000) < 100


def test_an_ice_ring_does_not_steer_the_fit(make_spectrum, titan):
    estimate = estimate_ctf(make_spectrum(16000, 15500, 0, ice=8.0), titan, FitSettings(max_resolution_A=3.0))
    assert abs(estimate.defocus_u_A - 16000) < 50


@pytest.mark.parametrize("phase_shift", [False, True])
def test_noise_has_a_low_figure_of_merit_and_no_evidence(make_spectrum, titan, phase_shift):
    noise = estimate_ctf(make_spectrum(15000, 15000, 0, strength=0.0), titan, FitSettings(phase_shift=phase_shift))
    signal = estimate_ctf(make_spectrum(15000, 15000, 0), titan, FitSettings())
    assert noise.evidence < 80
    assert noise.fit_resolution_A == 30.0
    assert noise.figure_of_merit < 0.3 * signal.figure_of_merit


def test_weaker_rings_fit_less_far(make_spectrum, titan):
    far, near = (
        estimate_ctf(make_spectrum(15000, 14500, 30, bfactor_A2=b), titan, FitSettings()).fit_resolution_A
        for b in (40.0, 250.0)
    )
    assert far < near < 12


def test_a_range_without_pixels_is_an_error(make_spectrum, titan):
    with pytest.raises(HalfmapError, match="too little for a fit"):
        estimate_ctf(make_spectrum(15000, 15000, 0), titan, FitSettings(min_resolution_A=30.0, max_resolution_A=25.0))


def test_the_picture_has_spectrum_and_fit_on_either_side(make_spectrum, titan):
    estimate = estimate_ctf(make_spectrum(15000, 14000, 30, averages=200.0), titan, FitSettings())
    left, right = estimate.picture[1:, 1:256], estimate.picture[1:, 257:][::-1, ::-1]
    inner = np.hypot(*np.mgrid[-255:256, -255:0]) < 90
    inner &= (left != 0) & (right != 0)
    assert np.corrcoef(left[inner], right[inner])[0, 1] > 0.8


def test_larger_defocus_comes_first_whatever_the_vector():
    for vector in ((100.0, 0.0), (-100.0, 0.0), (30.0, -60.0)):
        u, v, angle = defocus_of(np.array([10000.0, *vector, 0.0]))
        assert u >= v
        assert 0.5 * (u - v) * np.cos(2 * angle) == pytest.approx(vector[0], abs=1e-9)
