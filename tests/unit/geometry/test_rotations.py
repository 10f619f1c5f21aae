import math

import numpy as np
import pytest
import torch

from halfmap.geometry.rotations import (
    angular_distance_rad,
    euler_from_matrix,
    in_plane,
    matrix_from_euler,
    matrix_from_rotation_vector,
    quaternion_from_matrix,
    random_rotations,
    rotation_vector_from_matrix,
)

EYE = torch.eye(3, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def relion_matrix(rot: float, tilt: float, psi: float) -> np.ndarray:
    """The product of the three matrices as ADR-0001 writes them."""

    def rz(a: float) -> np.ndarray:
        return np.array([[math.cos(a), math.sin(a), 0], [-math.sin(a), math.cos(a), 0], [0, 0, 1]])

    def ry(a: float) -> np.ndarray:
        return np.array([[math.cos(a), 0, -math.sin(a)], [0, 1, 0], [math.sin(a), 0, math.cos(a)]])

    return rz(psi) @ ry(tilt) @ rz(rot)


def test_euler_matrix_is_the_product_of_the_adr():
    angles = np.random.default_rng(1).uniform(-4, 4, (20, 3))
    expected = np.stack([relion_matrix(*a) for a in angles])
    np.testing.assert_allclose(matrix_from_euler(*angles.T), expected, atol=1e-14)


def test_the_example_of_the_adr():
    seen = matrix_from_euler(math.pi / 2, 0.0, 0.0) @ torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(seen, torch.tensor([0.0, -1.0, 0.0], dtype=torch.float64), atol=1e-15, rtol=0)


def test_angles_broadcast_and_numbers_are_taken():
    assert matrix_from_euler(torch.zeros(4, 1), 0.1, torch.zeros(5)).shape == (4, 5, 3, 3)
    assert matrix_from_euler(0.1, 0.2, 0.3).dtype == torch.float64


@pytest.mark.parametrize("tilt", [0.0, 1e-12, 1e-9, 1e-4, 1.0, math.pi - 1e-9, math.pi])
def test_euler_angles_give_their_matrix_back_also_where_they_are_ill_determined(tilt):
    angles = torch.rand(50, 2, generator=generator(), dtype=torch.float64) * 6.0 - 3.0
    matrices = matrix_from_euler(angles[:, 0], tilt, angles[:, 1])
    again = matrix_from_euler(*euler_from_matrix(matrices).unbind(-1))
    torch.testing.assert_close(again, matrices, atol=1e-14, rtol=0)


def test_euler_angles_are_recovered_in_their_range():
    rot, psi = torch.rand(2, 50, generator=generator(2), dtype=torch.float64) * 6.28 - 3.14
    tilt = torch.rand(50, generator=generator(3), dtype=torch.float64) * 3.0 + 0.1
    found = euler_from_matrix(matrix_from_euler(rot, tilt, psi))
    torch.testing.assert_close(found, torch.stack((rot, tilt, psi), -1), atol=1e-12, rtol=0)


def test_random_rotations_are_rotations_spread_evenly():
    rotations = random_rotations(20000, generator())
    torch.testing.assert_close(rotations @ rotations.mT, EYE.expand(20000, 3, 3), atol=1e-13, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(20000, dtype=torch.float64))
    assert rotations.mean(0).abs().max() < 0.02
    # The angle to a fixed rotation has density (1 - cos θ)/π under the Haar measure: mean π/2 + 2/π.
    assert abs(float(angular_distance_rad(rotations, EYE).mean()) - (math.pi / 2 + 2 / math.pi)) < 0.02


def test_random_rotations_repeat_with_the_seed():
    torch.testing.assert_close(random_rotations(3, generator(5)), random_rotations(3, generator(5)), rtol=0, atol=0)


@pytest.mark.parametrize("angle", [0.0, 1e-12, 1e-5, 0.9e-4, 1.1e-4, 0.3, 3.0, math.pi - 1e-7])
def test_rotation_vectors_round_trip_and_angular_distance_is_their_length(angle):
    axis = torch.nn.functional.normalize(torch.randn(20, 3, generator=generator(), dtype=torch.float64), dim=-1)
    rotation = matrix_from_rotation_vector(angle * axis)
    torch.testing.assert_close(rotation, torch.linalg.matrix_exp(hat(angle * axis)), atol=1e-14, rtol=0)
    torch.testing.assert_close(rotation_vector_from_matrix(rotation), angle * axis, atol=1e-8, rtol=0)
    base = random_rotations(20, generator(4))
    distance = angular_distance_rad(base, rotation @ base)
    torch.testing.assert_close(distance, torch.full_like(distance, angle), atol=1e-14 if angle < 1 else 1e-8, rtol=0)


def hat(v: torch.Tensor) -> torch.Tensor:
    x, y, z = v.unbind(-1)
    zero = torch.zeros_like(x)
    rows = ((zero, -z, y), (z, zero, -x), (-y, x, zero))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def test_half_turns_have_a_rotation_vector_of_length_pi():
    half_turns = torch.stack([2 * torch.outer(a, a) - EYE for a in EYE])
    vectors = rotation_vector_from_matrix(half_turns)
    torch.testing.assert_close(vectors.abs(), math.pi * EYE, atol=1e-12, rtol=0)


def test_the_exponential_map_is_differentiable_at_zero():
    v = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix_from_rotation_vector, v)


def test_quaternions_have_unit_length_and_positive_real_part():
    quaternions = quaternion_from_matrix(random_rotations(100, generator()))
    torch.testing.assert_close(quaternions.norm(dim=-1), torch.ones(100, dtype=torch.float64))
    assert (quaternions[:, 0] >= 0).all()


def test_in_plane_composes_with_a_view():
    torch.testing.assert_close(in_plane(0.7) @ matrix_from_euler(0.1, 0.2, 0.0), matrix_from_euler(0.1, 0.2, 0.7))
