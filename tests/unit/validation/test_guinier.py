import numpy as np
import pytest
import torch

from halfmap.fourier.grid import radius_px
from halfmap.fourier.shells import shell_index_3d, spread
from halfmap.validation.guinier import guinier_fit

N, PIXEL_SIZE_A = 64, 1.5


def falling_off(b_factor_A2: float) -> torch.Tensor:
    noise = torch.randn(N, N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    frequency = radius_px((N, N, N)) / (N * PIXEL_SIZE_A)
    return torch.fft.irfftn(torch.fft.rfftn(noise) * torch.exp(-b_factor_A2 / 4 * frequency**2), s=(N, N, N))


@pytest.mark.parametrize("b_factor_A2", [0.0, 80.0, 200.0])
def test_a_known_falloff_is_found(b_factor_A2):
    fit = guinier_fit(falling_off(b_factor_A2), PIXEL_SIZE_A, 3.2)
    assert fit.b_factor_A2 == pytest.approx(b_factor_A2, abs=3.0)
    assert fit.inverse_d_squared[-1] == pytest.approx(1 / 9.0)
    line = fit.intercept - fit.b_factor_A2 / 4 * fit.inverse_d_squared
    fitted = (fit.inverse_d_squared > 0.01) & (fit.inverse_d_squared < 1 / 3.2**2)
    assert np.abs(line - fit.ln_amplitude)[fitted].max() < 0.1


def test_weights_undo_themselves():
    weight = torch.exp(-torch.linspace(0, 1, N // 2 + 1, dtype=torch.float64))
    weighted_ft = torch.fft.rfftn(falling_off(100.0)) / spread(weight, shell_index_3d(N), 1.0)
    fit = guinier_fit(torch.fft.irfftn(weighted_ft, s=(N, N, N)), PIXEL_SIZE_A, 3.2, weight)
    assert fit.b_factor_A2 == pytest.approx(100.0, abs=3.0)


def test_a_fit_must_reach_well_past_its_beginning():
    """However many shells a large box puts there."""
    volume = torch.nn.functional.pad(falling_off(100.0), (N,) * 6)
    assert guinier_fit(volume, PIXEL_SIZE_A, 7.4).b_factor_A2 is None
    assert guinier_fit(volume, PIXEL_SIZE_A, 6.9).b_factor_A2 is not None


def test_a_coarse_map_has_no_b_factor():
    fit = guinier_fit(falling_off(100.0), PIXEL_SIZE_A, 8.5)
    assert fit.b_factor_A2 is None
    assert fit.intercept is None
    assert np.isnan(guinier_fit(torch.zeros(N, N, N), PIXEL_SIZE_A, 4.0).ln_amplitude).all()
