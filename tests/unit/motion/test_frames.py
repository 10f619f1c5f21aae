from pathlib import Path

import numpy as np
import pytest

from halfmap.errors import BadInputError
from halfmap.motion.frames import FrameCorrector, near_good_pixels, read_frames


class Movie:
    def __init__(self, frames):
        self.list = list(frames)
        self.shape = self.list[0].shape

    def frames(self):
        return iter(self.list)


def counts(n=6, shape=(96, 128), seed=0):
    return np.random.default_rng(seed).poisson(5.0, (n, *shape)).astype(np.uint8)


def read(frames, gain=None):
    return read_frames(Movie(frames), gain, movie_file=Path("a.tif"), gain_file=Path("gain.mrc"))


def test_gain_multiplies():
    gain = np.linspace(0.5, 2.0, 96 * 128, dtype=np.float32).reshape(96, 128)
    raw = counts()
    corrected = FrameCorrector(read(raw, gain), 0).corrected(2)
    np.testing.assert_allclose(corrected, raw[2] * gain, rtol=1e-6)


def test_hot_dead_and_gain_defects_are_counted_and_replaced_by_near_values():
    raw = counts()
    raw[:, 10, 20], raw[:, 40, 41] = 200, 0
    gain = np.ones((96, 128), np.float32)
    gain[:, 60] = 0
    frames = read(raw, gain)
    assert (frames.n_hot, frames.n_dead, frames.n_gain_defects) == (1, 1, 96)
    replaced = np.concatenate([FrameCorrector(frames, seed).corrected(0)[:, 60] for seed in range(5)])
    assert FrameCorrector(frames, 0).corrected(0)[10, 20] < 20
    assert abs(replaced.mean() - 5.0) < 0.4
    assert abs(replaced.var() - 5.0) < 1.5  # As noisy as good pixels: no fixed pattern.


def test_a_flash_in_one_frame_is_replaced_there_only():
    raw = counts(n=30)
    raw[3, 50, 50] = 65
    frames = read(raw)
    corrector = FrameCorrector(frames, 0)
    assert corrector.corrected(3)[50, 50] < 30
    assert corrector.corrected(2)[50, 50] == raw[2, 50, 50]


def test_single_nan_pixels_are_defects_and_nan_frames_are_left_out():
    raw = counts().astype(np.float32)
    raw[1, 5, 6] = np.nan
    raw[4] = np.nan
    frames = read(raw)
    assert frames.n_hot == 1
    assert "not finite" in frames.reasons[4]
    assert np.isfinite(FrameCorrector(frames, 0).corrected(1)).all()


@pytest.mark.parametrize(("value", "word"), [(0, "empty"), (7, "empty")])
def test_constant_frames_are_left_out(value, word):
    raw = counts()
    raw[0] = value
    frames = read(raw)
    assert word in frames.reasons[0]
    assert frames.usable.tolist() == [False] + [True] * 5


def test_a_frame_of_another_dose_is_left_out():
    raw = counts()
    raw[2] = np.random.default_rng(9).poisson(0.5, raw[2].shape)
    assert "far from" in read(raw).reasons[2]


def test_a_movie_of_empty_frames_is_an_error_naming_the_file():
    with pytest.raises(BadInputError, match=r"a\.tif.*none usable"):
        read(np.zeros((3, 96, 128), np.uint8))


def test_a_transposed_gain_tells_to_turn_it():
    with pytest.raises(BadInputError, match=r"gain\.mrc.*\(128, 96\).*turned by 90"):
        read(counts(), np.ones((128, 96), np.float32))


def test_a_gain_of_another_size_says_so():
    with pytest.raises(BadInputError, match="super-resolution"):
        read(counts(), np.ones((48, 64), np.float32))


def test_a_picture_that_is_no_gain_is_refused():
    with pytest.raises(BadInputError, match="gain reference"):
        read(counts(), np.random.default_rng(0).normal(size=(96, 128)).astype(np.float32))


def test_donors_are_good_and_near():
    bad = np.zeros((64, 64), bool)
    bad[20:30, 20:30] = True
    bad[0, 0] = True
    defects = np.flatnonzero(bad)
    donors = near_good_pixels(defects, bad, np.random.default_rng(0))
    assert not bad.reshape(-1)[donors].any()
    dy, dx = np.abs(np.subtract(np.divmod(defects, 64), np.divmod(donors, 64)))
    assert max(dy.max(), dx.max()) <= 16
