import numpy as np
import pytest

from halfmap.simulate.helix import alpha_helix, place_atom


def atoms_named(helix, name):
    return helix.position_A[helix.name == name]


def test_geometry_is_that_of_an_alpha_helix():
    calpha = atoms_named(alpha_helix(30), "CA")
    angle = np.unwrap(np.arctan2(calpha[:, 1], calpha[:, 0]))
    assert np.hypot(calpha[:, 0], calpha[:, 1]) == pytest.approx(2.3, abs=0.05)
    assert np.diff(calpha[:, 2]) == pytest.approx(1.5, abs=0.02)
    assert np.degrees(np.diff(angle)) == pytest.approx(100.0, abs=1.0)


def test_bonds_chirality_and_hydrogen_bonds_are_right():
    helix = alpha_helix(20)
    n, ca, c, o, cb = (atoms_named(helix, name) for name in ("N", "CA", "C", "O", "CB"))
    assert np.linalg.norm(c[:-1] - n[1:], axis=1) == pytest.approx(1.329, abs=1e-6)
    assert np.linalg.norm(ca - n, axis=1) == pytest.approx(1.458, abs=1e-6)
    handedness = np.einsum("ij,ij->i", np.cross(n - ca, c - ca), cb - ca)
    assert (handedness > 0).all(), "L-amino acids"
    assert np.linalg.norm(o[:-4] - n[4:], axis=1) == pytest.approx(2.9, abs=0.2)


def test_axis_is_z_through_the_origin_and_no_atoms_collide():
    position = alpha_helix(25).position_A
    distance = np.linalg.norm(position[:, None] - position[None], axis=-1)
    np.fill_diagonal(distance, 9.0)
    assert distance.min() > 1.2
    assert np.hypot(position[:, 0], position[:, 1]).max() < 9.0


def test_place_atom_has_the_torsion_asked_for():
    a, b, c = np.array([0.0, 1.0, 0.0]), np.zeros(3), np.array([1.5, 0.0, 0.0])
    d = place_atom(a, b, c, 1.5, np.pi / 2, np.radians(70.0))
    n1, n2 = np.cross(b - a, c - b), np.cross(c - b, d - c)
    torsion = np.arctan2(np.dot(np.cross(n1, n2), (c - b) / 1.5), n1 @ n2)
    assert np.degrees(torsion) == pytest.approx(70.0)
    assert np.linalg.norm(d - c) == pytest.approx(1.5)
