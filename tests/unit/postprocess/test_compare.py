"""A map against a reference: what is read from curves of hollow particles."""

import torch

from halfmap.data.records import Volume
from halfmap.fourier.fsc import correlation_of_transforms, fsc, joined_shells, resolution_A
from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.postprocess.compare import compare_maps
from halfmap.postprocess.options import CompareOptions
from halfmap.validation.solvent_mask import low_passed

N, PIXEL_SIZE_A = 48, 4.0


def noise(seed: int) -> torch.Tensor:
    return torch.randn(N, N, N, generator=torch.Generator().manual_seed(seed))


def hollow() -> torch.Tensor:
    """A thin shell in a box three times as wide: its third Fourier shell has no power; fine structure on it."""
    radius = real_space_radius_px((N, N, N))
    shell = torch.exp(-((radius - 8) ** 2) / 2)
    fine = noise(0) - low_passed(noise(0), PIXEL_SIZE_A, 20.0)
    return shell * (1 + 2 * fine)


def test_a_shell_without_power_is_no_disagreement():
    reference = hollow()
    kept = torch.where(radius_px((N, N, N)) < N * PIXEL_SIZE_A / 11, 1.0, 0.1)
    measured = torch.fft.irfftn(torch.fft.rfftn(reference) * kept, s=(N, N, N)) + 0.3 * noise(1)
    measured += 2 * low_passed(noise(2), PIXEL_SIZE_A, 25.0)
    options = CompareOptions(symmetry="C1", align_resolution_A=20.0, either_hand=False)
    found = compare_maps(Volume(measured.numpy(), PIXEL_SIZE_A), reference, options)
    by_shell = resolution_A(torch.as_tensor(found.fsc_masked), 0.5, N, PIXEL_SIZE_A)
    assert by_shell > 25.0
    assert 9.0 < found.resolution_A < 12.0


def test_shells_are_summed_as_far_as_the_mask_joins_them():
    radius = real_space_radius_px((N, N, N))
    assert joined_shells((radius < 8).float()) == 2
    assert joined_shells((radius < 23).float()) == 1
    a, b = noise(2), noise(2) + noise(3)
    a_ft, b_ft = torch.fft.rfftn(a), torch.fft.rfftn(b)
    assert float((correlation_of_transforms(a_ft, b_ft, reach=2)[5:] - fsc(a, b)[5:]).abs().max()) < 0.1
    assert float((correlation_of_transforms(a_ft, a_ft, reach=2) - 1).abs().max()) < 1e-6
