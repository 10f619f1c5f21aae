"""Refinement near given poses: priors, focus on a part, relaxed symmetry."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.data.records import Volume
from halfmap.errors import BadInputError, HalfmapError
from halfmap.fourier.shift import shifted_volume
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_rotation_vector, random_rotations
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.local import focus_of, given_poses
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.refine3d.refinement import Refinement
from halfmap.refine.search.local import PoseScores
from halfmap.refine.search.prior import GivenPoses, PosePrior, exchanges_of
from halfmap.units import DEG

IDENTITY = torch.eye(3, dtype=torch.float64)[None]


def options(diameter_A, **values):
    return RefineOptions(reference=Path("unread.mrc"), diameter_A=diameter_A, **values)


def halves(n):
    return np.arange(n) % 2 + 1


def turned_by(rot, sigma_deg, seed):
    generator = torch.Generator().manual_seed(seed)
    turns = torch.randn(len(rot), 3, generator=generator, dtype=torch.float64) * sigma_deg * DEG
    return matrix_from_rotation_vector(turns) @ rot


def test_prior_has_the_gradient_of_its_value():
    generator = torch.Generator().manual_seed(0)
    rot = random_rotations(4, generator)
    exchanges = point_group("C3")
    given = GivenPoses(turned_by(rot @ exchanges[1], 10.0, 1), torch.zeros(4, 2).double(), 0.2, 3.0, exchanges)
    prior = PosePrior(torch.randn(4, 2, generator=generator).double() * 0.02, 0.05, given)
    image, shift = torch.arange(4), torch.randn(4, 2, generator=generator).double() * 0.02
    empty = PoseScores(torch.zeros(4).double(), torch.zeros(4, 5).double(), torch.zeros(4, 5, 5).double())
    found = prior.add_to(empty, image, rot, shift)
    step = 1e-5
    for axis in range(5):
        values = []
        for sign in (1, -1):
            change = torch.zeros(5, dtype=torch.float64)
            change[axis] = sign * step
            moved = matrix_from_rotation_vector(change[:3]) @ rot
            values.append(prior.add_to(empty, image, moved, shift + change[3:]).log_likelihood)
        numeric = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(found.gradient[:, axis], numeric, atol=1e-4, rtol=1e-4)
    # At most 10 degrees or so off after the exchange: without it, the prior would be that of 120 degrees.
    assert float(found.log_likelihood.min()) > -0.5 * (3 * 0.35 / 0.2) ** 2
    assert float(torch.linalg.eigvalsh(found.information).min()) > 0


def test_exchanges_are_one_of_each_coset():
    assert len(exchanges_of("O", "C1")) == 24
    assert len(exchanges_of("O", "C4")) == 6
    assert torch.equal(exchanges_of("D2", "D2"), IDENTITY)
    with pytest.raises(ValueError, match="C5 is not a subgroup of O"):
        exchanges_of("O", "C5")


def test_a_volume_moves_as_it_is_told():
    volume = soft_ball((24,) * 3, 6.0, 2.0)
    moved = shifted_volume(volume, torch.tensor([3.0, -2.0, 1.0]))
    torch.testing.assert_close(moved, torch.roll(volume, (1, -2, 3), (0, 1, 2)), atol=1e-5, rtol=0)


def test_what_is_in_focus_is_read_off_the_mask():
    grid = MapGrid(48, 3.0)
    mask = shifted_volume(soft_ball((48,) * 3, 10.0, 2.0), torch.tensor([8.0, 0.0, -5.0]))
    local = focus_of(options(120.0, local_angle_deg=5.0), mask, grid)
    assert local.fulcrum_A == pytest.approx((24.0, 0.0, -15.0), abs=0.5)
    assert 27.0 < local.diameter_A < 42.0
    assert focus_of(options(120.0), mask, grid).fulcrum_A == (0, 0, 0)
    with pytest.raises(HalfmapError, match="outside the box"):
        focus_of(options(120.0, local_angle_deg=5.0, fulcrum_A=(0.0, 90.0, 0.0)), None, grid)


def test_poses_must_be_there_and_symmetries_fit(tiny):
    _, data, _ = tiny
    assert given_poses(data.image_set, "p.star", options(60.0)) is None
    given = given_poses(data.image_set, "p.star", options(60.0, local_angle_deg=6.0))
    torch.testing.assert_close(given.rot_img_from_map, data.rot_img_from_map)
    bare = replace(data.image_set, rows=data.image_set.rows.without(["tilt_rad"]))
    with pytest.raises(BadInputError, match="tilt_rad"):
        given_poses(bare, "p.star", options(60.0, local_angle_deg=6.0))
    with pytest.raises(HalfmapError, match="C3 is not a subgroup of D2"):
        given_poses(data.image_set, "p.star", options(60.0, symmetry="C3", relax_symmetry="D2"))


def test_expanded_particles_are_not_searched_everywhere(tiny):
    _, data, _ = tiny
    copies = data.image_set.with_columns(source_uid=np.arange(len(data.images)) // 2)
    with pytest.raises(BadInputError, match="24 copies of 12 particles"):
        given_poses(copies, "p.star", options(60.0))
    assert given_poses(copies, "p.star", options(60.0, local_angle_deg=3.0)) is not None


@pytest.fixture(scope="module")
def noisy(phantom, simulated):
    volume = phantom(48, 3.0, 100.0)
    return volume, simulated([volume], [160], snr=0.3, diameter_A=100.0), MapGrid(48, 3.0)


def refined(data, grid, volume, chosen, given, session, mask=None):
    observations = data.observations(grid, chosen.diameter_A)
    return Refinement(observations, halves(len(data.images)), volume, mask, chosen, session, given).run()


@pytest.mark.truth
def test_poses_that_are_nearly_right_become_as_right_as_by_a_search_everywhere(noisy, session):
    volume, data, grid = noisy
    start = GivenPoses(turned_by(data.rot_img_from_map, 3.0, 2), data.shift_A + 1.5, math.radians(4.0), 3.0, IDENTITY)
    chosen = options(100.0, local_angle_deg=4.0, local_shift_A=3.0, initial_resolution_A=20.0, max_iterations=5)
    result = refined(data, grid, volume, chosen, start, session())
    before = angular_distance_rad(start.rot_img_from_map, data.rot_img_from_map) / DEG
    after = angular_distance_rad(result.poses.rot_img_from_map[:, 0], data.rot_img_from_map[result.rows]) / DEG
    everywhere = options(100.0, initial_resolution_A=20.0, max_iterations=5)
    best = refined(data, grid, volume, everywhere, None, session())
    by_search = angular_distance_rad(best.poses.rot_img_from_map[:, 0], data.rot_img_from_map[best.rows]) / DEG
    assert float(before.median()) > 4.0
    assert float(after.median()) < 2.2
    # A prior of 4 degrees draws estimates that are good to 1.2 a tenth of the way back to where they started.
    assert float(after.median()) < 1.1 * float(by_search.median())
    moved = (result.poses.shift_A[:, 0] - data.shift_A[result.rows]).norm(dim=1)
    assert float(moved.median()) < 0.6


def test_noise_does_not_carry_poses_away(noisy, session):
    volume, data, grid = noisy
    noise = data.with_images(np.random.default_rng(1).normal(size=(160, 48, 48)))
    start = GivenPoses(data.rot_img_from_map, data.shift_A, math.radians(2.0), 1.0, IDENTITY)
    chosen = options(100.0, local_angle_deg=2.0, local_shift_A=1.0, initial_resolution_A=20.0, max_iterations=3)
    result = refined(noise, grid, volume, chosen, start, session())
    turned = angular_distance_rad(result.poses.rot_img_from_map[:, 0], data.rot_img_from_map[result.rows]) / DEG
    assert float(turned.max()) < 15.0
    assert float((result.poses.shift_A[:, 0] - data.shift_A[result.rows]).norm(dim=1).max()) < 6.0


@pytest.mark.truth
def test_a_part_that_turns_by_itself_is_followed(phantom, simulated, session):
    """A domain 36 Å off the centre, turned by 8 degrees about its own centre in each particle, beside a rigid one."""
    grid, n = MapGrid(56, 3.0), 400
    centre = torch.tensor([36.0, 0.0, 0.0], dtype=torch.float64)
    core = Volume(np.roll(phantom(56, 3.0, 60.0, n=25, seed=1).data, -10, axis=2), 3.0)
    domain = phantom(56, 3.0, 60.0, n=25, seed=2)
    rot = random_rotations(n, torch.Generator().manual_seed(3))
    own = turned_by(rot, 5.0, 4)
    # The domain about its own centre is a particle whose shift takes its place off.
    of_core = simulated([core], [n], snr=1e6, diameter_A=140.0, rot=rot)
    of_domain = simulated([domain], [n], snr=1e6, diameter_A=140.0, rot=own, shift_sigma_A=0.0)
    data = move_with(of_core, of_domain, rot, centre, grid)
    mask = shifted_volume(soft_ball((56,) * 3, 22.0, 4.0), centre / 3.0).clamp(0, 1)
    whole = Volume(core.data + shifted_volume(torch.as_tensor(domain.data), centre / 3.0).numpy(), 3.0)
    given = GivenPoses(rot, of_core.shift_A, math.radians(6.0), 4.0, IDENTITY)
    chosen = options(150.0, local_angle_deg=6.0, local_shift_A=4.0, initial_resolution_A=20.0, max_iterations=6)
    result = refined(data, grid, whole, chosen, given, session(), mask)
    before = angular_distance_rad(rot, own) / DEG
    after = angular_distance_rad(result.poses.rot_img_from_map[:, 0], own[result.rows]) / DEG
    assert float(before.median()) > 7.0
    assert float(after.median()) < 3.5
    # The domain's centre stays where it is seen: shifts follow turns about the fulcrum.
    found = result.poses.rot_img_from_map[:, 0][:, :2] @ centre - result.poses.shift_A[:, 0]
    true = rot[result.rows][:, :2] @ centre - of_core.shift_A[result.rows]
    assert float((found - true).norm(dim=1).median()) < 1.0


def move_with(of_core, of_domain, rot, centre, grid):
    """Images of both: those of the domain moved to where it sits in each particle, and noise."""
    from halfmap.fourier.shift import shift_images
    from halfmap.fourier.transform import centred_irfft2, centred_rfft2

    place_A = rot[:, :2] @ centre - of_core.shift_A
    domain = centred_rfft2(torch.as_tensor(np.stack(of_domain.images)).float())
    moved = centred_irfft2(shift_images(domain, place_A / grid.pixel_size_A), grid.box_px).numpy()
    clean = np.stack(of_core.images) + moved
    noise = np.random.default_rng(5).normal(0, 1.5 * clean.std(), clean.shape)
    return of_core.with_images(clean + noise)


@pytest.mark.truth
def test_symmetry_is_relaxed(phantom, simulated, session):
    """Four alike and one blob that breaks it: poses that C4 left at random come to lie alike."""
    grid, n = MapGrid(48, 3.0), 200
    alike, odd = phantom(48, 3.0, 100.0, "C4", n=8), phantom(48, 3.0, 70.0, n=6, seed=9)
    volume = Volume(alike.data + odd.data, 3.0)
    data = simulated([volume], [n], snr=0.3, diameter_A=100.0)
    operators = point_group("C4")
    mixed = data.rot_img_from_map @ operators[torch.randint(4, (n,), generator=torch.Generator().manual_seed(1))]
    given = GivenPoses(mixed, data.shift_A, math.inf, 3.0, exchanges_of("C4", "C1"))
    chosen = options(100.0, relax_symmetry="C4", local_shift_A=3.0, initial_resolution_A=15.0, max_iterations=5)
    result = refined(data, grid, volume, chosen, given, session())
    after = angular_distance_rad(result.poses.rot_img_from_map[:, 0], data.rot_img_from_map[result.rows]) / DEG
    assert float((after < 10).double().mean()) > 0.95
    right = angular_distance_rad(mixed, data.rot_img_from_map) / DEG
    assert float((right < 10).double().mean()) < 0.4
