import numpy as np
import pytest
import torch

from halfmap.fourier.periodogram import binned_power, centred_amplitude, power_of_picture


def power_of(image):
    return torch.fft.rfft2(torch.from_numpy(image.astype(np.float32))).abs().square()


@pytest.mark.parametrize("shape", [(512, 512), (700, 1001), (331, 250)])
@pytest.mark.parametrize("pixel_size_A", [0.7, 1.4, 2.0])
def test_white_noise_stays_white_with_its_mean(shape, pixel_size_A):
    image = np.random.default_rng(0).normal(size=shape)
    small, pixel_out_A = binned_power(power_of(image), shape, pixel_size_A, 128)
    assert small.shape == (128, 65)
    assert pixel_out_A == max(pixel_size_A, 1.4)
    assert float(small.mean()) == pytest.approx(image.size, rel=0.03)
    assert float(small.min()) > 0


def test_cells_are_means_over_squares_of_frequency():
    power = power_of(np.random.default_rng(1).normal(size=(256, 256)))
    small, _ = binned_power(power, (256, 256), 2.0, 64)
    # Cell (3, 5) reaches over input rows 10 to 14 and columns 18 to 22, the outer ones by a half.
    share = np.array([0.5, 1, 1, 1, 0.5])
    expected = (power.numpy()[10:15, 18:23] * share[:, None] * share[None]).sum() / 16
    assert float(small[3, 5]) == pytest.approx(expected, rel=1e-4)


def test_a_wave_is_found_at_its_frequency():
    y, x = np.mgrid[:600, :480]
    image = np.cos(2 * np.pi * (0.10 * x - 0.05 * y))
    small, pixel_out_A = binned_power(power_of(image), (600, 480), 0.7, 256)
    row, column = np.unravel_index(int(small.argmax()), small.shape)
    assert np.fft.rfftfreq(256, pixel_out_A)[column] == pytest.approx(0.10 / 0.7, abs=0.5 / (256 * 1.4))
    assert np.fft.fftfreq(256, pixel_out_A)[row] == pytest.approx(-0.05 / 0.7, abs=0.5 / (256 * 1.4))


def test_picture_and_power_are_inverse_and_symmetric():
    power, _ = binned_power(power_of(np.random.default_rng(2).normal(size=(256, 256))), (256, 256), 2.0, 64)
    picture = centred_amplitude(power)
    np.testing.assert_allclose(power_of_picture(picture).numpy()[:, 1:-1], power.numpy()[:, 1:-1], rtol=1e-5)
    np.testing.assert_allclose(picture[1:, 1:], picture[1:, 1:][::-1, ::-1], rtol=1e-5)
