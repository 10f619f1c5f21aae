import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import angular_distance_rad, random_rotations
from halfmap.geometry.symmetry import (
    asymmetric_unit_index,
    canonical_name,
    nearest_equivalent,
    point_group,
    symmetrise_poses,
)

ORDERS = {"C1": 1, "C2": 2, "C7": 7, "D1": 2, "D2": 4, "D5": 10, "T": 12, "O": 24,
          "I": 60, "I1": 60, "I2": 60, "I3": 60, "I4": 60}  # fmt: skip
EYE = torch.eye(3, dtype=torch.float64)


def contains(operators: torch.Tensor, rotations: torch.Tensor) -> torch.Tensor:
    distances = (operators[:, None] - rotations[None]).abs().amax(dim=(-2, -1))
    return distances.amin(dim=0) < 1e-12


@pytest.mark.parametrize("name", ORDERS)
def test_groups_are_groups(name):
    operators = point_group(name)
    assert operators.shape == (ORDERS[name], 3, 3)
    torch.testing.assert_close(operators[0], EYE, atol=0, rtol=0)
    torch.testing.assert_close(operators @ operators.mT, EYE.expand_as(operators), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(operators), torch.ones(len(operators), dtype=torch.float64))
    products = (operators[:, None] @ operators[None]).reshape(-1, 3, 3)
    assert contains(operators, products).all()
    distances = angular_distance_rad(operators[:, None], operators[None]) + 9.0 * torch.eye(len(operators))
    assert distances.min() > 0.5


def axis_turn(group: str, axis: tuple[float, float, float], order: int) -> bool:
    """Whether the group has an axis of that order in that direction."""
    operators = point_group(group)
    direction = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    fixes = ((operators @ direction) - direction).abs().amax(-1) < 1e-9
    return int(fixes.sum()) == order


def test_axes_lie_where_relion_has_them():
    assert axis_turn("C5", (0, 0, 1), 5)
    assert axis_turn("D3", (0, 0, 1), 3)
    assert axis_turn("D3", (1, 0, 0), 2)
    assert axis_turn("T", (0, 0, 1), 3)
    assert axis_turn("T", (0, 0.816496580927726, 0.577350269189626), 2)
    assert axis_turn("O", (0, 0, 1), 4)
    assert axis_turn("O", (1, 1, 1), 3)
    for group in ("I1", "I2"):
        assert all(axis_turn(group, axis, 2) for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1)))
    assert axis_turn("I1", (0.850650808352, 0, -0.525731112119), 5)
    assert axis_turn("I2", (0.525731112119, 0, 0.850650808352), 5)
    assert axis_turn("I3", (0, 0, 1), 5)
    assert axis_turn("I3", (-0.525731112119, 0, 0.850650808352), 2)
    assert axis_turn("I4", (0, 0, 1), 5)
    assert axis_turn("I4", (0.525731112119, 0, 0.850650808352), 2)
    assert not axis_turn("I4", (-0.525731112119, 0, 0.850650808352), 2)


@pytest.mark.parametrize("name", ["", "C", "C0", "C-2", "D0", "I5", "X", "C1.5", "Oh", "C99999"])
def test_unknown_names_name_the_valid_ones(name):
    with pytest.raises(HalfmapError, match="I1, I2, I3, I4") as caught:
        point_group(name)
    assert caught.value.code == "bad-symmetry"


def test_names_are_taken_in_any_case():
    assert [canonical_name(n) for n in ("c1", " d7", "i", "o")] == ["C1", "D7", "I2", "O"]


def test_a_group_handed_out_can_be_changed_without_harm():
    point_group("D2")[:] = 0.0
    torch.testing.assert_close(point_group("D2")[0], EYE)


@pytest.mark.parametrize("name", ["C1", "C7", "D5", "T", "O", "I1", "I2", "I3", "I4"])
def test_every_orbit_meets_the_asymmetric_unit_once(name):
    operators = point_group(name)
    directions = random_rotations(200, torch.Generator().manual_seed(0))[:, 2]
    orbits = operators @ directions[:, None, :, None]
    in_unit = asymmetric_unit_index(orbits.reshape(-1, 3), operators).reshape(200, len(operators)) == 0
    assert (in_unit.sum(dim=1) == 1).all()
    index = asymmetric_unit_index(directions, operators)
    moved = (operators[index].mT @ directions[..., None]).squeeze(-1)
    assert (asymmetric_unit_index(moved, operators) == 0).all()


@pytest.mark.parametrize("name", ["C3", "D2", "O"])
def test_the_nearest_equivalent_undoes_a_symmetry_operation(name):
    operators = point_group(name)
    poses = random_rotations(30, torch.Generator().manual_seed(1))
    picked = torch.randint(len(operators), (30,), generator=torch.Generator().manual_seed(2))
    turned = poses @ operators[picked]
    torch.testing.assert_close(nearest_equivalent(turned, poses, operators), poses, atol=1e-12, rtol=0)
    assert symmetrise_poses(poses, operators).shape == (30, len(operators), 3, 3)
