"""Slices: closed-form truth, exact adjoints, symmetry, and the fast twin against the slow one in float64."""

import math

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.fourier import slices, slices_fast, slicing
from halfmap.fourier.crop import crop_rfftn, pad_3d
from halfmap.fourier.grid import friedel_weight
from halfmap.fourier.pixels import pixel_list
from halfmap.fourier.slices import empty_volume_ft, finish_volume, prepare_volume
from halfmap.fourier.transform import centred_irfft2, centred_irfftn, centred_rfft2, centred_rfftn
from halfmap.geometry.rotations import in_plane, matrix_from_euler, random_rotations
from halfmap.geometry.symmetry import point_group

IMPLEMENTATIONS = {"torch": slices, "numba": slices_fast}
CENTRES = torch.tensor([[4.0, 0.0, 0.0], [0.0, -5.0, 2.0], [-2.0, 3.0, -4.5]], dtype=torch.float64)  # x, y, z
AMPLITUDES = torch.tensor([1.0, 0.7, -0.5], dtype=torch.float64)
WIDTH_PX = 2.2


def rotations(n: int, seed: int = 0) -> torch.Tensor:
    return random_rotations(n, torch.Generator().manual_seed(seed))


def complex_noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex128)


def gaussians(n: int) -> torch.Tensor:
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    grid = torch.stack((x, y, z), -1)
    squared = (grid[..., None, :] - CENTRES).square().sum(-1)
    return (AMPLITUDES * torch.exp(-squared / (2 * WIDTH_PX**2))).sum(-1)


def projections(n: int, rot: torch.Tensor) -> torch.Tensor:
    """The line integrals along z of the Gaussians, each moved to ``rot @ centre``."""
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    seen = CENTRES @ rot.mT
    gx = torch.exp(-((axis - seen[..., 0, None]) ** 2) / (2 * WIDTH_PX**2))
    gy = torch.exp(-((axis - seen[..., 1, None]) ** 2) / (2 * WIDTH_PX**2))
    scale = AMPLITUDES * WIDTH_PX * math.sqrt(2 * math.pi)
    return torch.einsum("g,ngy,ngx->nyx", scale, gy, gx)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize("n", [32, 33])
def test_slices_are_the_projections_of_gaussians(n, name):
    rot = rotations(8)
    pixels = pixel_list(n, n / 2 - 1)
    volume_ft = prepare_volume(gaussians(n), n / 2 - 1)
    found = IMPLEMENTATIONS[name].extract_pixels(volume_ft, rot, pixels)
    expected = pixels.gather(centred_rfft2(projections(n, rot)))
    assert (found - expected).norm() / expected.norm() < 0.015
    finer = IMPLEMENTATIONS[name].extract_pixels(prepare_volume(gaussians(n), n / 2 - 1, 4.0), rot, pixels, 4.0)
    assert (finer - expected).norm() < 0.35 * (found - expected).norm()


