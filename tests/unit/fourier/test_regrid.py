import math

import pytest
import torch

from halfmap.fourier.regrid import regrid_3d


def gaussian(n: int, pixel_size_A: float, sigma_A: float = 9.0) -> torch.Tensor:
    """A blob off centre, as a function of position in Å."""
    axis = (torch.arange(n, dtype=torch.float64) - n // 2) * pixel_size_A
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return torch.exp(-((x - 7) ** 2 + (y + 5) ** 2 + (z - 3) ** 2) / (2 * sigma_A**2))


@pytest.mark.parametrize(("n_out", "pixel_out_A"), [(40, 3.1), (31, 4.0), (64, 1.7), (48, 2.5)])
def test_a_smooth_map_is_the_same_function_of_position_on_every_grid(n_out, pixel_out_A):
    moved = regrid_3d(gaussian(48, 2.5), 2.5, n_out, pixel_out_A)
    expected = gaussian(n_out, pixel_out_A)
    inside = torch.ones_like(expected, dtype=torch.bool)
    if n_out * pixel_out_A > 120:  # Beyond the input's own box there is nothing.
        axis = ((torch.arange(n_out) - n_out // 2) * pixel_out_A).abs() < 55
        inside = axis[:, None, None] & axis[None, :, None] & axis[None, None, :]
    assert float((moved - expected)[inside].abs().max()) < 2e-3


def test_a_wave_beyond_the_new_nyquist_frequency_is_gone():
    axis = torch.arange(32, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * axis * 12 / 32).expand(32, 32, 32)
    assert float(regrid_3d(wave, 1.0, 16, 2.0).abs().max()) < 1e-9
