import numpy as np
import pytest
import torch

from halfmap.geometry.rotations import matrix_from_rotation_vector, random_rotations
from halfmap.optics.ctf import ctf_2d
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.refine3d.half import first_noise
from halfmap.refine.search.climb import Landscape
from halfmap.refine.search.local import SliceSource, pose_scores, pose_scores_plain
from halfmap.refine.search.poses import PoseSearch, plan_search
from halfmap.refine.search.prior import PosePrior


@pytest.fixture(scope="module")
def case(phantom):
    volume = torch.as_tensor(phantom(24, 3.0, 40.0, n=8, sigma_A=4.0).data)
    lattice = Lattice.of(72.0, 9)
    generator = torch.Generator().manual_seed(1)
    n, m = 3, 7
    weighted = torch.randn(n, len(lattice), dtype=torch.complex64, generator=generator)
    weights = torch.rand(n, len(lattice), generator=generator)
    image = torch.tensor([0, 1, 2, 2, 1, 0, 0])
    shift = 0.03 * torch.randn(m, 2, dtype=torch.float64, generator=generator)
    n_pixels = torch.tensor([len(lattice)] * (m - 1) + [40])
    source = SliceSource.of(volume, 9)
    return source, lattice, weighted, weights, image, random_rotations(m, generator), shift, n_pixels


def scores(case, function, rot=None, shift=None):
    source, lattice, weighted, weights, image, rot0, shift0, n_pixels = case
    rot, shift = rot0 if rot is None else rot, shift0 if shift is None else shift
    return function(source, lattice.kx_px, lattice.ky_px, weighted, weights, image, rot, shift, n_pixels)


def test_fast_twin_equals_plain_torch_in_double_precision(case):
    source, lattice, weighted, weights, *rest = case
    exact_source = SliceSource(source.volume.to(torch.complex128), source.scale)
    exact_case = (exact_source, lattice, weighted.to(torch.complex128), weights.double(), *rest)
    fast, plain, exact = (
        scores(case, pose_scores),
        scores(case, pose_scores_plain),
        scores(exact_case, pose_scores_plain),
    )
    for name in ("log_likelihood", "gradient", "information"):
        reference = getattr(exact, name)
        error = [(getattr(found, name) - reference).abs().max() / reference.abs().max() for found in (fast, plain)]
        assert error[1] < 1e-5
        assert error[0] <= 2 * error[1] + 1e-7, name


def test_gradient_is_the_slope_of_the_score(case):
    """Central differences over a step within which trilinear interpolation has few kinks."""
    source, lattice, weighted, weights, image, rot, shift, n_pixels = case
    exact = (
        SliceSource(source.volume.to(torch.complex128), source.scale), lattice, weighted.to(torch.complex128),
        weights.double(), image, rot, shift, n_pixels,
    )  # fmt: skip
    gradient = scores(exact, pose_scores_plain).gradient
    step = 1e-6
    for axis in range(3):
        vector = torch.zeros(3, dtype=torch.float64)
        vector[axis] = step
        ahead = scores(exact, pose_scores_plain, rot=matrix_from_rotation_vector(vector) @ rot).log_likelihood
        behind = scores(exact, pose_scores_plain, rot=matrix_from_rotation_vector(-vector) @ rot).log_likelihood
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close(slope, gradient[:, axis], rtol=1e-4, atol=1e-3 * float(gradient.abs().max()))
    for axis in range(2):
        vector = torch.zeros(2, dtype=torch.float64)
        vector[axis] = step
        ahead = scores(exact, pose_scores_plain, shift=shift + vector).log_likelihood
        behind = scores(exact, pose_scores_plain, shift=shift - vector).log_likelihood
        slope = (ahead - behind) / (2 * step)
        torch.testing.assert_close(slope, gradient[:, 3 + axis], rtol=1e-5, atol=1e-6 * float(gradient.abs().max()))


def test_information_is_symmetric_and_never_indefinite(case):
    information = scores(case, pose_scores).information
    torch.testing.assert_close(information, information.transpose(1, 2))
    eigenvalues = torch.linalg.eigvalsh(information)
    assert bool((eigenvalues > -1e-6 * eigenvalues.max()).all())


