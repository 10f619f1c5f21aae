"""What a refinement must not know, and what must turn with the map. Each test has a control that it can fail."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from halfmap.fourier.fsc import Independence, joined_shells, resolution_A
from halfmap.fourier.grid import radius_px
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_rotation_vector, random_rotations
from halfmap.refine.images.alignment_box import Statistics
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.refine3d.half import HalfState, first_noise, iterate
from halfmap.refine.refine3d.local import Focus
from halfmap.refine.refine3d.verdict import own_resolution_A, verdict
from halfmap.refine.search.climb import Landscape, climb
from halfmap.refine.search.local import SliceSource, interpolate, pose_scores_plain
from halfmap.refine.search.poses import PoseSearch, plan_search
from halfmap.refine.search.prior import PosePrior
from halfmap.refine.volume.regularise import corrected_fsc, own_fsc
from halfmap.units import DEG

DIAMETER_A, RADIUS_PX = 60.0, 8


def first_half_of(data, grid, reference, rows, *, settled):
    """One iteration of half 1 at the true poses and beyond, as any iteration makes it."""
    observations = data.observations(grid, DIAMETER_A)
    n = len(rows)
    state = HalfState(
        rows, reference, data.rot_img_from_map[rows].clone(), data.shift_A[rows].clone(),
        torch.full((n,), settled), first_noise(observations, rows), 5.0,
    )  # fmt: skip
    plan = plan_search(grid, RADIUS_PX, DIAMETER_A, "C1", 6.0, 5.0, 0)
    result = iterate(
        state, observations, plan, focus=Focus((0.0, 0.0, 0.0), DIAMETER_A), symmetry="C1",
        insert_radius_px=grid.nyquist_px, iteration=5, threads=2, tick=lambda count: None,
    )  # fmt: skip
    return (
        result.sums.numerator, result.sums.denominator, result.poses.rot_img_from_map, result.poses.weight,
        result.noise.sigma2, result.noise.scale,
    )  # fmt: skip


def same_bits(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("settled", [False, True])
def test_poisoned_particles_of_half_2_do_not_reach_half_1(tiny, settled):
    """Pixels of half 2 replaced by strong noise; the control lets one particle of half 2 into half 1."""
    volume, data, grid = tiny
    reference = 5.0 * torch.as_tensor(volume.data)
    first = np.arange(0, len(data.images), 2)
    rng = np.random.default_rng(1)
    poisoned = data.with_images(
        image if i % 2 == 0 else 30 * rng.normal(size=image.shape) for i, image in enumerate(data.images)
    )
    clean = first_half_of(data, grid, reference, first, settled=settled)
    assert same_bits(clean, first_half_of(poisoned, grid, reference, first, settled=settled))
    leaking = np.append(first[:-1], 1)
    one, other = (first_half_of(each, grid, reference, leaking, settled=settled) for each in (data, poisoned))
    assert not any(torch.equal(a, b) for a, b in zip(one[:2], other[:2], strict=True))


def test_poisoned_truth_does_not_reach_the_result(tiny):
    """Poses that the table holds are not looked at; the control poisons the defocus, which must be."""
    volume, data, grid = tiny
    reference = 5.0 * torch.as_tensor(volume.data)
    rows = np.arange(0, 12)
    rng = np.random.default_rng(2)
    wrong = {name: rng.uniform(-3, 3, len(data.images)) for name in ("rot_rad", "tilt_rad", "psi_rad")}
    wrong |= {name: rng.uniform(-20, 20, len(data.images)) for name in ("shift_x_A", "shift_y_A")}
    clean = first_half_of(data, grid, reference, rows, settled=False)
    poisoned = replace(data, image_set=data.image_set.with_columns(**wrong))
    assert same_bits(clean, first_half_of(poisoned, grid, reference, rows, settled=False))
    blurred = data.image_set.with_columns(defocus_u_A=np.asarray(data.image_set["defocus_u_A"]) + 3000.0)
    assert not same_bits(
        clean, first_half_of(replace(data, image_set=blurred), grid, reference, rows, settled=False)
    )  # fmt: skip


def test_poses_of_the_global_search_turn_with_the_map(phantom, simulated):
    """Against a map turned by any rotation Q (not one of the grid's), images are found at ``A Q^T``."""
    grid = MapGrid(32, 3.0)
    volume = phantom(32, 3.0, DIAMETER_A, n=12, sigma_A=3.5)
    data = simulated([volume], [24], snr=3.0, diameter_A=DIAMETER_A, shift_sigma_A=2.0)
    observations = data.observations(grid, DIAMETER_A)
    rows = np.arange(24)
    noise = first_noise(observations, rows)
    plan = plan_search(grid, 12, DIAMETER_A, "C1", 6.0, 5.0, 0)
    turn = matrix_from_rotation_vector(torch.tensor([0.7, -1.1, 0.4], dtype=torch.float64))
    found = []
    for q in (torch.eye(3, dtype=torch.float64), turn):
        reference = 5.0 * torch.as_tensor(phantom(32, 3.0, DIAMETER_A, n=12, sigma_A=3.5, turn=q).data)
        search = PoseSearch(reference, observations, noise, plan, DIAMETER_A, "C1")
        poses = search.everywhere(rows, torch.zeros(24, 2, dtype=torch.float64))
        found.append(poses.rot_img_from_map[:, 0])
        assert float(angular_distance_rad(found[-1], data.rot_img_from_map @ q.T).median()) < 8 * DEG
    apart = angular_distance_rad(found[1], found[0] @ turn.T)
    assert float(apart.median()) < 1.5 * DEG
    assert float((apart < 4 * DEG).double().mean()) > 0.9
    assert float((angular_distance_rad(found[1], found[0]) < 4 * DEG).double().mean()) < 0.1


def test_evidence_of_a_mode_is_the_integral_over_it(phantom):
    """Laplace's approximation against the sum over a grid of 59,049 poses around the mode, in double precision."""
    lattice = Lattice.of(72.0, 9)
    source = SliceSource.of(torch.as_tensor(phantom(24, 3.0, 40.0, n=8, sigma_A=4.0).data), 9)
    exact = SliceSource(source.volume.to(torch.complex128), source.scale)
    generator = torch.Generator().manual_seed(5)
    rot, at_rest = random_rotations(1, generator), torch.zeros(1, 2, dtype=torch.float64)
    image, n_pixels = torch.zeros(1, dtype=torch.int64), torch.tensor([len(lattice)])
    given = (lattice.kx_px, lattice.ky_px)
    k = torch.stack([lattice.kx_px, lattice.ky_px], dim=-1).double()
    slice_at, _ = interpolate(exact.volume, torch.einsum("mij,pi->mpj", rot[:, :2] * exact.scale, k))
    noise = torch.randn(1, len(lattice), dtype=torch.complex128, generator=generator)
    sigma2 = float(slice_at.abs().square().mean()) / 6
    weighted = (slice_at + math.sqrt(sigma2) * noise) / sigma2
    weights = torch.full((1, len(lattice)), 1 / sigma2, dtype=torch.float64)
    statistics = Statistics(weighted.to(torch.complex64), weights.float())
    landscape = Landscape(source, lattice, statistics, PosePrior(at_rest, 1e3))
    start = landscape.scored(image, rot, at_rest, 9)
    mode = climb(landscape, start, 9, n_steps=20, max_turn_rad=0.2, max_shift_box=0.05)
    values, axes = torch.linalg.eigh(mode.information[0])
    sigma = values.rsqrt()
    ticks = torch.linspace(-3.2, 3.2, 9, dtype=torch.float64)
    steps = torch.cartesian_prod(*[ticks] * 5) * sigma @ axes.T
    rots = matrix_from_rotation_vector(steps[:, :3]) @ mode.rot_img_from_map
    shifts = mode.shift_box + steps[:, 3:]
    scores = [
        pose_scores_plain(
            exact, *given, weighted, weights, image.expand(len(r)), r, s, n_pixels.expand(len(r))
        ).log_likelihood
        for r, s in zip(rots.split(2048), shifts.split(2048), strict=True)
    ]  # fmt: skip
    cell = float(sigma.log().sum()) + 5 * math.log(float(ticks[1] - ticks[0]))
    integral = float(torch.logsumexp(torch.cat(scores), 0)) + cell
    assert float(mode.log_evidence()) == pytest.approx(integral, abs=0.3)
    # Without the volume of the mode it would be far off.
    assert abs(float(mode.log_posterior) - integral) > 3.0


def test_the_verdict_states_no_resolution_that_a_mask_spread():
    """Noise that repeats a reference of 12 Å; a small mask carries it on, and the statement must not follow."""
    n, pixel_size_A, given_A = 48, 2.0, 12.0
    given_px = round(n * pixel_size_A / given_A)
    generator = torch.Generator().manual_seed(5)
    noise = [torch.randn(n, n, n, generator=generator) for _ in range(3)]
    shared = torch.fft.rfftn(noise[0]) * (radius_px((n, n, n)) < given_px + 0.5)
    first, second = (12 * torch.fft.irfftn(shared, s=(n, n, n)) + own for own in noise[1:])
    mask = soft_ball((n, n, n), 24.0, 5.0)
    independence = Independence(joined_shells(mask), float(mask.mean()))

    reached_A = resolution_A(corrected_fsc(first, second, mask), 0.143, n, pixel_size_A, independence, 0.25)
    own_A = own_resolution_A(own_fsc(first, second, mask, given_px), MapGrid(n, pixel_size_A), independence)
    assert reached_A < 0.9 * given_A
    stated_A, doubt = verdict(reached_A, own_A, given_A)
    assert stated_A == own_A == given_A
    assert "only as a mask spreads" in doubt
    assert verdict(given_A, given_A, given_A)[1].endswith("no further than the starting map was given (12 Å)")
    assert verdict(6.0, 6.5, given_A) == (6.0, "")
