"""Sharpening, the whole of post-processing, and what it writes."""

import math

import numpy as np
import pytest
import torch

from halfmap.data.records import HalfMaps, Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import fsc
from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.io.mrc import read_volume
from halfmap.io.star import read_star
from halfmap.postprocess.combine import agreeing_half_maps, postprocess
from halfmap.postprocess.files import fsc_block, write_postprocessed
from halfmap.postprocess.options import PostprocessOptions
from halfmap.postprocess.sharpen import fsc_weight, sharpen
from halfmap.validation.noise_control import is_noise
from halfmap.validation.solvent_mask import low_passed

N, PIXEL_SIZE_A = 64, 1.5
B_FACTOR_A2 = 80.0


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def frequency() -> torch.Tensor:
    return radius_px((N, N, N)) / (N * PIXEL_SIZE_A)


def truth() -> torch.Tensor:
    """White structure (B = 0) within a ball, on a pedestal that makes the ball stand out from the solvent."""
    inside = (real_space_radius_px((N, N, N)) < 16).float()
    return inside * (1.0 + noise(99))


def blurred(volume: torch.Tensor, b_factor_A2: float) -> torch.Tensor:
    ft = torch.fft.rfftn(volume) * torch.exp(-b_factor_A2 / 4 * frequency() ** 2)
    return torch.fft.irfftn(ft, s=(N, N, N))


def halves(level: float = 0.1) -> HalfMaps:
    signal = blurred(truth(), B_FACTOR_A2)
    first, second = ((signal + level * noise(seed)).numpy() for seed in (1, 2))
    return HalfMaps(Volume(first, PIXEL_SIZE_A), Volume(second, PIXEL_SIZE_A))