def brute_force_log_likelihood(volume, pixel_A, images, ctf_rows, sigma2_of, rot, shift_A):
    """Sum over one of each Friedel pair of ``-|X - CTF P|^2 / sigma2``, relative to P = 0, by direct summation."""
    n = volume.shape[0]
    axis = (np.arange(n) - n // 2) * pixel_A
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    solid = volume.ravel() > 1e-4 * volume.max()
    points = np.stack([x.ravel(), y.ravel(), z.ravel()])[:, solid]
    k = np.fft.fftfreq(n, pixel_A)
    ky, kx = (grid.ravel() for grid in np.meshgrid(k, k, indexing="ij"))
    shell = np.floor(np.hypot(kx, ky) * n * pixel_A + 0.5).astype(int)
    used = (shell >= 1) & (shell <= len(sigma2_of) - 1) & ((kx > 0) | ((kx == 0) & (ky > 0)))
    flat = np.stack([kx[used], ky[used], 0 * kx[used]])
    totals = []
    for image, ctf, a, t in zip(images, ctf_rows, rot.numpy(), shift_A.numpy(), strict=True):
        slice_at = np.exp(-2j * np.pi * (a.T @ flat).T @ points) @ volume.ravel()[solid].astype(np.float64)
        model = ctf.ravel()[used] * slice_at * np.exp(2j * np.pi * (flat[0] * t[0] + flat[1] * t[1]))
        seen = np.fft.fft2(np.fft.ifftshift(image.astype(np.float64))).ravel()[used]
        difference = np.abs(seen) ** 2 - np.abs(seen - model) ** 2
        totals.append((difference / sigma2_of[shell[used]]).sum())
    return np.array(totals)


def test_posterior_of_poses_equals_brute_force(tiny):
    """All that lies between: masks, the smaller box, interpolation, averaged CTF^2, single precision."""
    volume, data, grid = tiny
    observations = data.observations(grid, 60.0)
    rows = np.arange(3)
    noise = first_noise(observations, np.arange(len(data.images)))
    radius = 10
    plan = plan_search(grid, radius, 60.0, "C1", 6.0, 5.0, 0)
    reference = torch.as_tensor(volume.data) * 2.0
    search = PoseSearch(reference, observations, noise, plan, 60.0, "C1")
    centre = data.shift_A[:3]
    landscape = search.landscape(observations.batch(rows, radius), centre)
    landscape = Landscape(landscape.source, landscape.lattice, landscape.statistics, PosePrior(centre * 0, 1e6))
    generator = torch.Generator().manual_seed(3)
    turns = matrix_from_rotation_vector(0.15 * torch.randn(8, 3, 3, dtype=torch.float64, generator=generator))
    moves = 2.0 * torch.randn(8, 3, 2, dtype=torch.float64, generator=generator)
    whole = observations.batch(rows, grid.nyquist_px).ft  # normalised, as the observations have them
    images = torch.fft.fftshift(torch.fft.irfft2(observations.lattice.pixels.scatter(whole), s=(32, 32)), dim=(1, 2))
    k = torch.fft.fftfreq(32, 3.0)
    fy, fx = torch.meshgrid(k, k, indexing="ij")
    names = ("defocus_u_A", "defocus_v_A", "defocus_angle_rad")
    ctf = ctf_2d(fx, fy, *(torch.as_tensor(np.array(data.image_set[name][:3])) for name in names), 300.0, 2.7, 0.1)
    sigma2 = noise.sigma2[0, : radius + 1].numpy()
    fast, slow = [], []
    for turn, move in zip(turns, moves, strict=True):
        rot = turn @ data.rot_img_from_map[:3]
        fast.append(landscape.scored(torch.arange(3), rot, move / search.box.length_A, 99).log_posterior.numpy())
        slow.append(
            brute_force_log_likelihood(
                reference.numpy(), 3.0, images.numpy(), ctf.numpy(), sigma2, rot, centre + move
            )
        )  # fmt: skip
    fast, slow = np.array(fast), np.array(slow)
    spread = (slow - slow.mean(axis=0)).std()
    error = (fast - fast.mean(axis=0)) - (slow - slow.mean(axis=0))
    assert spread > 3.0
    assert error.std() < 0.04 * spread


def test_poses_turn_with_the_reference(tiny):
    """A map turned by Q about z by a quarter (exact on the grid) is found at poses turned by Q."""
    volume, data, grid = tiny
    observations = data.observations(grid, 60.0)
    rows = np.arange(8)
    noise = first_noise(observations, np.arange(len(data.images)))
    plan = plan_search(grid, 12, 60.0, "C1", 6.0, 5.0, 0)
    here = torch.zeros(8, 2, dtype=torch.float64) + data.shift_A[:8]
    straight = torch.as_tensor(volume.data.copy()) * 5.0
    straight[0] = straight[:, 0] = straight[:, :, 0] = 0.0
    turned = torch.roll(torch.rot90(straight, 1, (2, 1)), 1, 2)
    quarter = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
    centred = {}
    for name, reference, rot in (
        ("straight", straight, data.rot_img_from_map[:8]),
        ("turned", turned, data.rot_img_from_map[:8] @ quarter.T),
        ("other way", turned, data.rot_img_from_map[:8] @ quarter),
    ):
        search = PoseSearch(reference, observations, noise, plan, 60.0, "C1")
        centred[name] = search.around(rows, rot, here).log_likelihood.numpy()
    np.testing.assert_allclose(centred["turned"], centred["straight"], rtol=0.02, atol=0.5)
    assert (centred["straight"] - centred["other way"]).mean() > 5.0


def test_lattice_prefix_is_a_lower_resolution():
    lattice = Lattice.of(100.0, 12)
    inner = lattice.within(5)
    assert len(inner) == lattice.count_within(5)
    assert int(inner.shell.max()) == 5
    assert int(lattice.shell[len(inner)]) == 6
    expected = {
        (kx, ky) for kx in range(6) for ky in range(-5, 6)
        if 0.5 <= np.hypot(kx, ky) < 5.5 and (kx > 0 or ky > 0)
    }  # fmt: skip
    assert set(zip(inner.kx_px.tolist(), inner.ky_px.tolist(), strict=True)) == expected
    assert MapGrid(32, 3.0).nyquist_px == 15
