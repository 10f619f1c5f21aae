"""Particles as they come from files: which can be used, and which half they belong to."""

import numpy as np
import pytest

from halfmap.errors import BadInputError, HalfmapError
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.sources import check_diameter, half_sets, report_faults


@pytest.fixture
def particles(phantom, simulated):
    made = simulated([phantom(16, 6.0, 60.0)], [8], snr=1.0, diameter_A=60.0)
    return made.image_set.with_columns(uid=np.arange(8) + 100)


def with_micrographs(particles, names, **columns):
    return particles.with_columns(micrograph_name=np.array(names, object), **columns)


def test_halves_that_are_given_stay(particles, session):
    given = np.array([2, 2, 1, 1, 2, 1, 2, 1])
    assert half_sets(particles.with_columns(half_set=given), session()).tolist() == given.tolist()


def test_halves_are_drawn_by_micrograph(particles, session):
    drawn = half_sets(with_micrographs(particles, list("aabbccdd")), session())
    assert drawn[::2].tolist() == drawn[1::2].tolist()
    assert sorted(drawn.tolist()) == [1] * 4 + [2] * 4


def test_one_micrograph_is_split_by_particle_and_that_is_said(particles, session):
    told = session()
    drawn = half_sets(with_micrographs(particles, ["a"] * 8, half_set=np.ones(8, int)), told)
    assert sorted(drawn.tolist()) == [1] * 4 + [2] * 4
    assert any("one micrograph" in warning for warning in told.warnings)


@pytest.mark.parametrize("values", [[1] * 8, [0, 1] * 4, [1, 2, 3, 1, 2, 3, 1, 2]])
def test_other_values_are_refused(particles, session, values):
    images = with_micrographs(particles, list("aabbccdd"), half_set=np.array(values))
    with pytest.raises(HalfmapError, match="half_set holds"):
        half_sets(images, session())


@pytest.mark.parametrize(("n_flat", "refused"), [(2, False), (5, True)])
def test_a_few_flat_particles_are_left_out_and_many_refused(n_flat, refused, phantom, simulated, session):
    grid = MapGrid(16, 6.0)
    made = simulated([phantom(16, 6.0, 60.0)], [40], snr=1.0, diameter_A=60.0)
    flat = made.with_images([image * (number >= n_flat) for number, image in enumerate(made.images)])
    observations = flat.observations(grid, 60.0)
    if refused:
        with pytest.raises(HalfmapError, match="5 of 40 particles cannot be used"):
            report_faults(observations, session())
    else:
        assert report_faults(observations, session()) == 2


def test_a_particle_larger_than_its_box_is_refused():
    check_diameter("particles.star", 96.0, MapGrid(16, 6.0))
    with pytest.raises(BadInputError, match=r"particles\.star: box is 96 Å, expected at least the diameter, 97 Å"):
        check_diameter("particles.star", 97.0, MapGrid(16, 6.0))