def test_the_weight_is_the_correlation_expected_with_the_truth():
    curve = torch.tensor([1.0, 0.5, 1 / 7, 0.0, -0.1, 0.3], dtype=torch.float64)
    expected = torch.tensor([1.0, math.sqrt(2 / 3), 0.5, 0.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(fsc_weight(curve), expected)


def white() -> torch.Tensor:
    """Structure whose amplitudes do not fall off."""
    return (real_space_radius_px((N, N, N)) < 16).float() * noise(99)


PERFECT = torch.ones(N // 2 + 1, dtype=torch.float64)
EVERYWHERE = torch.ones(N, N, N)


def test_sharpening_restores_the_amplitudes():
    result = sharpen(blurred(white(), B_FACTOR_A2), PIXEL_SIZE_A, PERFECT, 3.5, EVERYWHERE)
    assert result.b_factor_A2 == pytest.approx(B_FACTOR_A2, abs=4.0)
    ratio = torch.fft.rfftn(result.volume).abs() / torch.fft.rfftn(white()).abs().clamp(min=1e-3)
    within, beyond = frequency() < 1 / 3.7, frequency() > 1 / 3.2
    assert float(ratio[within].median()) == pytest.approx(1.0, abs=0.05)
    assert torch.fft.rfftn(result.volume).abs()[beyond].max() < 1e-2


def test_a_coarse_map_is_not_sharpened_and_says_so():
    result = sharpen(blurred(white(), 80.0), PIXEL_SIZE_A, PERFECT, 9.0, EVERYWHERE)
    assert result.b_factor_A2 == 0.0
    assert "too little" in result.b_factor_source
    rising = sharpen(blurred(white(), -80.0), PIXEL_SIZE_A, PERFECT, 4.0, EVERYWHERE)
    assert rising.b_factor_A2 == 0.0
    assert "do not fall off" in rising.b_factor_source
    given = sharpen(blurred(white(), 80.0), PIXEL_SIZE_A, PERFECT, 9.0, EVERYWHERE, b_factor_A2=50.0)
    assert (given.b_factor_A2, given.b_factor_source) == (50.0, "given")


def test_the_mean_comes_nearer_to_the_truth():
    maps = halves()
    result = postprocess(maps, PostprocessOptions(), None)
    assert not is_noise(result.verdicts)
    assert result.resolution_A < 6.0
    assert result.sharpened.low_pass_A == pytest.approx(result.resolution_A)
    mean = torch.from_numpy(maps.half1.data + maps.half2.data) / 2
    shell = int(N * PIXEL_SIZE_A / result.resolution_A) - 1
    before = float(torch.corrcoef(torch.stack((mean.flatten(), truth().flatten())))[0, 1])
    masked = result.sharpened.volume * result.mask
    after = float(torch.corrcoef(torch.stack((masked.flatten(), truth().flatten())))[0, 1])
    assert after > before + 0.02
    # What the curve promises holds against the truth, sqrt(2 FSC / (1 + FSC)).
    promised = fsc_weight(torch.from_numpy(result.curves.corrected))
    against_truth = fsc(mean * result.mask, truth() * result.mask)
    assert (against_truth - promised)[4:shell].abs().mean() < 0.05
    assert float(against_truth[shell]) == pytest.approx(float(promised[shell]), abs=0.12)


def test_a_given_mask_is_used_and_checked():
    maps = halves()
    mask = Volume((real_space_radius_px((N, N, N)) < 20).float().numpy(), PIXEL_SIZE_A)
    result = postprocess(maps, PostprocessOptions(), mask)
    assert result.mask_made is None
    np.testing.assert_array_equal(result.mask.numpy(), mask.data)
    for wrong, words in (
        (Volume(mask.data[:-2, :-2, :-2], PIXEL_SIZE_A), "shape"),
        (Volume(mask.data, 1.6), "ratio 1.0667"),
        (Volume(mask.data * 40, PIXEL_SIZE_A), "0 to 40, not from 0 to 1"),
        (Volume(mask.data * 0, PIXEL_SIZE_A), "not from 0 to 1"),
    ):
        with pytest.raises(HalfmapError, match=words):
            postprocess(maps, PostprocessOptions(), wrong)


def test_halves_that_are_no_pair_are_refused():
    maps = halves()
    with pytest.raises(HalfmapError, match="one and the same"):
        agreeing_half_maps(maps.half1, Volume(maps.half1.data.copy(), PIXEL_SIZE_A))
    with pytest.raises(HalfmapError, match=r"ratio 1\.0667"):
        agreeing_half_maps(maps.half1, Volume(maps.half2.data, 1.6))
    with pytest.raises(HalfmapError, match="cubic"):
        agreeing_half_maps(Volume(maps.half1.data[:4], 1.0), Volume(maps.half2.data[:4], 1.0))
    with pytest.raises(HalfmapError, match="shape"):
        agreeing_half_maps(maps.half1, Volume(maps.half2.data[:4], 1.5))
    assert agreeing_half_maps(maps.half1, maps.half2).half1 is maps.half1


def test_noise_in_a_warning_out(tmp_path):
    """Noise that is stronger within a ball, as reconstructions of nothing are."""
    shape = 1.0 / (1.0 + (real_space_radius_px((N, N, N)) / 16) ** 8)
    maps = HalfMaps(*(Volume((shape * noise(seed)).numpy(), PIXEL_SIZE_A) for seed in (11, 12)))
    mask = Volume((real_space_radius_px((N, N, N)) < 18).float().numpy(), PIXEL_SIZE_A)
    result = postprocess(maps, PostprocessOptions(), mask)
    assert is_noise(result.verdicts)
    assert write_postprocessed(result, maps.half1, tmp_path)["low_pass_A"] == 15.0
    # What is written is a map all the same, which people can look at.
    assert torch.isfinite(result.sharpened.volume).all()
    coarse = low_passed(torch.from_numpy(maps.half1.data + maps.half2.data) / 2, PIXEL_SIZE_A, 15.0)
    torch.testing.assert_close(result.sharpened.volume, coarse, atol=0.3 * float(coarse.std()), rtol=0)


def test_files_hold_what_was_found(tmp_path):
    maps = halves()
    result = postprocess(maps, PostprocessOptions(), None)
    figures = write_postprocessed(result, maps.half1, tmp_path)
    assert figures["resolution_A"] == pytest.approx(result.resolution_A)
    assert figures["mask_threshold_source"] in ("otsu", "solvent noise")
    written = read_volume(tmp_path / "map.mrc")
    np.testing.assert_array_equal(written.data, result.sharpened.volume.numpy())
    assert written.pixel_size_A == pytest.approx(PIXEL_SIZE_A)
    assert read_volume(tmp_path / "mask.mrc").data.max() == 1.0
    types = dict.fromkeys(fsc_block(result.curves), "float")
    blocks = read_star(tmp_path / "fsc.star", lambda name: types if name == "fsc" else {})
    table = blocks["fsc"]
    np.testing.assert_array_equal(table["rlnFourierShellCorrelationCorrected"], result.curves.corrected)
    np.testing.assert_allclose(table["rlnAngstromResolution"][1:] * table["rlnResolution"][1:], 1.0)
    assert float(blocks["general"]["rlnFinalResolution"][0]) == pytest.approx(result.resolution_A)
    assert set(blocks) == {"general", "fsc", "guinier", "directional"}
