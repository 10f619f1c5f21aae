import numpy as np
import pytest
import torch

from halfmap.fourier.fsc import fsc
from halfmap.fourier.grid import frequencies_3d
from halfmap.units import DEG
from halfmap.validation.directional import directional_fsc

N = 48


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def filtered(volume: torch.Tensor, cut_xy: float, cut_z: float) -> torch.Tensor:
    fx, fy, fz = frequencies_3d((N, N, N))
    squared = (fx**2 + fy**2) / cut_xy**2 + fz**2 / cut_z**2
    return torch.fft.irfftn(torch.fft.rfftn(volume) * torch.exp(-(squared**2)), s=(N, N, N))


def halves(cut_xy: float, cut_z: float) -> tuple[torch.Tensor, torch.Tensor]:
    signal = 4 * filtered(noise(0), cut_xy, cut_z)
    return signal + 0.4 * noise(1), signal + 0.4 * noise(2)


def test_equal_directions_have_an_area_ratio_near_one():
    result = directional_fsc(*halves(0.3, 0.3), 1.5)
    assert result.area_ratio > 0.85
    assert result.axes.shape == (128, 3)
    assert result.curves.shape == (128, N // 2 + 1)
    spread = result.resolution_A.max() / result.resolution_A.min()
    assert spread < 1.15


def test_a_map_smeared_along_z_is_coarse_there_and_fine_across():
    result = directional_fsc(*halves(0.35, 0.12), 1.5)
    along = np.abs(result.axes[:, 2]) > np.cos(15 * DEG)
    across = np.abs(result.axes[:, 2]) < np.sin(10 * DEG)
    assert result.resolution_A[along].min() > 1.5 * result.resolution_A[across].max()
    assert result.area_ratio < 0.5


def test_a_cone_of_all_directions_is_the_fsc():
    first, second = halves(0.3, 0.2)
    result = directional_fsc(first, second, 1.0, n_axes=4, half_angle_rad=90 * DEG)
    expected = fsc(first, second).numpy()
    np.testing.assert_allclose(result.curves[:, 3:], np.broadcast_to(expected[3:], (4, N // 2 - 2)), atol=1e-6)


def test_a_cone_holds_the_pixels_that_lie_in_it():
    """Against a sum over the full transform with the cone's exact edge."""
    first, second = halves(0.35, 0.15)
    result = directional_fsc(first, second, 1.0, n_axes=6, half_angle_rad=30 * DEG)
    k = np.fft.fftfreq(N, 1 / N)
    z, y, x = np.meshgrid(k, k, k, indexing="ij")
    radius = np.sqrt(x * x + y * y + z * z)
    a, b = np.fft.fftn(first.numpy()), np.fft.fftn(second.numpy())
    for axis, curve in zip(result.axes, result.curves, strict=True):
        inside = np.abs(x * axis[0] + y * axis[1] + z * axis[2]) >= np.cos(30 * DEG) * radius
        for shell in (8, 14):
            pick = inside & (np.floor(radius + 0.5) == shell)
            cross = (a[pick] * b[pick].conj()).sum().real
            slow = cross / np.sqrt((abs(a[pick]) ** 2).sum() * (abs(b[pick]) ** 2).sum())
            assert curve[shell] == pytest.approx(slow, abs=0.05)


def test_noise_has_no_area():
    result = directional_fsc(noise(1), noise(2), 1.0)
    assert result.resolution_A.min() > 8.0
