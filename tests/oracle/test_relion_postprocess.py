"""The same half-maps and mask through relion_postprocess: the same curves and the same resolution."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.data.records import HalfMaps, Volume
from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.io.mrc import write_volume
from halfmap.io.star import StarBlock, read_star
from halfmap.postprocess.combine import Postprocessed, postprocess
from halfmap.postprocess.files import fsc_block, write_postprocessed
from halfmap.postprocess.options import PostprocessOptions
from halfmap.validation.guinier import guinier_fit

pytestmark = pytest.mark.oracle

N, PIXEL_SIZE_A = 64, 1.5


def half_maps(b_factor_A2: float, level: float) -> HalfMaps:
    """Rough structure in a ball, blurred, with independent noise in each half."""
    generator = torch.Generator().manual_seed(0)
    radius, frequency = real_space_radius_px((N, N, N)), radius_px((N, N, N)) / (N * PIXEL_SIZE_A)
    signal = (radius < 17) * (1.0 + torch.randn(N, N, N, generator=generator))
    blurred = torch.fft.irfftn(torch.fft.rfftn(signal) * torch.exp(-b_factor_A2 / 4 * frequency**2), s=(N, N, N))
    first, second = (blurred + level * torch.randn(N, N, N, generator=generator) for _ in range(2))
    return HalfMaps(Volume(first.numpy(), PIXEL_SIZE_A), Volume(second.numpy(), PIXEL_SIZE_A))


def both(folder: Path, relion: Path, maps: HalfMaps) -> tuple[Postprocessed, dict[str, StarBlock]]:
    (folder / "relion").mkdir()  # RELION touches its log files beside the output
    ours = postprocess(maps, PostprocessOptions(), None)
    write_postprocessed(ours, maps.half1, folder)
    write_volume(folder / "half1_class001_unfil.mrc", maps.half1)
    write_volume(folder / "half2_class001_unfil.mrc", maps.half2)
    command = [
        str(relion / "relion_postprocess"), "--i", "half1_class001_unfil.mrc", "--i2", "half2_class001_unfil.mrc",
        "--mask", "mask.mrc", "--o", "relion/pp", "--angpix", str(PIXEL_SIZE_A), "--auto_bfac", "--autob_lowres", "10",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    types = dict.fromkeys(fsc_block(ours.curves), "float")
    return ours, read_star(folder / "relion" / "pp.star", lambda name: types if name == "fsc" else {})


@pytest.mark.parametrize(("b_factor_A2", "level"), [(60.0, 0.3), (150.0, 0.1)])
def test_the_same_half_maps_have_the_same_resolution_and_curves(tmp_path, relion, b_factor_A2, level):
    ours, theirs = both(tmp_path, relion, half_maps(b_factor_A2, level))
    table = theirs["fsc"]
    # RELION counts the plane kx = 0 twice as much as the rest, which makes the difference.
    np.testing.assert_allclose(table["rlnFourierShellCorrelationUnmaskedMaps"], ours.curves.unmasked, atol=0.015)
    np.testing.assert_allclose(table["rlnFourierShellCorrelationMaskedMaps"], ours.curves.masked, atol=0.015)
    corrected = table["rlnFourierShellCorrelationCorrected"]
    np.testing.assert_allclose(corrected, ours.curves.corrected, atol=0.08)  # each draws its own random phases
    their_resolution_A = float(theirs["general"]["rlnFinalResolution"][0])
    box_A = N * PIXEL_SIZE_A
    assert abs(box_A / their_resolution_A - box_A / ours.resolution_A) <= 1.0
    assert float(theirs["general"]["rlnRandomiseFrom"][0]) == pytest.approx(
        box_A / ours.curves.randomised_from_shell, rel=1e-3
    )


def test_the_b_factor_is_nearer_to_the_truth_than_relions(tmp_path, relion):
    """RELION weights the unmasked mean by the masked FSC, so that the solvent's noise flattens its fit."""
    ours, theirs = both(tmp_path, relion, half_maps(100.0, 0.1))
    truth = guinier_fit(torch.from_numpy(half_maps(100.0, 0.0).half1.data), PIXEL_SIZE_A, ours.resolution_A).b_factor_A2
    applied = -float(theirs["general"]["rlnBfactorUsedForSharpening"][0])
    assert truth is not None
    assert ours.sharpened.b_factor_A2 == pytest.approx(truth, rel=0.1)
    assert abs(ours.sharpened.b_factor_A2 - truth) < abs(applied - truth)
    assert 0.3 * truth < applied < 1.5 * truth


def test_our_table_has_relions_labels(tmp_path, relion):
    _, theirs = both(tmp_path, relion, half_maps(60.0, 0.3))
    ours = read_star(tmp_path / "fsc.star")
    assert set(ours["fsc"]) <= set(theirs["fsc"])
    assert set(ours["general"]) <= set(theirs["general"])
    assert set(ours["guinier"]) <= set(theirs["guinier"])
