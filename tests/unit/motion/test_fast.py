"""Numba twins against plain numpy or torch: counting, and the maps of the wide search."""

import numpy as np
import pytest
import torch

from halfmap.motion.align import correlation_maps, correlation_maps_plainly
from halfmap.motion.band import Band
from halfmap.motion.frames_fast import above, add_counts, mean_and_sd
from halfmap.motion.sums import LIKE_PX, like_surfaces

RNG = np.random.default_rng(4)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16])
def test_counts_are_numpys(dtype):
    frames = RNG.integers(0, 120, (3, 37, 53)).astype(dtype)
    total = np.zeros((37, 53), np.float32)
    for frame in frames:
        assert add_counts(frame, total) == (frame.min(), frame.max(), frame.sum(dtype=np.int64))
    np.testing.assert_array_equal(total, frames.sum(axis=0, dtype=np.float64))


def test_mean_spread_and_hot_pixels_are_numpys():
    total = RNG.poisson(30.0, (61, 47)).astype(np.float32)
    gain = RNG.uniform(0.8, 1.2, total.shape).astype(np.float32)
    known = RNG.uniform(size=total.shape) < 0.1
    total[known] = np.nan
    good = (total * gain)[~known].astype(np.float64)
    expected = good.mean(), good.std(), total[~known].mean(dtype=np.float64)
    np.testing.assert_allclose(mean_and_sd(total, gain, known), expected, rtol=1e-6)
    flags = np.empty_like(known)
    above(total, gain, known, 33.0, 31.0, flags)
    np.testing.assert_array_equal(flags, ~known & (total * gain > 33.0) & (total > 31.0))
    assert 0 < flags.sum() < flags.size


def test_maps_of_the_wide_search_are_the_plain_ones():
    ft = (RNG.normal(size=(4, 31, 17)) + 1j * RNG.normal(size=(4, 31, 17))).astype(np.complex64)
    band = Band(torch.from_numpy(ft), torch.arange(-15, 16) / 80.0, torch.arange(17) / 90.0)
    weight = torch.from_numpy(RNG.uniform(size=(31, 17)).astype(np.float32))
    shifts = RNG.normal(size=(4, 2))
    fast, plain = (maps(band, shifts, weight, (32, 36)) for maps in (correlation_maps, correlation_maps_plainly))
    assert float((fast - plain).abs().max()) < 1e-5 * float(plain.abs().max())


def test_runs_hold_frames_that_are_alike():
    surfaces = np.zeros((12, 2, 6))
    surfaces[:, 0, 1] = 0.11 * np.arange(12)  # 0.055 px a frame at either edge.
    runs = like_surfaces(surfaces)
    assert [i for run in runs for i in range(run.start, run.stop)] == list(range(12))
    for run in runs:
        part = 0.5 * surfaces[run, 0, 1]
        assert np.abs(part - part.mean()).max() <= LIKE_PX
        longer = 0.5 * surfaces[run.start : run.stop + 1, 0, 1]
        assert run.stop == 12 or np.abs(longer - longer.mean()).max() > LIKE_PX
