import numpy as np
import pytest

from halfmap.simulate.motion import Motion, random_motion, warp


def motion(seed=1, frames=20, dose=2.0, **changes):
    settings = {"drift_A": 12.0, "local_A": 4.0} | changes
    return random_motion(frames, dose, generator=np.random.default_rng(seed), **settings)


def test_warp_equals_a_shifted_wave_to_high_frequency():
    y, x = np.meshgrid(np.arange(96.0), np.arange(96.0), indexing="ij")

    def wave(x, y):
        return np.sin(2 * np.pi * (0.31 * x + 0.22 * y)).astype(np.float32)

    dx, dy = (np.full(x.shape, value, np.float32) for value in (1.37, -0.61))
    difference = warp(wave(x, y), dx, dy) - wave(x - 1.37, y + 0.61)
    assert np.abs(difference)[12:-12, 12:-12].max() < 0.01


def test_warp_follows_a_smooth_field():
    y, x = np.meshgrid(np.arange(128.0), np.arange(128.0), indexing="ij")
    dx, dy = 1.5 * (x / 128) ** 2 + 0.3, 1.0 * (x / 128) * (y / 128)
    blob = np.exp(-((x - 70) ** 2 + (y - 60) ** 2) / 30.0).astype(np.float32)
    moved = warp(blob, dx.astype(np.float32), dy.astype(np.float32))
    centre = np.array([(moved * x).sum(), (moved * y).sum()]) / moved.sum()
    at = (1.5 * (70 / 128) ** 2 + 0.3, 70 / 128 * 60 / 128)
    assert centre == pytest.approx([70 + at[0], 60 + at[1]], abs=0.05)


def test_motion_starts_at_zero_and_is_fast_first():
    for seed in range(5):
        drawn = motion(seed, drift_A=20.0)
        assert drawn.global_A[0] == pytest.approx([0.0, 0.0])
        steps = np.linalg.norm(np.diff(drawn.global_A, axis=0), axis=1)
        assert steps[:2].mean() > 2.0 * steps[-6:].mean()


def test_travel_within_frames_adds_up_to_the_path():
    drawn = motion(dose=0.5)
    middle_to_middle = 0.5 * (drawn.travel_A[1:] + drawn.travel_A[:-1])
    assert middle_to_middle == pytest.approx(np.diff(drawn.global_A, axis=0), abs=0.01)


def test_local_motion_has_the_size_asked_for():
    grid = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 9))
    largest = [np.linalg.norm(motion(seed).local_displacement_A(19, *grid), axis=0).max() for seed in range(8)]
    assert min(largest) > 0.55 * 4.0
    assert max(largest) < 1.25 * 4.0
    assert not motion().local_displacement_A(0, *grid).any()


def test_local_motion_has_no_mean_over_the_frame():
    centres = (np.arange(64) + 0.5) / 64 - 0.5
    local = motion().local_displacement_A(19, *np.meshgrid(centres, centres))
    assert local.mean(axis=(1, 2)) == pytest.approx([0.0, 0.0], abs=1e-3)


def test_coefficients_for_relion_undo_the_local_motion():
    drawn, pixel = motion(), 1.3
    x, y = np.array([0.31, -0.2]), np.array([-0.44, 0.1])
    coefficients = drawn.relion_coefficients_px(pixel)
    for z in (0, 7, 19):
        in_time = np.array([z, z**2, z**3], float)
        in_space = np.stack([np.ones(2), x, x * x, y, y * y, x * y])
        shift = np.einsum("ast,t,sn->an", coefficients.reshape(2, 6, 3), in_time, in_space)
        assert shift * pixel == pytest.approx(-drawn.local_displacement_A(z, x, y), abs=1e-9)


def test_displacement_is_global_plus_local():
    drawn = Motion(np.array([[0.0, 0.0], [3.0, 4.0]]), np.zeros((2, 2)), np.eye(2, 6, 1))
    assert drawn.displacement_A(1, np.array([0.5]), np.array([0.2]))[:, 0] == pytest.approx([3.5, 4.25])


def test_one_frame_does_not_move():
    drawn = motion(frames=1)
    assert drawn.global_A.tolist() == [[0.0, 0.0]]
    assert not drawn.local_displacement_A(0, np.array([0.5]), np.array([0.5])).any()
