import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from halfmap.ctffit.fit import RingModel
from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.quality import Curve, fit_resolution_A, same_phase_squared
from halfmap.ctffit.search import CandidateSearch, SearchRange
from halfmap.ctffit.spectrum import micrograph_spectrum, radial_basis, rings_of, smooth_baseline
from halfmap.optics.ctf import ctf_2d


def test_rings_are_those_of_the_ctf(make_spectrum, titan):
    """``-cos 2γ = 2 CTF² - 1``, checked against the CTF of ``optics``."""
    rings = rings_of(make_spectrum(15000, 14000, 30), 30.0, 4.0)
    model = RingModel(rings, titan, 14500.0)
    values, _ = model.rings_and_slope(np.array([14500.0, 500 * np.cos(np.pi / 3), 500 * np.sin(np.pi / 3), 0.2]))
    frequency = np.sqrt(rings.frequency_squared)
    angle = 0.5 * np.arctan2(rings.sin_2, rings.cos_2)
    fx, fy = (torch.from_numpy(f)[None] for f in (frequency * np.cos(angle), frequency * np.sin(angle)))
    ctf = ctf_2d(fx, fy, 15000.0, 14000.0, np.pi / 6, 300.0, 2.7, 0.1, 0.2)[0].numpy()
    np.testing.assert_allclose(values, (2 * ctf**2 - 1) * model.fade, atol=2e-3)


def test_the_slope_is_the_derivative(make_spectrum, titan):
    model = RingModel(rings_of(make_spectrum(15000, 14000, 30), 30.0, 4.0), titan, 14500.0)
    low, high = (model.rings_and_slope(np.array([14500.0, 100, 50, p]))[0] for p in (0.295, 0.305))
    slope = model.rings_and_slope(np.array([14500.0, 100, 50, 0.3]))[1]
    np.testing.assert_allclose((high - low) / 0.01, slope, atol=0.02)


@pytest.mark.parametrize("defocus_A", [3000.0, 3400.0, 15000.0])
def test_offset_and_envelope_are_the_best_that_are_nowhere_negative(make_spectrum, titan, defocus_A):
    """Against a bounded least-squares fit of all pixels at once; a wrong defocus makes the bound matter."""
    rings = rings_of(make_spectrum(3000, 2900, 30, strength=2.0), 30.0, 4.0)
    model = RingModel(rings, titan, defocus_A)
    parameters = np.array([defocus_A, 40.0, 0.0, 0.0])
    state = model.evaluate(parameters)
    root = model.root_weight[rings.shell]
    shape, _ = model.rings_and_slope(parameters)
    matrix = np.concatenate([model.base[rings.shell], model.env[rings.shell] * shape[:, None]], axis=1) * root[:, None]
    low = np.r_[np.full(model.base.shape[1], -np.inf), np.zeros(model.env.shape[1])]
    best = lsq_linear(matrix, rings.value * root, (low, np.inf), method="bvls")
    assert state.cost == pytest.approx(2.0 * best.cost, rel=1e-5)
    assert (state.envelope >= 0).all()


def test_fading_is_what_averaging_over_cells_does():
    lag, length, cos_2 = 300.0, 700.0, np.cos(2 * np.radians(25))
    direction = np.array([np.cos(np.radians(25)), np.sin(np.radians(25))])
    inside = (np.arange(400) + 0.5) / 400 - 0.5
    x, y = np.meshgrid(inside / length, inside / length)
    mean = np.cos(2 * np.pi * lag * (direction[0] * x + direction[1] * y)).mean()
    assert float(fading(np.array(lag), cos_2, length)) == pytest.approx(mean, abs=1e-4)
    assert float(fading(np.array(900.0), 1.0, length)) == 0.0


def test_lag_is_the_derivative_of_the_phase(titan):
    s = np.array([0.1, 0.2, 0.3])
    h = 1e-5
    numeric = (titan.phase_rad((s + h) ** 2, 12000.0, 0.0) - titan.phase_rad((s - h) ** 2, 12000.0, 0.0)) / (2 * h)
    np.testing.assert_allclose(titan.lag_A(s**2, 12000.0), np.abs(numeric) / np.pi, rtol=1e-5)


@pytest.mark.parametrize("cs_mm", [0.0, 2.7])
def test_pixels_move_to_where_the_mean_has_their_phase(cs_mm):
    microscope = Microscope(300.0, cs_mm, 0.1)
    squared = np.linspace(0.001, 0.1, 50)
    moved = same_phase_squared(squared, np.full(50, 15800.0), 15000.0, microscope)
    np.testing.assert_allclose(
        microscope.phase_rad(moved, 15000.0, 0.0), microscope.phase_rad(squared, 15800.0, 0.0), rtol=1e-9
    )


def test_fit_resolution_is_where_agreement_ends():
    frequency = np.linspace(0.05, 0.3, 26)
    correlation = np.where(frequency < 0.2, 0.9, 0.1)
    assert fit_resolution_A(Curve(frequency, frequency, frequency, correlation)) == pytest.approx(1 / 0.19)
    assert fit_resolution_A(Curve(frequency, frequency, frequency, 0 * correlation)) == pytest.approx(20.0)


def test_the_baseline_passes_between_the_rings():
    frequency = np.linspace(0.033, 0.25, 155)
    smooth = 1.0 + 4 * np.exp(-(frequency**2) / 0.004)
    found = smooth_baseline(frequency, smooth * (1 + 0.2 * np.cos(2 * np.pi * 300 * frequency**2)), np.ones(155))
    assert np.abs(found / smooth - 1)[10:].max() < 0.1  # The rings reach 0.2.


def test_basis_functions_sum_to_one():
    np.testing.assert_allclose(radial_basis(np.linspace(0.03, 0.3, 40)).sum(1), 1.0, rtol=1e-9)


def test_the_search_finds_the_neighbourhood_of_the_truth(make_spectrum, titan):
    rings = rings_of(make_spectrum(21000, 20000, 70), 30.0, 4.0)
    best, *others = CandidateSearch(rings, titan, SearchRange(3000.0, 50000.0, 2000.0)).best(rings.value, 5)
    assert abs(best.defocus_A - 20500) < 150
    assert (
        np.hypot(
            best.astigmatism_x_A - 500 * np.cos(np.radians(140)), best.astigmatism_y_A - 500 * np.sin(np.radians(140))
        )
        < 250
    )
    assert all(other.score < 0.7 * best.score for other in others)


def test_turning_the_micrograph_turns_the_spectrum():
    image = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    plain, turned = (micrograph_spectrum(torch.from_numpy(i.copy()), 1.5, 128).power for i in (image, np.rot90(image)))
    # (fx, fy) of one is (-fy, fx) of the other; compare positive rows and columns with their turned selves.
    a, b = plain[1:60, 1:60], turned[:, 1:60]
    np.testing.assert_allclose(a.numpy(), b.flip(0)[:59].numpy().T, rtol=2e-3)
