import numpy as np
import pytest

from halfmap.motion.trajectory import motion_A, smooth_trajectory


def noisy_path(sigma, seed=0, n=30):
    t = np.arange(n)
    path = np.stack([5 * np.exp(-t / 6), 0.1 * t], 1)
    return path, path + sigma * np.random.default_rng(seed).normal(size=path.shape)


def test_smoothing_takes_noise_away_and_keeps_the_path():
    path, measured = noisy_path(0.3)
    smooth, _ = smooth_trajectory(measured, np.tile(np.eye(2) / 0.3**2, (30, 1, 1)))
    assert np.sqrt(np.mean((smooth - path) ** 2)) < 0.6 * np.sqrt(np.mean((measured - path) ** 2))


def test_precise_measurements_are_left_alone():
    _, measured = noisy_path(0.5, seed=1)
    smooth, _ = smooth_trajectory(measured, np.tile(np.eye(2) / 0.01**2, (30, 1, 1)))
    assert np.abs(smooth - measured).max() < 0.02


def test_smoothing_is_the_dense_solution():
    _, measured = noisy_path(0.3, n=7)
    information = np.array([[[4.0, 1.0], [1.0, 3.0]]] * 7)
    smooth, sigma = smooth_trajectory(measured, information)
    second = np.diff(np.eye(7), n=2, axis=0)
    dense = np.zeros((14, 14))
    for axis in (0, 1):
        dense[axis::2, axis::2] = second.T @ second / sigma**2
    dense += np.kron(np.eye(7), information[0])
    right = (measured @ information[0]).reshape(-1)
    np.testing.assert_allclose(smooth.reshape(-1), np.linalg.solve(dense, right), rtol=1e-8)


def test_a_frame_without_information_follows_its_neighbours():
    measured = np.array([[0.0, 0], [1, 0], [99, 99], [3, 0], [4, 0]])
    information = np.tile(np.eye(2) * 1e4, (5, 1, 1))
    information[2] = 0
    smooth, _ = smooth_trajectory(measured, information)
    np.testing.assert_allclose(smooth[2], [2, 0], atol=0.05)


def test_motion_is_split_at_four_electrons():
    shifts = np.array([[0.0, 0], [3, 4], [3, 5], [3, 7]])
    assert motion_A(shifts, np.array([2.0, 4.0, 6.0, 8.0])) == (8.0, 5.0, 3.0)


@pytest.mark.parametrize("known", [9.0, 1e-20])
def test_a_direction_that_nothing_is_known_about_stays_as_measured(known):
    _, measured = noisy_path(0.3)
    along_x = np.tile(np.array([[known, 0.0], [0.0, 0.0]]), (30, 1, 1))
    smooth, _ = smooth_trajectory(measured, along_x)
    assert np.isfinite(smooth).all()
    assert (
        np.abs(np.polyfit(np.arange(30), smooth[:, 1], 1) - np.polyfit(np.arange(30), measured[:, 1], 1)).max() < 1e-3
    )
