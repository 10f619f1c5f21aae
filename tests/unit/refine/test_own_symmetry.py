"""A map and its poses in the frame of the point group that the map has."""

from __future__ import annotations

import math

import numpy as np
import torch

from halfmap.geometry.rotations import random_rotations
from halfmap.refine.abinitio.classes import ClassState
from halfmap.refine.abinitio.hypothesis import Hypothesis
from halfmap.refine.abinitio.own_symmetry import turned_map, turned_poses
from halfmap.refine.rings.expectation import Assignment
from halfmap.simulate.phantoms import GaussianPhantom
from halfmap.validation.self_rotation import FoundGroup

FRAME = random_rotations(1, torch.Generator().manual_seed(4))[0].numpy()
SHIFT_A = np.array([3.0, -5.0, 2.0])
GROUP = FoundGroup("C2", FRAME, SHIFT_A, 0.9, 0.9, 0.0)
PHANTOM = GaussianPhantom.random(10, 40.0, (8.0, 12.0), 1)
IN_FRAME = GaussianPhantom(PHANTOM.amplitude, (PHANTOM.position_A - SHIFT_A) @ FRAME, PHANTOM.sigma_A)


def test_the_map_is_what_it_was_in_the_frame_of_the_group():
    volume = torch.as_tensor(PHANTOM.volume(36, 4.0))
    turned = turned_map(volume, 4.0, GROUP)
    expected = torch.as_tensor(IN_FRAME.volume(36, 4.0))
    assert float((turned - expected).norm() / expected.norm()) < 0.01


def test_poses_show_the_same_in_the_frame_of_the_group():
    n = 5
    poses = random_rotations(n, torch.Generator().manual_seed(5)).numpy()
    blank = Assignment.blank(n)
    given_A = blank.shift_A
    given_A += np.random.default_rng(6).normal(size=(n, 2))
    result = Hypothesis(
        0, "C1", 0, (), blank, poses, np.zeros((1, 3)), -math.inf, ClassState.even(n, 1)
    )  # fmt: skip
    moved = turned_poses(result, GROUP)
    for i in range(n):
        # Where the blobs lie in the image: rot @ position, less the shift that centres the particle.
        before = (PHANTOM.position_A @ poses[i].T)[:, :2] - given_A[i]
        after = (IN_FRAME.position_A @ moved.rot_img_from_map[i].T)[:, :2] - moved.assignment.shift_A[i]
        assert np.allclose(before, after)
    assert not np.allclose(result.assignment.shift_A, moved.assignment.shift_A)
