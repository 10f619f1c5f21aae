import numpy as np
import pytest
import torch

from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.geometry.rotations import matrix_from_euler, random_rotations
from halfmap.validation.directional import directional_fsc
from halfmap.validation.fsc_curves import FscCurves, fsc_curves
from halfmap.validation.noise_control import is_noise, judge, significant_shells
from halfmap.validation.orientations import orientation_cover

N, PIXEL_SIZE_A = 48, 2.0


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def low_passed(volume: torch.Tensor, shell: float) -> torch.Tensor:
    ft = torch.fft.rfftn(volume) * torch.exp(-((radius_px((N, N, N)) / shell) ** 4))
    return torch.fft.irfftn(ft, s=(N, N, N))


def ball(radius: float, edge: float) -> torch.Tensor:
    return (1.0 - (real_space_radius_px((N, N, N)) - radius) / edge).clamp(0, 1)


def codes(curves: FscCurves, **more: object) -> set[str]:
    return {verdict.code for verdict in judge(curves, **more)}


def halves(shell: float, level: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    signal = 3 * low_passed(noise(9) * ball(14, 3), shell)
    return signal + level * noise(1), signal + level * noise(2)


def test_an_honest_map_passes():
    curves = fsc_curves(*halves(12.0), PIXEL_SIZE_A, ball(17, 6))
    assert codes(curves, shared_reference_A=40.0) == set()


@pytest.mark.parametrize("seed", range(5))
def test_independent_noise_is_called_noise(seed):
    first, second = noise(100 + seed), noise(200 + seed)
    for mask in (None, ball(17, 6)):
        verdicts = judge(fsc_curves(first, second, PIXEL_SIZE_A, mask))
        assert is_noise(verdicts)


def test_noise_aligned_to_one_reference_is_called_noise():
    """Both halves carry the reference that they started from, and nothing else."""
    reference = 5 * low_passed(noise(9) * ball(14, 3), 6.0)
    curves = fsc_curves(reference + noise(1), reference + noise(2), PIXEL_SIZE_A)
    start_A = N * PIXEL_SIZE_A / 6.0
    assert "no-better-than-reference" in codes(curves, shared_reference_A=start_A)
    assert is_noise(judge(curves, shared_reference_A=start_A))
    # A finer structure than the reference's is the data's own.
    assert not is_noise(judge(fsc_curves(*halves(12.0), PIXEL_SIZE_A), shared_reference_A=start_A))


def test_halves_that_share_noise_do_not_fall_to_zero():
    common = noise(7)
    curves = fsc_curves(common + noise(1), common + noise(2), PIXEL_SIZE_A)
    assert "not-zero-at-nyquist" in codes(curves)


def test_a_mask_that_makes_noise_correlate_is_named():
    first, second = halves(12.0)
    mask = ((noise(5) > 1.0) & (real_space_radius_px((N, N, N)) < 14)).float()
    curves = fsc_curves(first + 3.0, second + 3.0, PIXEL_SIZE_A, mask)
    assert "mask-correlates" in codes(curves)


def test_a_curve_that_rises_again_is_named():
    shells = np.arange(N // 2 + 1)
    curve = np.where(shells < 8, 1.0, np.where((shells > 14) & (shells < 18), 0.5, 0.0))
    curves = FscCurves(N, PIXEL_SIZE_A, curve, curve, np.zeros_like(curve), curve, 8, False, 1.0)
    assert codes(curves) == {"rises-again"}


def test_directions_and_views_are_judged():
    curves = fsc_curves(*halves(12.0), PIXEL_SIZE_A)
    even = orientation_cover(random_rotations(5000, torch.Generator().manual_seed(0)))
    top = orientation_cover(matrix_from_euler(torch.rand(3000) * 6.28, 0.2, 0.0))
    assert codes(curves, orientations=even) == set()
    assert codes(curves, orientations=top) == {"preferred-orientation"}
    fz = torch.fft.fftfreq(N)[:, None, None]
    smeared = [
        torch.fft.irfftn(torch.fft.rfftn(h) * torch.exp(-((fz / 0.08) ** 4)), s=(N, N, N)) for h in halves(14, 0)
    ]
    smeared = [h + 0.2 * noise(i) for i, h in enumerate(smeared)]
    assert "anisotropic" in codes(curves, directional=directional_fsc(*smeared, PIXEL_SIZE_A))
    assert codes(curves, directional=directional_fsc(*halves(12.0), PIXEL_SIZE_A)) == set()


def test_few_pixels_in_a_cone_give_no_verdict_on_directions():
    """Equal noise everywhere within a small mask: the cones differ, but only by chance."""
    mask = ball(9, 5)
    first, second = halves(5.0, level=1.0)
    curves = fsc_curves(first, second, PIXEL_SIZE_A, mask)
    directional = directional_fsc(first * mask, second * mask, PIXEL_SIZE_A)
    assert directional.area_ratio < 0.6
    assert "anisotropic" not in codes(curves, directional=directional)


def test_significant_shells_counts_to_the_first_chance_value():
    shells = np.arange(N // 2 + 1)
    curve = np.where(shells < 9, 0.9, 0.1)
    assert significant_shells(FscCurves(N, 1.0, curve, curve, 0 * curve, curve, 9, False, 1.0)) == 8
