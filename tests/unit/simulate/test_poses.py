import numpy as np
import pytest

from halfmap.simulate.poses import random_classes, random_defocus, random_euler_rad


def test_uniform_views_have_no_preferred_direction_and_no_preferred_second_moment():
    rot, tilt, psi = random_euler_rad(20000, 0.0, np.random.default_rng(1)).T
    direction = np.stack([np.sin(tilt) * np.cos(rot), np.sin(tilt) * np.sin(rot), np.cos(tilt)])
    assert np.abs(direction.mean(axis=1)).max() < 0.02
    assert direction @ direction.T / 20000 == pytest.approx(np.eye(3) / 3, abs=0.01)
    assert np.abs(np.exp(1j * psi).mean()) < 0.02


@pytest.mark.parametrize("concentration", [0.5, 5.0, 50.0])
def test_preferred_views_have_the_mean_of_the_von_mises_fisher_density(concentration):
    tilt = random_euler_rad(20000, concentration, np.random.default_rng(2))[:, 1]
    expected = 1.0 / np.tanh(concentration) - 1.0 / concentration
    assert np.cos(tilt).mean() == pytest.approx(expected, abs=0.01)


def test_classes_come_in_the_shares_asked_for():
    classes = random_classes(10000, (3.0, 0.0, 1.0), np.random.default_rng(3))
    assert np.bincount(classes, minlength=4) / 10000 == pytest.approx([0, 0.75, 0, 0.25], abs=0.02)


def test_defocus_stays_in_its_range_with_u_above_v():
    generator = np.random.default_rng(4)
    drawn = [random_defocus(8000.0, 12000.0, 400.0, generator) for _ in range(500)]
    mean = np.array([(d.u_A + d.v_A) / 2 for d in drawn])
    difference = np.array([d.u_A - d.v_A for d in drawn])
    assert ((mean >= 8000) & (mean <= 12000)).all()
    assert np.ptp(mean) > 3500
    assert ((difference >= 0) & (difference <= 400)).all()
    assert np.ptp(difference) > 350
