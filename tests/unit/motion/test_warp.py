import numpy as np
import pytest
import torch

from halfmap.motion.warp import prefiltered, spline_prefilter, warp_added, warp_added_plainly

SHAPE = (120, 154)
SURFACE = np.array([[0.7, 2.0, -1.5, 1.0, 0.8, -2.0], [-0.4, 1.0, 2.0, -2.5, 1.2, 1.1]])


def coefficients_of(picture):
    return torch.fft.irfft2(prefiltered(torch.fft.rfft2(picture), picture.shape), s=picture.shape)


def noise(shape=SHAPE, limit=0.5, seed=0):
    ft = torch.fft.rfft2(torch.from_numpy(np.random.default_rng(seed).normal(size=shape).astype(np.float32)))
    s = torch.hypot(torch.fft.fftfreq(shape[0])[:, None], torch.fft.rfftfreq(shape[1])[None, :])
    return torch.fft.irfft2(ft * (s < limit), s=shape)


def test_the_fast_twin_is_as_good_as_the_plain_one():
    picture = coefficients_of(noise())
    fast, plain = torch.ones(SHAPE), torch.ones(SHAPE)
    warp_added(picture, SURFACE, fast)
    warp_added_plainly(picture, SURFACE, plain)
    assert float((fast - plain).abs().max()) < 5e-5


def test_a_warped_picture_is_the_sum_of_its_waves_at_the_shifted_places():
    """Against the Fourier series itself, in float64, at every pixel."""
    n = 48
    picture = noise((n, n), 0.3)
    out = torch.zeros((n, n))
    surface = 0.25 * SURFACE
    warp_added(coefficients_of(picture), surface, out)
    at = np.arange(n) / n - 0.5
    y, x = np.meshgrid(at, at, indexing="ij")
    shift_x, shift_y = np.tensordot(surface, np.stack([np.ones_like(x), x, x * x, y, y * y, x * y]), axes=1)
    waves = np.fft.fft2(picture.numpy().astype(np.float64)) / n**2
    k = np.fft.fftfreq(n, 1 / n)
    along_y = np.exp(2j * np.pi * ((y + 0.5) - shift_y / n)[..., None] * k)
    along_x = np.exp(2j * np.pi * ((x + 0.5) - shift_x / n)[..., None] * k)
    expected = np.einsum("abk,kl,abl->ab", along_y, waves, along_x).real
    # Two passes are right to the shift times its gradient, which is steep in so small a picture.
    assert np.abs(out.numpy() - expected).std() < 0.03 * expected.std()
    gentle = torch.zeros((n, n))
    warp_added(coefficients_of(picture), SURFACE * [1, 0, 0, 0, 0, 0], gentle)
    shifted = np.einsum(
        "ak,kl,bl->ab",
        np.exp(2j * np.pi * (np.arange(n) - SURFACE[1, 0])[:, None] * k / n),
        waves,
        np.exp(2j * np.pi * (np.arange(n) - SURFACE[0, 0])[:, None] * k / n),
    ).real
    assert np.abs(gentle.numpy() - shifted).std() < 0.01 * shifted.std()


@pytest.mark.parametrize(("of_nyquist", "least"), [(0.5, 0.998), (0.8, 0.985), (0.9, 0.9)])
def test_high_frequencies_are_kept_on_average(of_nyquist, least):
    n = 256
    wave = torch.cos(np.pi * of_nyquist * torch.arange(n, dtype=torch.float32)).repeat(8, 1)
    k = round(of_nyquist * n / 2)
    transfer = []
    for shift in np.arange(8) / 8:
        out = torch.zeros_like(wave)
        surface = np.zeros((2, 6))
        surface[0, 0] = shift
        warp_added(coefficients_of(wave), surface, out)
        before, after = np.fft.rfft(wave.numpy()[0])[k], np.fft.rfft(out.numpy()[0])[k]
        transfer.append((after / before * np.exp(2j * np.pi * k * shift / n)).real)
    assert least < np.mean(transfer) < 1.01


def test_the_prefilter_lifts_no_noise():
    f = torch.linspace(0, 0.5, 51)
    gains = torch.stack([spline_prefilter(f) * torch.sinc(f + k) ** 6 for k in range(-3, 4)])
    assert float(gains.square().sum(0).max()) < 1.0 + 1e-6


def test_pictures_are_added_and_go_round_at_the_edges():
    picture = noise(limit=0.2)
    out = torch.full(SHAPE, 2.0)
    warp_added(coefficients_of(picture), np.array([[3.0, 0, 0, 0, 0, 0], [-5.0, 0, 0, 0, 0, 0]]), out)
    np.testing.assert_allclose(out.numpy() - 2.0, np.roll(picture.numpy(), (-5, 3), (0, 1)), atol=2e-3)
