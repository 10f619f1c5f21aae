import math

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import Independence, frc, fsc, last_shell_above, resolution_A, shell_of_threshold


def noise(n: int, seed: int, dimensions: int = 3) -> torch.Tensor:
    return torch.randn(*(n,) * dimensions, generator=torch.Generator().manual_seed(seed))


def slow_fsc(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    n = a.shape[0]
    fa, fb = np.fft.fftn(a.astype(np.float64)), np.fft.fftn(b.astype(np.float64))
    k = np.fft.fftfreq(n, 1 / n)
    radius = np.sqrt(sum(g**2 for g in np.meshgrid(*[k] * a.ndim)))
    curve = []
    for s in range(n // 2 + 1):
        shell = np.floor(radius + 0.5) == s
        cross = (fa[shell] * fb[shell].conj()).sum().real
        curve.append(cross / math.sqrt((abs(fa[shell]) ** 2).sum() * (abs(fb[shell]) ** 2).sum()))
    return np.array(curve)


@pytest.mark.parametrize("n", [12, 13])
def test_equals_a_slow_float64_sum_over_the_full_transform(n):
    a, b = noise(n, 0), noise(n, 0) + noise(n, 1)
    np.testing.assert_allclose(fsc(a, b).numpy(), slow_fsc(a.numpy(), b.numpy()), atol=1e-6)
    np.testing.assert_allclose(frc(a[0], b[0]).numpy(), slow_fsc(a[0].numpy(), b[0].numpy()), atol=1e-6)


def test_known_values():
    a = noise(64, 0)
    torch.testing.assert_close(fsc(a, a), torch.ones(33, dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(fsc(a, -a), -torch.ones(33, dtype=torch.float64), atol=1e-6, rtol=0)
    mixed = fsc(a, a + noise(64, 1))
    assert abs(float(mixed[10:].mean()) - math.sqrt(0.5)) < 0.01
    assert fsc(noise(64, 2), noise(64, 3))[5:].abs().mean() < 0.05
    assert (fsc(a, torch.zeros(64, 64, 64)) == 0).all()


def test_maps_of_different_size_are_refused():
    with pytest.raises(HalfmapError, match="one size"):
        fsc(noise(8, 0), noise(10, 0))


def test_resolution_is_interpolated_at_the_first_crossing():
    curve = torch.tensor([1.0, 1.0, 0.9, 0.2, 0.1, 0.5, 0.0], dtype=torch.float64)
    assert shell_of_threshold(curve, 0.143) == pytest.approx(3.57)
    assert shell_of_threshold(curve, 0.5) == pytest.approx(2 + 0.4 / 0.7)
    assert last_shell_above(curve, 0.5) == 5
    assert last_shell_above(-curve, 0.5) == 0
    assert resolution_A(curve, 0.5, 12, 2.0) == pytest.approx(24.0 / (2 + 0.4 / 0.7))


def test_falls_that_the_next_shells_do_not_share_are_passed_over_within_a_mask():
    curve = torch.tensor([1.0, 1.0, 0.9, 0.1, 0.7, 0.6, 0.4, 0.1, 0.0, 0.1, 0.0], dtype=torch.float64)
    assert shell_of_threshold(curve, 0.143) == pytest.approx(2 + 0.757 / 0.8)
    assert shell_of_threshold(curve, 0.143, Independence(1)) == pytest.approx(6 + 0.257 / 0.3)
    stays_down = torch.tensor([1.0, 1.0, 0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.0], dtype=torch.float64)
    assert shell_of_threshold(stays_down, 0.143, Independence(1)) == shell_of_threshold(stays_down, 0.143)
    falls_in_steps = torch.tensor([1.0, 0.6, 0.1, 0.2, 0.2, 0.13, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert shell_of_threshold(falls_in_steps, 0.143, Independence(1)) == pytest.approx(4 + 0.057 / 0.07)
    # A curve that lingers about the threshold is read where it falls, if more is asked for.
    lingers = torch.tensor([1.0, 0.6, 0.1, 0.2, 0.2, 0.2, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert shell_of_threshold(lingers, 0.143, Independence(1)) == pytest.approx(5 + 0.057 / 0.2)
    assert shell_of_threshold(lingers, 0.143, Independence(1), recovered=0.25) == pytest.approx(1 + 0.457 / 0.5)
    # What noise shows in so few independent values is no reason to go on.
    assert shell_of_threshold(curve, 0.143, Independence(1, 0.01)) == pytest.approx(2 + 0.757 / 0.8)


def test_curves_that_never_cross():
    assert shell_of_threshold(torch.ones(9, dtype=torch.float64), 0.143) == 8
    assert resolution_A(torch.ones(9, dtype=torch.float64), 0.143, 16, 1.5) == pytest.approx(3.0)
    nothing = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    assert resolution_A(nothing, 0.143, 4, 1.0) == math.inf
