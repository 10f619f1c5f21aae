import numpy as np
import pytest
import torch

from halfmap.motion.align import _derivatives, align_frames
from halfmap.motion.band import Band, band_indices


def band_of(counts, limit=0.25):
    shape = counts.shape[1:]
    rows, columns = band_indices(shape, limit)
    ft = torch.fft.rfft2(torch.from_numpy(counts.astype(np.float32)))[:, rows, :columns]
    return Band(ft, torch.fft.fftfreq(shape[0])[rows], torch.fft.rfftfreq(shape[1])[:columns])


def rms_px(alignment, truth):
    error = alignment.shifts_px - truth
    return float(np.sqrt(np.mean((error - error.mean(0)) ** 2)))


@pytest.mark.parametrize(
    ("options", "limit_px"),
    [
        ({}, 0.1),
        ({"path": "jitter"}, 0.1),
        ({"path": "still"}, 0.1),
        ({"shape": (401, 533)}, 0.1),
        ({"n": 2, "contrast": 0.3}, 0.1),
        ({"n": 3, "contrast": 0.3}, 0.1),
        ({"n": 24, "dose": 0.5}, 0.12),
    ],
)
def test_shifts_are_found_within_a_tenth_of_a_pixel(make_movie, options, limit_px):
    movie = make_movie(**options)
    alignment = align_frames(band_of(movie.counts), shape=movie.shape, max_shift_px=40.0)
    assert alignment.converged
    assert rms_px(alignment, movie.shifts_px) < limit_px
    assert np.all(alignment.shifts_px[0] == 0)


def test_a_specimen_that_moves_right_is_shifted_left():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(256, 256)) * 3
    image = np.fft.irfft2(
        np.fft.rfft2(image) * np.exp(-200 * np.hypot(*np.meshgrid(np.fft.rfftfreq(256), np.fft.fftfreq(256))) ** 2),
        s=(256, 256),
    )
    frames = np.stack([image, np.roll(image, 5, axis=1), np.roll(image, (3, 5), axis=(0, 1))])
    frames = frames + 0.05 * rng.normal(size=frames.shape)
    shifts = align_frames(band_of(frames), shape=(256, 256), max_shift_px=40.0).shifts_px
    np.testing.assert_allclose(shifts, [[0, 0], [-5, 0], [-5, -3]], atol=0.02)


def test_expected_error_agrees_with_the_real_one(make_movie):
    errors, expected = [], []
    for seed in range(4):
        movie = make_movie(n=8, shape=(384, 384), path="jitter", seed=seed)
        alignment = align_frames(band_of(movie.counts), shape=movie.shape, max_shift_px=40.0)
        errors.append(rms_px(alignment, movie.shifts_px))
        expected.append(float(np.median(alignment.error_px)))
    assert 0.5 < np.mean(errors) / np.mean(expected) < 2.0


def test_one_frame_needs_no_shift(make_movie):
    movie = make_movie(n=1, shape=(128, 128))
    alignment = align_frames(band_of(movie.counts), shape=movie.shape, max_shift_px=40.0)
    assert alignment.shifts_px.tolist() == [[0.0, 0.0]]


def test_the_same_frames_give_the_same_bits(make_movie):
    movie = make_movie(n=6, shape=(256, 256))
    first, second = (align_frames(band_of(movie.counts), shape=movie.shape, max_shift_px=40.0) for _ in range(2))
    assert np.array_equal(first.shifts_px, second.shifts_px)


def test_frames_of_noise_are_left_where_they_are():
    counts = np.random.default_rng(1).poisson(1.0, (18, 256, 256)).astype(np.uint8)
    alignment = align_frames(band_of(counts), shape=(256, 256), max_shift_px=20.0)
    assert not alignment.signal
    assert np.all(alignment.shifts_px == 0)


def test_derivatives_of_the_correlation_are_those_of_finite_differences():
    rng = np.random.default_rng(2)
    cross = torch.from_numpy((rng.normal(size=(9, 5)) + 1j * rng.normal(size=(9, 5))).astype(np.complex64))
    band = Band(cross[None], torch.arange(-4, 5) / 20.0, torch.arange(5) / 20.0)

    def correlation(x, y):
        fy, fx = np.arange(-4, 5)[:, None] / 20.0, np.arange(5)[None] / 20.0
        return float((cross.numpy().astype(np.complex128) * np.exp(2j * np.pi * (fx * x + fy * y))).sum().real)

    (gradient,), (hessian,) = _derivatives(cross[None], band, np.array([[0.3, -0.2]]))
    h = 1e-3
    along_x = (correlation(0.3 + h, -0.2) - correlation(0.3 - h, -0.2)) / (2 * h)
    along_y = (correlation(0.3, -0.2 + h) - correlation(0.3, -0.2 - h)) / (2 * h)
    mixed = (
        correlation(0.3 + h, -0.2 + h) - correlation(0.3 + h, -0.2 - h)
        - correlation(0.3 - h, -0.2 + h) + correlation(0.3 - h, -0.2 - h)
    ) / (4 * h * h)  # fmt: skip
    np.testing.assert_allclose(gradient, [along_x, along_y], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(hessian[0, 1], -mixed, rtol=1e-3, atol=1e-3)


def test_frames_too_faint_to_be_aligned_alone_are_grouped(make_movie):
    movie = make_movie(n=48, dose=0.1, contrast=0.05)
    alignment = align_frames(band_of(movie.counts), shape=movie.shape, max_shift_px=40.0)
    assert alignment.signal
    assert alignment.group > 1
    assert alignment.shifts_px.shape == (48, 2)
    assert rms_px(alignment, movie.shifts_px) < 0.3
