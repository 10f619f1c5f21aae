import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import real_space_radius_px
from halfmap.validation.options import MaskOptions
from halfmap.validation.solvent_mask import decided_threshold, low_passed, make_mask, soft_edged

N, PIXEL_SIZE_A = 48, 3.0


def noise(seed: int, level: float) -> torch.Tensor:
    return level * torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def ball(radius: float, centre: tuple[float, float, float] = (0, 0, 0)) -> torch.Tensor:
    axis = torch.arange(N, dtype=torch.float32) - N // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    distance = ((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).sqrt()
    return (distance < radius).float()


def radius() -> torch.Tensor:
    return real_space_radius_px((N, N, N))


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("grey", [1.0, 1e-4, 300.0])
def test_a_ball_is_found_at_any_grey_scale_and_noise(level, grey):
    made = make_mask(grey * (ball(10) + noise(0, level)), PIXEL_SIZE_A, MaskOptions())
    assert made.mask[radius() < 10].min() == 1.0
    assert made.mask[radius() > 10 + 3 + 6 + 3].max() == 0.0
    assert made.pieces == 1
    found = (3 * made.volume_frac * N**3 / (4 * np.pi)) ** (1 / 3)
    assert 9.0 < found < 12.5


def test_the_edge_is_soft_and_falls_outwards():
    mask = soft_edged(ball(8).numpy() > 0, 3.0, 6.0)
    line = mask[N // 2, N // 2, N // 2 :]
    assert (np.diff(line) <= 0).all()
    assert (line[:11] == 1).all()
    assert line[13] == pytest.approx(0.5, abs=0.01)  # solid to 7, 3 further, and half of 6
    assert (line[16:] == 0).all()
    assert set(np.unique(soft_edged(ball(8).numpy() > 0, 3.0, 0.0))) == {0.0, 1.0}


def test_widths_are_in_angstrom():
    wide = make_mask(ball(8), PIXEL_SIZE_A, MaskOptions(mask_extend_A=12.0, mask_soft_edge_A=6.0))
    narrow = make_mask(ball(8), PIXEL_SIZE_A, MaskOptions(mask_extend_A=3.0, mask_soft_edge_A=6.0))
    reach = [float(radius()[m.mask > 0.99].max()) for m in (wide, narrow)]
    assert reach[0] - reach[1] == pytest.approx(3.0, abs=0.7)


def test_specks_are_dropped_and_large_parts_are_kept():
    volume = ball(8, (-9, 0, 0)) + ball(6, (11, 0, 0)) + ball(2, (0, 17, 0))
    made = make_mask(volume, PIXEL_SIZE_A, MaskOptions(mask_extend_A=0.0, mask_soft_edge_A=0.0, mask_low_pass_A=9.0))
    assert made.pieces == 2
    at = N // 2
    assert made.mask[at, at, at - 9] == 1
    assert made.mask[at, at, at + 11] == 1
    assert made.mask[at, at + 17, at] == 0


def test_weak_parts_stay_within():
    """A domain of half the density of the rest is not cut off."""
    made = make_mask(ball(9, (-6, 0, 0)) + 0.5 * ball(6, (9, 0, 0)) + noise(1, 0.2), PIXEL_SIZE_A, MaskOptions())
    assert made.mask[ball(6, (9, 0, 0)) > 0].mean() > 0.95


def test_a_threshold_can_be_given():
    made = make_mask(ball(10), PIXEL_SIZE_A, MaskOptions(mask_threshold=0.9))
    assert made.threshold == 0.9
    assert made.threshold_source == "given"
    with pytest.raises(HalfmapError, match="nothing of the low-passed map") as caught:
        make_mask(ball(10), PIXEL_SIZE_A, MaskOptions(mask_threshold=5.0))
    assert caught.value.code == "no-mask"
    with pytest.raises(HalfmapError, match="all of the low-passed map"):
        make_mask(ball(10), PIXEL_SIZE_A, MaskOptions(mask_threshold=-5.0))


def test_the_threshold_lies_between_two_clear_levels():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.normal(0, 0.02, 9000), generator.normal(1, 0.05, 1000)])
    threshold, source = decided_threshold(values)
    assert 0.08 < threshold < 0.9
    assert source == "otsu"
    threshold, source = decided_threshold(generator.normal(0, 1, 10000))
    assert source == "solvent noise"


def test_the_low_pass_filter_keeps_what_is_coarser():
    axis = torch.arange(N, dtype=torch.float32) / N
    coarse, fine = (torch.cos(2 * np.pi * k * axis).expand(N, N, N) for k in (4, 14))
    filtered = low_passed(coarse + fine, PIXEL_SIZE_A, N * PIXEL_SIZE_A / 8)
    torch.testing.assert_close(filtered, coarse, atol=1e-4, rtol=0)
