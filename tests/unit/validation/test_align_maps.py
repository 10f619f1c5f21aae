"""A map brought onto a reference: how near it comes to the pose that it was given."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfmap.geometry.rotations import angular_distance_rad, matrix_from_rotation_vector
from halfmap.simulate.phantoms import asymmetric
from halfmap.simulate.potential import scattering_potential
from halfmap.units import DEG
from halfmap.validation import align_maps as module
from halfmap.validation.align_maps import align_maps, mirror_map

N, PIXEL_SIZE_A = 64, 3.0
TURN = matrix_from_rotation_vector(torch.tensor([0.6, -1.1, 0.7], dtype=torch.float64)).numpy()
SHIFT_A = np.array([4.1, -2.3, 5.7])


def density(atoms) -> torch.Tensor:
    return torch.from_numpy(scattering_potential(atoms, N, PIXEL_SIZE_A, solvent_V=0.0, bfactor_A2=60.0).data)


@pytest.fixture(scope="module")
def maps():
    """A reference, and another with its atoms elsewhere, in noise that leaves next to nothing beyond 8 Å."""
    atoms = asymmetric(1)
    moved = density(replace(atoms, position_A=atoms.position_A @ TURN.T + SHIFT_A))
    noise = torch.randn(N, N, N, generator=torch.Generator().manual_seed(3))
    return density(atoms), moved + moved.std() * noise


def missed(found):
    turn = angular_distance_rad(torch.as_tensor(found.rot_map_from_ref), torch.as_tensor(TURN))
    return float(turn) / DEG, float(np.linalg.norm(found.shift_A - SHIFT_A))


def test_a_map_is_brought_onto_the_reference(maps, monkeypatch):
    reference, moved = maps
    found = align_maps(moved, reference, PIXEL_SIZE_A, resolution_A=24.0)
    turn_deg, shift_A = missed(found)
    assert not found.mirrored
    assert turn_deg < 0.1
    assert shift_A < 0.1
    monkeypatch.setattr(module, "MAX_STEPS", 0)
    before_deg, _ = missed(align_maps(moved, reference, PIXEL_SIZE_A, resolution_A=24.0, either_hand=False))
    assert before_deg > 2 * turn_deg


def test_the_other_hand_is_found_and_brought_there(maps):
    reference, moved = maps
    found = align_maps(mirror_map(moved), reference, PIXEL_SIZE_A, resolution_A=24.0)
    turn_deg, shift_A = missed(found)
    assert found.mirrored
    assert found.correlation > found.other_correlation
    assert turn_deg < 0.1
    assert shift_A < 0.1


def test_a_ball_is_centred_though_nothing_tells_its_turn():
    atoms = replace(asymmetric(1), position_A=np.zeros_like(asymmetric(1).position_A))
    ball = density(atoms)
    noise = 0.01 * ball.max() * torch.randn(N, N, N, generator=torch.Generator().manual_seed(4))
    found = align_maps(ball + noise, ball, PIXEL_SIZE_A, resolution_A=24.0, either_hand=False)
    assert np.linalg.norm(found.shift_A) < 0.1
