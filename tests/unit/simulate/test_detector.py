import numpy as np
import pytest

from halfmap.simulate.detector import random_detector


@pytest.fixture(scope="module")
def detector():
    return random_detector((96, 128), spread_frac=0.1, hot_pixels=5, dead_pixels=7, generator=np.random.default_rng(1))


def test_gain_has_mean_one_and_zeros_at_dead_pixels(detector):
    assert detector.gain.dtype == np.float32
    assert detector.dead.sum() == 7
    alive = detector.gain[~detector.dead]
    assert alive.mean() == pytest.approx(1.0, abs=1e-5)
    assert alive.std() == pytest.approx(0.1, rel=0.3)


def test_gain_correction_makes_counts_even_and_keeps_the_dose(detector):
    generator = np.random.default_rng(2)
    expected = np.full((96, 128), 5.0, np.float32)
    total = sum(detector.record(expected, 255, generator).astype(float) for _ in range(200))
    corrected = total * detector.gain / 200
    ordinary = ~detector.dead
    ordinary.reshape(-1)[detector.hot_index] = False
    values = corrected[ordinary]
    assert values.mean() == pytest.approx(5.0, abs=5 * np.sqrt(5.0 / 200 / values.size))
    raw = (total / 200)[ordinary]
    assert values.std() == pytest.approx(np.sqrt(5.0 / 200), rel=0.1)
    assert raw.std() > 2 * values.std()


def test_hot_and_dead_pixels_ignore_what_arrives(detector):
    counts = detector.record(np.full((96, 128), 2.0, np.float32), 255, np.random.default_rng(3))
    assert counts.dtype == np.uint8
    assert counts[detector.dead].tolist() == [0] * 7
    assert counts.reshape(-1)[detector.hot_index].min() > 10


def test_counts_are_cut_off_where_the_format_ends(detector):
    counts = detector.record(np.full((96, 128), 200.0, np.float32), 127, np.random.default_rng(4))
    assert counts.max() == 127


def test_camera_frames_hold_single_electrons_that_add_up(detector):
    expected = np.full((96, 128), 1.5, np.float32)
    frames = list(detector.record_camera_frames(expected, 40, np.random.default_rng(5)))
    assert len(frames) == 40
    assert max(frame.max() for frame in frames) == 1
    ordinary = ~detector.dead
    ordinary.reshape(-1)[detector.hot_index] = False
    mean = (sum(frame.astype(float) for frame in frames) * detector.gain)[ordinary].mean()
    assert mean == pytest.approx(1.5, abs=0.06)
