"""Point groups of maps of known symmetry, turned, moved and noisy; and of maps that have none."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from halfmap.geometry.rotations import angular_distance_rad, random_rotations
from halfmap.geometry.symmetry import point_group
from halfmap.simulate.phantoms import GaussianPhantom
from halfmap.units import DEG
from halfmap.validation.self_rotation import self_rotation

BOX_PX, PIXEL_SIZE_A, RESOLUTION_A = 32, 5.0, 18.0
NOISE = 0.6


def placed_phantom(symmetry, blobs, seed):
    """Blobs with all their mates, in a frame of their own; the frame and its shift."""
    one = GaussianPhantom.random(blobs, 55.0, (5.0, 8.0), seed)
    operators = point_group(symmetry).numpy()
    frame = random_rotations(1, torch.Generator().manual_seed(seed))[0].numpy()
    generator = np.random.default_rng([seed, 1])
    shift_A = generator.normal(size=3) * 3.0
    mates = np.concatenate([one.position_A @ operator.T for operator in operators]) @ frame.T + shift_A
    copies = len(operators)
    whole = GaussianPhantom(np.tile(one.amplitude, copies), mates, np.tile(one.sigma_A, copies))
    volume = whole.volume(BOX_PX, PIXEL_SIZE_A)
    return volume, frame, shift_A


def noisy(volume, seed=0):
    generator = np.random.default_rng([seed, 2])
    return torch.tensor(volume / volume.std() + NOISE * generator.standard_normal(volume.shape), dtype=torch.float32)


@pytest.mark.parametrize(
    ("symmetry", "blobs"), [("C2", 16), ("C3", 12), ("C7", 6), ("D2", 8), ("T", 4), ("O", 3), ("I1", 2)]
)
def test_the_group_of_a_noisy_map_and_its_axes_are_found(symmetry, blobs):
    volume, frame, shift_A = placed_phantom(symmetry, blobs, seed=3)
    group = self_rotation(noisy(volume), PIXEL_SIZE_A, resolution_A=RESOLUTION_A).group()
    assert group is not None
    assert group.name == {"I1": "I2"}.get(symmetry, symmetry)
    # The turns themselves, since a frame may be exchanged for an equivalent one.
    found = torch.as_tensor(group.rot_map_from_axes)
    ours = found @ point_group(group.name) @ found.T
    true = torch.as_tensor(frame)
    theirs = true @ point_group(symmetry) @ true.T
    nearest = angular_distance_rad(ours[:, None], theirs[None]).amin(dim=1)
    assert float(nearest.max()) < 3.0 * DEG
    off_A = group.shift_A - shift_A
    if symmetry[0] == "C":  # A shift along the axis is not determined.
        axis = found[:, 2].numpy()
        off_A = off_A - axis * (axis @ off_A)
    assert np.linalg.norm(off_A) < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_a_map_without_symmetry_has_no_group(seed):
    volume, _, _ = placed_phantom("C1", 40, seed)
    assert self_rotation(noisy(volume, seed), PIXEL_SIZE_A, resolution_A=RESOLUTION_A).group() is None


def test_nearly_symmetric_is_less_than_symmetric():
    """A ring of four of which every other one differs has two-fold symmetry alone."""
    ring, frame, _ = placed_phantom("C4", 8, seed=5)
    pair, frame_of_pair, _ = placed_phantom("C2", 8, seed=5)
    assert np.allclose(frame, frame_of_pair)
    found = self_rotation(noisy(ring + 2.0 * pair), PIXEL_SIZE_A, resolution_A=RESOLUTION_A)
    group = found.group()
    assert group is not None
    assert group.name == "C2"


def test_a_round_map_has_no_group_of_many_turns():
    """A disc is the same after any turn about its axis; none of the cyclic groups is told from the others."""
    axis = (np.arange(BOX_PX) - BOX_PX // 2) * PIXEL_SIZE_A
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    disc = (np.hypot(x, y) < 50.0) & (np.abs(z - 6.0 * np.sign(50.0 - 2 * np.hypot(x, y))) < 15.0)
    group = self_rotation(noisy(disc.astype(float)), PIXEL_SIZE_A, resolution_A=RESOLUTION_A).group()
    assert group is None or group.name in ("C2", "D2")


def test_noise_has_no_group():
    volume = torch.randn(20, 20, 20, generator=torch.Generator().manual_seed(0))
    assert self_rotation(volume, PIXEL_SIZE_A, resolution_A=RESOLUTION_A).group() is None