@pytest.mark.parametrize("n", [15, 16])
@pytest.mark.parametrize("padding", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("reach", [0.3, 0.5, 0.8])
def test_transforms_by_axes_equal_the_whole_padded_one(n, padding, reach):
    volume = torch.randn(n, n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    edge, kept = slices.padded_edge(n, padding), slices.volume_edge(reach * n, padding)
    envelope = slices.gridding_envelope(n, padding)
    envelope = envelope[:, None, None] * envelope[:, None] * envelope
    dense = crop_rfftn(centred_rfftn(pad_3d(volume / envelope, edge)), edge, kept)
    found = prepare_volume(volume, reach * n, padding)
    torch.testing.assert_close(found, dense, rtol=0, atol=1e-10)
    back = pad_3d(centred_irfftn(crop_rfftn(dense, kept, edge), edge), n) / envelope
    torch.testing.assert_close(finish_volume(found, n, padding), back, rtol=0, atol=1e-10)
    if kept >= edge:
        torch.testing.assert_close(back, volume / envelope.square(), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
@pytest.mark.parametrize(("n", "radius", "padding"), [(16, 7.9, 2.0), (15, 7.4, 2.0), (16, 5.0, 1.0), (16, 20.0, 1.5)])
def test_insertion_is_the_adjoint_of_extraction(n, radius, padding, name):
    """⟨extract(V), s⟩ over the full plane equals ⟨V, insert(s)⟩ over the full volume, in float64."""
    rot = torch.cat((rotations(5), torch.eye(3).double()[None], matrix_from_euler(math.pi / 2, math.pi / 2, 0)[None]))
    pixels = pixel_list(n, radius)
    reach = pixels.reach_px
    edge = slices.volume_edge(reach, padding)
    volume_ft = torch.fft.rfftn(torch.randn(edge, edge, edge, dtype=torch.float64))
    values, weights = complex_noise(len(rot), len(pixels)), torch.rand(len(rot), len(pixels), dtype=torch.float64)
    values[:, 0] = values[:, 0].real.to(values.dtype)  # the origin of a real image's transform is real
    numerator = empty_volume_ft(reach, padding, torch.complex128)
    denominator = empty_volume_ft(reach, padding, torch.float64)
    IMPLEMENTATIONS[name].insert_pixels(values, weights, rot, pixels, numerator, denominator, padding)
    extracted = IMPLEMENTATIONS[name].extract_pixels(volume_ft, rot, pixels, padding)
    in_plane_product = (pixels.multiplicity * (extracted.conj() * values).real).sum()
    in_volume_product = (friedel_weight((edge,)) * (volume_ft.conj() * numerator).real).sum()
    torch.testing.assert_close(in_plane_product, in_volume_product, rtol=1e-12, atol=0)
    # Trilinear weights sum to one, so the denominator holds all the weight of the full plane.
    total = (friedel_weight((edge,)) * denominator).sum()
    torch.testing.assert_close(total, (pixels.multiplicity * weights).sum(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_what_was_inserted_is_the_transform_of_a_real_volume(name):
    pixels = pixel_list(12, 5.5)
    numerator, denominator = empty_volume_ft(5.5, 2.0, torch.complex128), empty_volume_ft(5.5, 2.0, torch.float64)
    for seed in (0, 1):  # twice, into the same accumulators
        values = complex_noise(9, len(pixels), seed=seed)
        values[:, 0] = 1.0
        IMPLEMENTATIONS[name].insert_pixels(values, values.abs(), rotations(9, seed), pixels, numerator, denominator)
    edge = len(numerator)
    again = torch.fft.rfftn(torch.fft.irfftn(numerator, s=(edge,) * 3))
    torch.testing.assert_close(again, numerator, atol=1e-12, rtol=0)
    again = torch.fft.rfftn(torch.fft.irfftn(denominator.to(torch.complex128), s=(edge,) * 3))
    torch.testing.assert_close(again.real, denominator, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_the_twins_agree(dtype):
    n, radius = 24, 11.0
    pixels, rot = pixel_list(n, radius), rotations(20)
    volume_ft = prepare_volume(torch.randn(n, n, n, dtype=torch.float64), radius)
    reference = slices.extract_pixels(volume_ft, rot, pixels)
    plain = slices.extract_pixels(volume_ft.to(dtype), rot, pixels)
    fast = slices_fast.extract_pixels(volume_ft.to(dtype), rot, pixels)
    assert fast.dtype == plain.dtype == dtype
    assert (fast - reference).norm() <= 2 * (plain - reference).norm() + 1e-13 * reference.norm()
    weights = torch.rand(20, len(pixels), dtype=torch.float64)
    results = {}
    cases = (("truth", slices, torch.complex128), ("plain", slices, dtype), ("fast", slices_fast, dtype))
    for key, module, kind in cases:
        real = torch.zeros((), dtype=kind).real.dtype
        num, den = empty_volume_ft(radius, 2.0, kind), empty_volume_ft(radius, 2.0, real)
        module.insert_pixels(reference.to(kind), weights.to(real), rot, pixels, num, den)
        results[key] = (num, den)
    for plain, fast, truth in zip(results["plain"], results["fast"], results["truth"], strict=True):
        assert (fast - truth).norm() <= 2 * (plain - truth).norm() + 1e-13 * truth.norm()


def test_threads_change_nothing_in_slices_and_repeat_in_insertion():
    pixels, rot = pixel_list(16, 7.0), rotations(11)
    volume_ft = prepare_volume(torch.randn(16, 16, 16), 7.0)
    one = slicing.extract_pixels(volume_ft, rot, pixels)
    assert torch.equal(one, slicing.extract_pixels(volume_ft, rot, pixels, threads=3))
    weights = torch.rand(one.shape)
    runs = []
    for threads in (1, 3, 3):
        num, den = empty_volume_ft(7.0, 2.0), empty_volume_ft(7.0, 2.0, torch.float32)
        slicing.insert_pixels(one, weights, rot, pixels, num, den, threads=threads)
        runs.append((num, den))
    assert torch.equal(runs[1][0], runs[2][0])
    assert torch.equal(runs[1][1], runs[2][1])
    torch.testing.assert_close(runs[0][0], runs[1][0], atol=1e-4, rtol=1e-5)


def test_turning_the_camera_turns_the_slice():
    """A quarter turn of the image frame permutes pixels exactly: rows become columns."""
    n = 17
    volume_ft = prepare_volume(torch.randn(n, n, n, dtype=torch.float64), 8.0)
    rot = rotations(3)
    image = centred_irfft2(slicing.extract_slices(volume_ft, rot, n, 8.0), n)
    turned = centred_irfft2(slicing.extract_slices(volume_ft, in_plane(math.pi / 2) @ rot, n, 8.0), n)
    # in_plane(90°) takes what is seen at (x, y) to (y, -x).
    torch.testing.assert_close(turned, image.transpose(-2, -1).flip(-2), atol=1e-9, rtol=0)


def test_opposite_views_are_mirror_images():
    volume_ft = prepare_volume(torch.randn(17, 17, 17, dtype=torch.float64), 8.0)
    rot = rotations(3)
    flipped = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)) @ rot
    image = centred_irfft2(slicing.extract_slices(volume_ft, rot, 17, 8.0), 17)
    mirrored = centred_irfft2(slicing.extract_slices(volume_ft, flipped, 17, 8.0), 17)
    torch.testing.assert_close(mirrored, image.flip(-2), atol=1e-9, rtol=0)


def test_a_symmetric_map_looks_the_same_from_equivalent_poses():
    """A and A·S show the same image of a map that S leaves unchanged, here a C4 ring of blobs."""
    n = 32
    axis = torch.arange(n, dtype=torch.float64) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    ring = torch.zeros(n, n, n, dtype=torch.float64)
    for centre in point_group("C4") @ torch.tensor([6.0, 2.0, 3.0], dtype=torch.float64):
        a, b, c = centre.tolist()
        ring += torch.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 8.0)
    pose = matrix_from_euler(0.3, 1.1, -0.4)
    equivalent = pose @ point_group("C4")
    seen = centred_irfft2(slicing.extract_slices(prepare_volume(ring, 15.0), equivalent, n, 15.0), n)
    assert (seen - seen[0]).norm() < 1e-6 * seen.norm()
    assert (seen[0] - seen[0].mT).norm() > 0.1 * seen[0].norm()


def test_slices_in_the_full_layout_are_transforms_of_real_images():
    volume_ft = prepare_volume(torch.randn(16, 16, 16, dtype=torch.float64), 7.9)
    layout = slicing.extract_slices(volume_ft, rotations(4), 16, 7.9)
    torch.testing.assert_close(torch.fft.rfft2(torch.fft.irfft2(layout, s=(16, 16))), layout, atol=1e-10, rtol=0)
    images = torch.fft.rfft2(torch.randn(4, 16, 16, dtype=torch.float64))
    num, den = empty_volume_ft(7.9, 2.0, torch.complex128), empty_volume_ft(7.9, 2.0, torch.float64)
    slicing.insert_slices(images, images.abs(), rotations(4), 7.9, num, den)
    left = (friedel_weight((16,)) * (layout.conj() * images).real).sum()
    right = (friedel_weight((len(num),)) * (volume_ft.conj() * num).real).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


def test_many_slices_give_the_volume_back():
    n = 32
    truth, rot = gaussians(n).float(), rotations(600)
    radius = n / 2 - 1
    images = centred_rfft2(projections(n, rot).float())
    num, den = empty_volume_ft(radius, 2.0), empty_volume_ft(radius, 2.0, torch.float32)
    slicing.insert_slices(images, torch.ones(images.shape), rot, radius, num, den)
    volume = finish_volume(num / den.clamp(min=1e-3), n)
    assert torch.corrcoef(torch.stack((volume.flatten(), truth.flatten())))[0, 1] > 0.999
    assert 0.98 < float((volume * truth).sum() / truth.square().sum()) < 1.02


@pytest.mark.gpu
def test_a_gpu_gives_the_same_slices_and_sums():
    if not torch.cuda.is_available():
        pytest.skip("GPU NOT TESTED: no CUDA device")
    pixels, rot = pixel_list(24, 11.0), rotations(50)
    volume_ft = prepare_volume(torch.randn(24, 24, 24), 11.0)
    weights = torch.rand(50, len(pixels))
    results = []
    for device in ("cpu", "cuda"):
        on_device = pixels.to(device)
        found = slicing.extract_pixels(volume_ft.to(device), rot.to(device), on_device)
        num, den = empty_volume_ft(11.0, 2.0, device=device), empty_volume_ft(11.0, 2.0, torch.float32, device)
        slicing.insert_pixels(found, weights.to(device), rot.to(device), on_device, num, den)
        results.append((found.cpu(), num.cpu(), den.cpu()))
    for on_cpu, on_gpu in zip(*results, strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-4, atol=1e-4 * float(on_cpu.abs().max()))


def test_gradients_flow_through_the_torch_path():
    volume_ft = prepare_volume(torch.randn(8, 8, 8, dtype=torch.float64), 3.0)
    rot = rotations(2).requires_grad_()
    pixels = pixel_list(8, 3.0)
    assert torch.autograd.gradcheck(lambda r: slicing.extract_pixels(volume_ft, r, pixels).abs().square().sum(), rot)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_lists_that_reach_beyond_the_volume_are_refused(name):
    volume_ft = prepare_volume(torch.randn(16, 16, 16), 4.0)
    with pytest.raises(HalfmapError, match="do not fit"):
        IMPLEMENTATIONS[name].extract_pixels(volume_ft, rotations(1), pixel_list(16, 7.0))
    with pytest.raises(HalfmapError, match="whole number"):
        prepare_volume(torch.randn(15, 15, 15), 4.0, 1.5)
    with pytest.raises(HalfmapError, match="cubic"):
        prepare_volume(torch.randn(15, 16, 15), 4.0)


@pytest.mark.parametrize("n", [8, 9])
def test_the_list_has_one_of_each_pair_of_mates(n):
    pixels = pixel_list(n, 100.0)
    pairs = set(zip(pixels.kx.tolist(), pixels.ky.tolist(), strict=True))
    assert len(pairs) == len(pixels)
    assert not {(-x, -y) for x, y in pairs if (x, y) != (0, 0)} & pairs
    half = (n - 1) // 2
    assert pixels.multiplicity.sum() == (2 * half + 1) ** 2
    assert len(pixel_list(n, 2.0)) == 7  # 13 pixels within 2 of the origin
    np.testing.assert_array_equal(pixels.shell, np.floor(np.hypot(pixels.kx.numpy(), pixels.ky.numpy()) + 0.5))
    layout = torch.fft.rfft2(torch.randn(n, n, dtype=torch.float64))
    if n % 2:
        torch.testing.assert_close(pixels.scatter(pixels.gather(layout)), layout)
    with pytest.raises(HalfmapError, match="layout"):
        pixels.gather(layout[:-1])
