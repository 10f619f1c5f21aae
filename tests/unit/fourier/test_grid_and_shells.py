import math

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import frequencies_2d, frequencies_3d, friedel_weight, radius_px, real_space_radius_px
from halfmap.fourier.shells import (
    n_shells,
    radial_average,
    shell_index_2d,
    shell_index_3d,
    shell_mean,
    shell_sums,
    spread,
)
from halfmap.fourier.shift import shift_images


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_frequencies_are_in_inverse_angstrom():
    fx, fy = frequencies_2d((4, 6), pixel_size_A=2.0)
    torch.testing.assert_close(fx[0], torch.tensor([0, 1, 2, 3]) / 12)
    torch.testing.assert_close(fy[:, 0], torch.tensor([0, 1, -2, -1]) / 8)
    fx, fy, fz = frequencies_3d((4, 6, 8), pixel_size_A=0.5)
    assert fx.shape == fy.shape == fz.shape == (4, 6, 5)
    assert (fx[0, 0, 1], fy[0, 1, 0], fz[1, 0, 0]) == (pytest.approx(1 / 4), pytest.approx(1 / 3), pytest.approx(1 / 2))


@pytest.mark.parametrize("n", [7, 8])
def test_radii(n):
    assert radius_px((n, n))[2, 1] == pytest.approx(math.sqrt(5))
    assert radius_px((n, n, n))[1, -1, 2] == pytest.approx(math.sqrt(6))
    centred = real_space_radius_px((n, n, n))
    assert centred[n // 2, n // 2, n // 2] == 0
    assert centred[n // 2 + 1, n // 2, n // 2 - 2] == pytest.approx(math.sqrt(5))


@pytest.mark.parametrize("n", [7, 8])
def test_the_friedel_weight_makes_half_sums_full_sums(n):
    volume = noise(n, n, n)
    half = torch.fft.rfftn(volume).abs().square() * friedel_weight((n,))
    full = torch.fft.fftn(volume).abs().square()
    torch.testing.assert_close(half.sum(), full.sum())


@pytest.mark.parametrize("n", [7, 8])
def test_shell_means_are_those_of_the_full_transform(n):
    volume = noise(n, n, n)
    power = torch.fft.fftn(volume).abs().square().numpy()
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + k**2)
    expected = [power[np.floor(radius + 0.5) == s].mean() for s in range(n // 2 + 1)]
    found = shell_mean(torch.fft.rfftn(volume).abs().square(), shell_index_3d(n))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    image = noise(n, n)
    expected_2d = [
        np.abs(np.fft.fft2(image))[np.floor(np.hypot(k[:, None], k) + 0.5) == s].sum() for s in range(n // 2 + 1)
    ]
    (found,) = shell_sums([torch.fft.rfft2(image).abs()], shell_index_2d(n))
    np.testing.assert_allclose(found.numpy(), expected_2d, rtol=1e-12)


def test_spread_is_a_right_inverse_of_the_mean():
    profile = torch.linspace(1, 2, n_shells(16))
    shell = shell_index_3d(16)
    layout = spread(profile, shell, beyond=-1.0)
    torch.testing.assert_close(shell_mean(layout, shell), profile.double())
    assert (layout[shell > 8] == -1).all()
    with pytest.raises(HalfmapError, match="differ in shape"):
        shell_mean(layout, shell_index_3d(15))


def test_radial_averages_are_about_the_origin():
    image = real_space_radius_px((33, 33))
    torch.testing.assert_close(radial_average(image), torch.arange(17.0).double(), atol=0.21, rtol=0)


@pytest.mark.parametrize("n", [8, 9])
def test_whole_shifts_move_pixels_in_x_then_y(n):
    image = noise(2, n, n)
    shift = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    moved = torch.fft.irfft2(shift_images(torch.fft.rfft2(image), shift), s=(n, n))
    torch.testing.assert_close(moved[0], image[0].roll((-1, 2), (0, 1)), atol=1e-6, rtol=0)
    torch.testing.assert_close(moved[1], image[1].roll((3, 0), (0, 1)), atol=1e-6, rtol=0)


def test_fractional_shifts_follow_a_smooth_object():
    axis = torch.arange(32, dtype=torch.float64) - 16
    blob = torch.exp(-(axis[:, None] ** 2 + axis**2) / 18)
    expected = torch.exp(-((axis[:, None] + 1.75) ** 2 + (axis - 2.3) ** 2) / 18)
    moved = torch.fft.irfft2(shift_images(torch.fft.rfft2(blob), torch.tensor([2.3, -1.75])), s=(32, 32))
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=0)
