import math

import pytest
import torch

from halfmap.geometry.rotations import matrix_from_euler, random_rotations
from halfmap.validation.orientations import SIDE_VIEWS_SCF, orientation_cover


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def uniform(n: int) -> torch.Tensor:
    return torch.rand(n, generator=generator(), dtype=torch.float64)


def test_even_views_have_scf_one():
    cover = orientation_cover(random_rotations(10000, generator()))
    assert 0.95 < cover.scf_star <= 1.0
    assert cover.unsampled_frac == 0.0
    assert cover.sampling.mean() == pytest.approx(1.0)


def test_side_views_have_the_published_scf():
    """8/π² (Baldwin & Lyumkis 2020)."""
    cover = orientation_cover(matrix_from_euler(2 * math.pi * uniform(10000), math.pi / 2, 0.0))
    assert cover.scf_star == pytest.approx(SIDE_VIEWS_SCF, abs=0.04)


def test_top_views_leave_a_gap():
    tilt = 15 * math.pi / 180 * uniform(5000).sqrt()
    cover = orientation_cover(matrix_from_euler(2 * math.pi * uniform(5000), tilt, 0.0))
    assert cover.unsampled_frac > 0.6
    assert cover.scf_star < 0.1
    # Near the z axis nothing is seen, and near the xy plane nearly everything.
    assert cover.sampling[abs(cover.directions[:, 2]) > 0.9].max() == 0
    assert cover.sampling[abs(cover.directions[:, 2]) < 0.1].min() > 0.5


def test_symmetry_fills_gaps():
    tilt = 40 * math.pi / 180 * uniform(3000).sqrt()
    poses = matrix_from_euler(2 * math.pi * uniform(3000), tilt, 0.0)
    assert orientation_cover(poses, "O").scf_star > 3 * orientation_cover(poses, "C1").scf_star
    assert orientation_cover(poses, "O").unsampled_frac == 0.0
    assert orientation_cover(poses, "C4").unsampled_frac > 0.1


def test_no_views_at_all():
    cover = orientation_cover(torch.zeros(0, 3, 3, dtype=torch.float64))
    assert cover.scf_star == 0.0
    assert cover.unsampled_frac == 1.0
