import numpy as np
import torch

from halfmap.motion.sums import Sums, add_frames, add_frames_plainly, plan_sums, sum_frames

SHAPE = (96, 81)


def stack(n=5, seed=0):
    images = torch.from_numpy(np.random.default_rng(seed).normal(size=(n, *SHAPE)).astype(np.float32))
    return images, torch.fft.rfft2(images)


def plan(n=5, *, dose_weighting=True, shifts=None):
    shifts = np.random.default_rng(1).normal(size=(n, 2)) if shifts is None else shifts
    return plan_sums(
        shifts,
        dose_e_per_A2=1.5 * np.arange(1, n + 1),
        pixel_size_A=1.1,
        voltage_kV=300.0,
        dose_weighting=dose_weighting,
        frames=np.arange(n),
    )


def test_the_fast_twin_is_as_good_as_the_plain_one():
    _, ft = stack()
    fast, plain = Sums.empty(ft[0]), Sums.empty(ft[0])
    for part in (slice(0, 2), slice(2, 5)):
        add_frames(ft, SHAPE, plan(), part, fast)
        add_frames_plainly(ft, SHAPE, plan(), part, plain)
    for name in ("weighted", "unweighted", "group", "power"):
        a, b = getattr(fast, name), getattr(plain, name)
        assert float((a - b).abs().max()) <= 2e-5 * float(b.abs().max())
    assert float(plain.power.abs().max()) > 0


def test_whole_pixel_shifts_are_rolls():
    images, ft = stack(3)
    shifts = np.array([[0, 0], [3, -2], [-5, 7]])
    plan_of_rolls = plan(3, shifts=shifts.astype(np.float64))
    sums = sum_frames(ft, SHAPE, plan_of_rolls, unweighted=True)
    expected = sum(np.roll(images[i].numpy(), (shifts[i, 1], shifts[i, 0]), axis=(0, 1)) for i in range(3))
    np.testing.assert_allclose(sums.unweighted.numpy(), expected, atol=1e-4)


def test_without_dose_weighting_white_noise_keeps_its_power():
    images, ft = stack(8)
    sums = sum_frames(ft, SHAPE, plan(8, dose_weighting=False))
    assert abs(float(sums.weighted.std()) / float(images.std()) - 1) < 0.03


def test_late_frames_lose_high_frequencies_first():
    weights = plan(20).weights
    early, late = weights[0], weights[-1]
    assert late[400] / early[400] > late[3000] / early[3000]
    np.testing.assert_allclose((weights.astype(np.float64) ** 2).sum(0), 1.0, rtol=1e-5)


def test_exposure_of_a_frame_left_out_counts():
    dose = np.array([1.0, 2.0, 10.0])
    table = plan_sums(
        np.zeros((3, 2)), dose_e_per_A2=dose, pixel_size_A=1.0, voltage_kV=300.0, dose_weighting=True,
        frames=np.array([0, 1, 9]),
    )  # fmt: skip
    ratio = np.log(table.weights[2, 2000] / table.weights[1, 2000]) / np.log(
        table.weights[1, 2000] / table.weights[0, 2000]
    )
    np.testing.assert_allclose(ratio, 8.0, rtol=1e-3)


def test_groups_hold_four_electrons():
    assert plan(6).ends.tolist() == [False, False, True] * 2
