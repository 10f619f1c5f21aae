import numpy as np
import pytest
import torch

from halfmap.motion.band import Band
from halfmap.motion.likelihood import (
    derivatives,
    derivatives_of_many,
    derivatives_plainly,
    mean_powers_of_many,
    mean_powers_plainly,
)
from halfmap.motion.weighting import Weighting


@pytest.fixture
def band():
    rng = np.random.default_rng(0)
    ft = rng.normal(size=(5, 41, 23)) + 1j * rng.normal(size=(5, 41, 23))
    return Band(torch.from_numpy(ft.astype(np.complex64)), torch.arange(-20, 21) / 90.0, torch.arange(23) / 100.0)


SHIFTS = np.random.default_rng(1).normal(size=(5, 2))
WEIGHT = torch.from_numpy(np.random.default_rng(2).uniform(size=(41, 23)).astype(np.float32))


def log_likelihood(band, shifts):
    """The sum over all pairs of frames, written out, in float64."""
    fy, fx = band.fy.numpy().astype(np.float64)[:, None], band.fx.numpy().astype(np.float64)[None]
    moved = [
        f * np.exp(-2j * np.pi * (fx * x + fy * y))
        for f, (x, y) in zip(band.ft.numpy().astype(complex), shifts, strict=True)
    ]
    times = WEIGHT.numpy() * np.where(np.arange(23) == 0, 1, 2)
    return [sum(float((a.conj() * b * times).sum().real) for j, b in enumerate(moved) if j != i)
            for i, a in enumerate(moved)]  # fmt: skip


def test_the_fast_twins_are_the_plain_forms(band):
    ft, shifts = torch.stack([band.ft, band.ft.flip(0), 2 * band.ft]), np.stack([SHIFTS, -SHIFTS, 0.1 * SHIFTS])
    fast, plain = (found(ft, band, shifts, WEIGHT) for found in (derivatives_of_many, derivatives_plainly))
    for name in ("value", "gradient", "hessian"):
        a, b = getattr(fast, name), getattr(plain, name)
        assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()
    for one, other in zip(
        *(found(ft, band, shifts) for found in (mean_powers_of_many, mean_powers_plainly)), strict=True
    ):
        assert float((one - other).abs().max()) < 1e-4 * float(other.abs().max())


def test_derivatives_are_those_of_the_pairs_written_out(band):
    found, step = derivatives(band, SHIFTS, WEIGHT), 1e-3
    here = log_likelihood(band, SHIFTS)
    np.testing.assert_allclose(found.value, here, atol=1e-3 * np.abs(here).max())
    for frame, axis in ((0, 0), (3, 1)):
        sides = []
        for sign in (1, -1):
            moved = SHIFTS.copy()
            moved[frame, axis] += sign * step
            sides.append(log_likelihood(band, moved)[frame])
        np.testing.assert_allclose((sides[0] - sides[1]) / (2 * step), found.gradient[frame, axis], rtol=1e-2, atol=1.0)
        bend = -(sides[0] - 2 * here[frame] + sides[1]) / step**2
        np.testing.assert_allclose(bend, found.hessian[frame, axis, axis], rtol=1e-2, atol=10.0)


def test_pulls_between_frames_cancel(band):
    gradient = derivatives(band, SHIFTS, WEIGHT).gradient
    assert np.abs(gradient.sum(0)).max() < 1e-3 * np.abs(gradient).max()


def test_shells_beyond_the_band_get_no_weight():
    """Where signal reaches the corners of the band, the smoothing of the ratio does not go on into empty shells."""
    rng = np.random.default_rng(3)
    common = rng.normal(size=(41, 21)) + 1j * rng.normal(size=(41, 21))
    noise = rng.normal(size=(6, 41, 21)) + 1j * rng.normal(size=(6, 41, 21))
    ft = torch.from_numpy((3.0 * common + noise).astype(np.complex64))
    band = Band(ft, torch.arange(-20, 21) / 80.0, torch.arange(21) / 80.0)
    weighting = Weighting.of(band, np.zeros((6, 2)))
    highest = float(np.hypot(0.25, 0.25))
    beyond = np.arange(len(weighting.weight)) * weighting.shell_width > highest
    assert beyond.any()
    assert weighting.weight[beyond].max() == 0.0
    inside = weighting.weight[4 : int(0.25 / weighting.shell_width)]
    assert inside.max() < 3.0 * inside.min()
