import math

import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_rotation_vector, random_rotations
from halfmap.geometry.so3 import grid, local_grid, local_rotations
from halfmap.geometry.symmetry import point_group, symmetrise_poses
from halfmap.units import DEG


def nearest_angle_rad(poses: torch.Tensor, name: str, n: int = 300) -> torch.Tensor:
    """Distance of random poses from the nearest of ``poses`` or of their equivalents."""
    random = random_rotations(n, torch.Generator().manual_seed(0))
    equivalents = symmetrise_poses(random, point_group(name)).reshape(n, -1, 9)
    trace = (equivalents @ poses.reshape(-1, 9).T).amax(dim=(1, 2))
    return torch.acos(((trace - 1) / 2).clamp(-1, 1))


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", ["C1", "C4", "D2", "O"])
def test_grids_reach_every_pose_up_to_symmetry(name, seed):
    sampling = grid(2, name, seed=seed)
    assert len(sampling) == len(sampling.rot_rad) * 24
    distance = nearest_angle_rad(sampling.matrices().reshape(-1, 3, 3), name)
    assert distance.mean() < 8.5 * DEG
    assert distance.max() < 16.0 * DEG


@pytest.mark.parametrize("name", ["C1", "C3", "D4", "T", "O", "I1"])
def test_grids_hold_one_view_of_each_orbit(name):
    operators = point_group(name)
    sampling = grid(3, name)
    assert abs(len(sampling.rot_rad) * len(operators) / 768 - 1) < 0.15
    views = sampling.directions()[:, 2]
    orbits = (operators[1:] @ views[:, None, :, None]).reshape(-1, 3)
    if len(orbits):
        # Near copies exist only across the borders of the asymmetric unit.
        touching = ((orbits @ views.T).amax(dim=0).clamp(max=1).acos() < 0.5 * DEG).double().mean()
        assert touching < 0.2
    assert abs(float(sampling.weight.sum()) - 1) < 1e-12


def test_a_seed_turns_the_whole_grid_and_repeats():
    plain, turned, again = grid(1), grid(1, seed=7), grid(1, seed=7)
    assert torch.equal(turned.rot_rad, again.rot_rad)
    assert torch.equal(turned.psi_rad, again.psi_rad)
    assert not torch.equal(turned.tilt_rad, plain.tilt_rad)
    assert not torch.equal(grid(1, seed=8).tilt_rad, turned.tilt_rad)
    step = 2 * math.pi / 12
    torch.testing.assert_close(turned.psi_rad.diff(), torch.full((11,), step, dtype=torch.float64))
    views, plain_views = turned.directions()[:, 2], plain.directions()[:, 2]
    torch.testing.assert_close(views @ views.T, plain_views @ plain_views.T, atol=1e-12, rtol=0)


def test_the_in_plane_step_matches_the_spacing_of_the_views():
    for order in (0, 1, 2, 3, 4):
        sampling = grid(order)
        step = float(sampling.psi_rad[1] - sampling.psi_rad[0])
        assert 0.95 < step / sampling.spacing_rad < 1.05


@pytest.mark.parametrize("name", ["I1", "I2", "I3", "I4", "O", "T"])
def test_the_coarsest_grid_that_samples_a_polyhedral_group(name):
    assert len(grid(2, name).rot_rad) >= 2


def test_a_grid_without_a_view_is_an_error():
    with pytest.raises(HalfmapError, match="too coarse for the asymmetric unit of C99"):
        grid(0, "C99")


def test_local_rotations_fill_their_ball():
    radius, step = 0.2, 0.05
    rotations = local_rotations(radius, step)
    torch.testing.assert_close(rotations[0], torch.eye(3, dtype=torch.float64), atol=0, rtol=0)
    angle = angular_distance_rad(rotations, torch.eye(3))
    assert angle.max() <= radius * (1 + 1e-6)
    assert (angle.diff() > -1e-9).all()
    expected = 4 / 3 * math.pi * (radius / step) ** 3
    assert abs(len(rotations) / expected - 1) < 0.15
    vectors = torch.rand(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.15 - 0.075
    inside = matrix_from_rotation_vector(vectors)
    distance = angular_distance_rad(inside[:, None], rotations[None]).amin(dim=1)
    assert distance.max() < 0.75 * step


def test_local_grids_surround_each_pose():
    poses = random_rotations(5, torch.Generator().manual_seed(2))
    around = local_grid(poses, 0.1, 0.05)
    torch.testing.assert_close(around[:, 0], poses, atol=1e-15, rtol=0)
    assert angular_distance_rad(around, poses[:, None]).max() <= 0.1 + 1e-9
    with pytest.raises(HalfmapError, match="positive"):
        local_grid(poses, 0.1, 0.0)
