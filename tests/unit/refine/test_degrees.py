"""Maps taken apart by degree of spherical harmonics."""

import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from halfmap.refine.abinitio.degrees import Degrees

N, RADIUS_PX = 40, 15.0


def harmonic(degree: int, order: int) -> torch.Tensor:
    """A real spherical harmonic on a thick shell."""
    axis = np.arange(N) - N // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    tilt = np.arccos(z / np.maximum(radius, 1e-9))
    shell = np.exp(-((radius - 10) ** 2) / 8)
    return torch.as_tensor(shell * sph_harm_y(degree, order, tilt, np.arctan2(y, x)).real, dtype=torch.float32)


@pytest.fixture(scope="module")
def degrees():
    return Degrees(N, RADIUS_PX, 4.0)


def only(degrees: Degrees, *kept: int) -> np.ndarray:
    factors = np.zeros(degrees.count)
    factors[list(kept)] = 1.0
    return factors


@pytest.mark.parametrize(("degree", "order"), [(0, 0), (1, 1), (4, 0), (6, 5), (9, 4)])
def test_a_harmonic_has_one_degree(degrees, degree, order):
    volume = harmonic(degree, order)
    nothing = np.zeros(degrees.count)
    own = degrees.mixed(volume, volume, only(degrees, degree), nothing)
    without = degrees.mixed(volume, volume, 1 - only(degrees, degree), nothing)
    assert float((own - volume).norm()) < 0.02 * float(volume.norm())
    assert float(without.norm()) < 0.02 * float(volume.norm())


def test_a_mix_takes_each_degree_from_where_it_is_told(degrees):
    first, second = harmonic(4, 4) + harmonic(6, 0), 2 * harmonic(4, 4) - harmonic(8, 3)
    mixed = degrees.mixed(first, second, 1 - only(degrees, 4), only(degrees, 4, 8))
    expected = harmonic(6, 0) + second
    assert float((mixed - expected).norm()) < 0.02 * float(expected.norm())


def test_turned_odd_degrees_are_the_other_hand(degrees):
    volume = harmonic(4, 4) + harmonic(9, 4)
    hand = (-1.0) ** np.arange(degrees.count)
    mirrored = degrees.mixed(volume, volume, hand, np.zeros(degrees.count))
    through_the_centre = torch.roll(volume.flip(0, 1, 2), (1, 1, 1), (0, 1, 2))
    assert float((mirrored - through_the_centre).norm()) < 0.02 * float(volume.norm())
