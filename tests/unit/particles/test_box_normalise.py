import math

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.particles.box import fast_even, plan_box, spread_A
from halfmap.particles.normalise import background_mask, normalise_background


def plan(**changes):
    return plan_box(**{"diameter_A": 120.0, "defocus_A": 20000.0, "pixel_size_A": 1.5, "voltage_kV": 300.0} | changes)


def test_box_holds_the_diameter_and_what_the_ctf_spreads():
    found = plan(resolution_A=3.0)
    assert found.cut_px * 1.5 >= 120 + 2 * 0.0196875 * 20000 / 3.0
    assert found.cut_px == fast_even(math.ceil((120 + 262.5) / 1.5)) == 256
    assert plan(resolution_A=6.0).cut_px < found.cut_px
    assert plan(defocus_A=0.0).cut_px == 80
    assert spread_A(-20000.0, 3.0, 300.0) == spread_A(20000.0, 3.0, 300.0)


def test_default_resolution_is_3_A_or_nyquist():
    assert plan().cut_px == plan(resolution_A=3.0).cut_px
    assert plan(pixel_size_A=4.0).cut_px == plan(pixel_size_A=4.0, resolution_A=8.0).cut_px
    assert plan(binned_pixel_size_A=4.0).cut_px < plan().cut_px


def test_sizes_have_small_prime_factors():
    for n in range(2, 700):
        even, rest = fast_even(n), fast_even(n)
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        assert even % 2 == 0
        assert n <= even <= 1.2 * n + 4
        assert rest == 1


@pytest.mark.parametrize("binned_A", [1.5, 2.0, 3.3, 4.0])
def test_binned_pixel_size_is_met_and_exact(binned_A):
    found = plan(binned_pixel_size_A=binned_A)
    assert found.pixel_size_A == pytest.approx(binned_A, rel=0.012)
    assert found.pixel_size_A == pytest.approx(1.5 * found.cut_px / found.box_px, rel=1e-12)
    assert found.cut_px % 2 == found.box_px % 2 == 0
    assert found.box_px <= found.cut_px


def test_binned_box():
    found = plan(cut_px=300, binned_box_px=100)
    assert (found.cut_px, found.box_px, found.pixel_size_A) == (300, 100, 4.5)
    assert found.description == "100 px of 4.5 Å, from 300 px of the micrograph"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cut_px": 60}, "less than the diameter"),
        ({"binned_pixel_size_A": 1.0}, "finer than the micrograph"),
        ({"cut_px": 128, "binned_box_px": 200}, "finer"),
        ({"binned_pixel_size_A": 3.0, "binned_box_px": 100}, "one of the two"),
    ],
)
def test_impossible_boxes_are_refused(changes, says):
    with pytest.raises(HalfmapError, match=says):
        plan(**changes)


def test_background_has_mean_0_and_spread_1_and_no_ramp():
    rng = np.random.default_rng(0)
    y, x = np.indices((64, 64)) - 32.0
    images = rng.normal(50, 7, (5, 64, 64)) + 0.8 * x - 0.3 * y + 100 * (np.hypot(y, x) < 15)
    images *= np.array([1, 2, 3, 4, 5])[:, None, None]
    result, spread = normalise_background(torch.from_numpy(images.astype(np.float32)), 20.0)
    outside = np.hypot(y, x) > 20
    for image in result.double().numpy():
        background = image[outside]
        assert abs(background.mean()) < 1e-5
        assert background.std() == pytest.approx(1.0, abs=1e-4)
        design = np.stack((x[outside], y[outside]), axis=1)
        assert np.abs(np.linalg.lstsq(design, background, rcond=None)[0]).max() < 1e-6
        assert 10 < image[np.hypot(y, x) < 12].mean() < 18
    assert spread.numpy() == pytest.approx(7.0 * np.arange(1, 6), rel=0.05)


def test_particle_does_not_change_its_background():
    rng = np.random.default_rng(1)
    plain = torch.from_numpy(rng.standard_normal((1, 48, 48)).astype(np.float32))
    particle = plain + 30.0 * (~background_mask(48, 12.0))
    outside = background_mask(48, 12.0)
    a, b = (normalise_background(images, 12.0)[0][0][outside] for images in (plain, particle))
    assert torch.allclose(a, b, atol=1e-4)


def test_constant_images_are_told_apart():
    images = torch.stack((torch.full((32, 32), 5.0), torch.randn((32, 32), generator=torch.Generator().manual_seed(0))))
    result, spread = normalise_background(images, 8.0)
    assert spread[0] == 0
    assert spread[1] > 0
    assert torch.isfinite(result).all()


def test_circle_larger_than_the_box_is_refused():
    with pytest.raises(HalfmapError, match="no background"):
        background_mask(32, 23.0)
