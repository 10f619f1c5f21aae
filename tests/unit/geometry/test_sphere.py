import math

import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.geometry.sphere import (
    angles_from_direction,
    direction_from_angles,
    fibonacci_directions,
    healpix_angles,
    healpix_directions,
    healpix_spacing_rad,
)


def test_the_twelve_base_pixels_are_where_the_paper_puts_them():
    rot, tilt = healpix_angles(0)
    expected_z = torch.tensor([2 / 3] * 4 + [0.0] * 4 + [-2 / 3] * 4, dtype=torch.float64)
    expected_rot = torch.tensor([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7], dtype=torch.float64) * math.pi / 4
    torch.testing.assert_close(tilt.cos(), expected_z, atol=1e-15, rtol=0)
    torch.testing.assert_close(rot, expected_rot)


def test_known_pixels_of_order_1():
    """Nested pixels 0 to 3 of face 0: south, east, west and north corner of the face."""
    rot, tilt = healpix_angles(1)
    expected_z = torch.tensor([1 / 3, 2 / 3, 2 / 3, 11 / 12], dtype=torch.float64)
    torch.testing.assert_close(tilt[:4].cos(), expected_z, atol=1e-15, rtol=0)
    expected_rot = torch.tensor([45.0, 67.5, 22.5, 45.0], dtype=torch.float64) * math.pi / 180
    torch.testing.assert_close(rot[:4], expected_rot)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_pixels_are_nested_in_their_parents_and_evenly_spread(order):
    directions, parents = healpix_directions(order), healpix_directions(order - 1)
    centres = torch.nn.functional.normalize(directions.reshape(-1, 4, 3).mean(dim=1), dim=-1)
    assert (centres * parents).sum(-1).clamp(max=1).acos().max() < 0.3 * healpix_spacing_rad(order - 1)
    torch.testing.assert_close(directions.mean(0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    second = directions.T @ directions / len(directions)
    torch.testing.assert_close(second, torch.eye(3, dtype=torch.float64) / 3, atol=0.01, rtol=0)
    nearest = (directions @ directions.T - 2 * torch.eye(len(directions))).amax(1).acos()
    assert nearest.min() > 0.6 * healpix_spacing_rad(order)
    assert nearest.max() < 1.2 * healpix_spacing_rad(order)


def test_angles_are_those_of_the_views():
    rot, tilt = healpix_angles(2)
    towards_viewer = matrix_from_euler(rot, tilt, 0.4)[:, 2]
    torch.testing.assert_close(direction_from_angles(rot, tilt), towards_viewer, atol=1e-15, rtol=0)
    torch.testing.assert_close(direction_from_angles(*angles_from_direction(towards_viewer)), towards_viewer)


@pytest.mark.parametrize("order", [-1, 13])
def test_orders_out_of_range_are_refused(order):
    with pytest.raises(HalfmapError, match="order"):
        healpix_angles(order)


def test_fibonacci_points_are_unit_vectors_evenly_spread():
    points = fibonacci_directions(256)
    torch.testing.assert_close(points.norm(dim=-1), torch.ones(256, dtype=torch.float64))
    assert points.mean(0).abs().max() < 0.01
    nearest = (points @ points.T - 2 * torch.eye(256)).amax(1).acos()
    assert nearest.min() > 0.7 * math.sqrt(4 * math.pi / 256)
