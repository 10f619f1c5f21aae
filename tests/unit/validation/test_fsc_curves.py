import math

import numpy as np
import pytest
import torch

from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.validation.fsc_curves import corrected_for_mask, fsc_beyond, fsc_curves, randomised_phases

N, PIXEL_SIZE_A = 48, 2.0


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def sphere(radius: float, edge: float) -> torch.Tensor:
    return (1.0 - (real_space_radius_px((N, N, N)) - radius) / edge).clamp(0, 1)


def signal(cut_shell: float) -> torch.Tensor:
    """Structure inside a ball that ends at a shell of the Fourier transform."""
    ft = torch.fft.rfftn(noise(99) * sphere(12, 3)) * torch.exp(-((radius_px((N, N, N)) / cut_shell) ** 4))
    return torch.fft.irfftn(ft, s=(N, N, N)) * 3


def halves(cut_shell: float = 12.0, level: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    return signal(cut_shell) + level * noise(1), signal(cut_shell) + level * noise(2)


def test_a_mask_lifts_the_curve_and_the_resolution_lies_where_the_signal_ends():
    curves = fsc_curves(*halves(), PIXEL_SIZE_A, sphere(15, 6))
    middle = slice(5, 12)
    assert (curves.masked[middle] > curves.unmasked[middle] - 0.01).all()
    assert curves.resolution_A() <= curves.unmasked_resolution_A()
    expected = N * PIXEL_SIZE_A / 15.0
    assert abs(curves.resolution_A() - expected) < 1.5
    assert curves.unmasked.shape == (N // 2 + 1,)
    assert curves.unmasked.dtype == np.float64
    assert curves.frequency_per_A()[-1] == pytest.approx(0.25)


def test_a_tight_mask_deceives_the_masked_curve_and_not_the_corrected_one():
    """Pure noise within a small hard mask: masked FSC of independent noise stays near zero, but common
    masks on noise with a mean do correlate; the correction takes that off."""
    common = 0.6 * torch.ones(N, N, N)
    mask = (noise(5) > 1.0).float() * (real_space_radius_px((N, N, N)) < 10)
    curves = fsc_curves(common + noise(1), common + noise(2), PIXEL_SIZE_A, mask)
    beyond = slice(5, N // 2)
    assert curves.masked[beyond].mean() > 0.15
    assert abs(curves.corrected[beyond].mean()) < 0.6 * curves.masked[beyond].mean()


def test_what_a_mask_spreads_of_a_shared_map_is_no_agreement_beyond_it():
    """Noise that was aligned to one strong map shares it up to a shell; a tight mask carries that further."""
    shared = torch.fft.rfftn(noise(99)) * (radius_px((N, N, N)) < 8.5)
    common = 12 * torch.fft.irfftn(shared, s=(N, N, N))
    mask = sphere(9, 5)
    first, second = common + noise(1), common + noise(2)
    stated = fsc_curves(first, second, PIXEL_SIZE_A, mask).corrected
    own = fsc_beyond(first, second, mask, 8)
    assert stated[10] > 0.8
    assert (own[:9] == 1).all()
    assert float(own[9:16].max()) < 0.143
    own = fsc_beyond(*halves(14.0), sphere(15, 6), 8)
    assert float(own[9:13].min()) > 0.3


def test_phases_are_randomised_only_beyond_the_shell_and_amplitudes_are_kept():
    transform = torch.fft.rfftn(noise(3))
    changed = randomised_phases(transform, 10, seed=0)
    inner = radius_px((N, N, N)) < 9.4
    assert torch.equal(changed[inner], transform[inner])
    torch.testing.assert_close(changed.abs(), transform.abs(), rtol=1e-4, atol=1e-4)
    outer = radius_px((N, N, N)) > 10.5
    cosine = torch.cos(changed.angle() - transform.angle())[outer]
    assert abs(float(cosine.mean())) < 0.02
    again = torch.fft.rfftn(torch.fft.irfftn(changed, s=(N, N, N)))
    torch.testing.assert_close(again, changed, rtol=1e-3, atol=1e-2)  # still the transform of a real volume


def test_the_correction_is_chens_formula():
    masked, randomised = torch.linspace(1, 0, 9).double(), torch.full((9,), 0.2).double()
    corrected = corrected_for_mask(masked, randomised, 5)
    torch.testing.assert_close(corrected[:5], masked[:5])
    torch.testing.assert_close(corrected[5:], (masked[5:] - 0.2) / 0.8)


def test_without_a_mask_all_curves_are_the_unmasked_one():
    curves = fsc_curves(*halves(), PIXEL_SIZE_A)
    assert not curves.has_mask
    np.testing.assert_array_equal(curves.corrected, curves.unmasked)
    assert curves.phase_randomised.max() == 0
    assert curves.mask_fraction == 1.0


def test_noise_has_no_resolution():
    curves = fsc_curves(noise(1), noise(2), PIXEL_SIZE_A)
    assert curves.unmasked_resolution_A() > 30.0
    empty = fsc_curves(noise(1), torch.zeros(N, N, N), PIXEL_SIZE_A)
    assert empty.resolution_A() == math.inf


def test_curves_repeat():
    mask = sphere(15, 6)
    first, again = fsc_curves(*halves(), PIXEL_SIZE_A, mask, seed=3), fsc_curves(*halves(), PIXEL_SIZE_A, mask, seed=3)
    np.testing.assert_array_equal(first.phase_randomised, again.phase_randomised)
