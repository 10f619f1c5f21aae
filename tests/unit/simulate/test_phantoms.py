import numpy as np
import pytest
from scipy.spatial import cKDTree

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.geometry.symmetry import point_group
from halfmap.simulate.form_factors import ICE_POTENTIAL_V
from halfmap.simulate.phantoms import HINGE_ANGLE_RAD, GaussianPhantom, asymmetric, cage, cage_subunit
from halfmap.simulate.potential import scattering_potential


def correlation(a, b):
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def turned(volume, operator):
    """Volume of odd edge turned by a signed permutation of the axes, exactly: out(r) = in(operatorᵀ r)."""
    n = len(volume)
    axis = np.arange(n) - n // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    source = np.round(np.stack([x, y, z], axis=-1) @ np.asarray(operator)).astype(int) + n // 2
    return volume[source[..., 2], source[..., 1], source[..., 0]]


def test_cage_map_has_octahedral_symmetry():
    volume = scattering_potential(cage(), 51, 3.0, solvent_V=ICE_POTENTIAL_V).data
    for operator in point_group("O").numpy():
        assert correlation(turned(volume, operator), volume) > 0.9999


def test_cage_is_chiral_hollow_and_of_the_size_of_apoferritin():
    atoms = cage()
    radius = np.linalg.norm(atoms.position_A, axis=1)
    assert 115 < 2 * np.percentile(radius, 99) < 130
    assert radius.min() > 30
    assert len(atoms) == 24 * len(cage_subunit())
    volume = scattering_potential(atoms, 51, 3.0, solvent_V=ICE_POTENTIAL_V).data
    assert correlation(volume[:, :, ::-1], volume) < 0.9


def test_subunits_of_the_cage_do_not_run_into_each_other():
    subunit = cage_subunit().position_A
    tree = cKDTree(subunit)
    others = [op for op in point_group("O").numpy() if not np.allclose(op, np.eye(3))]
    closest = min(tree.query(subunit @ op.T)[0].min() for op in others)
    assert closest > 0.5


def test_asymmetric_model_has_no_symmetry_at_low_resolution():
    volume = scattering_potential(asymmetric(), 43, 5.0, solvent_V=ICE_POTENTIAL_V, lowpass_A=20.0).data
    assert 130 < asymmetric().diameter_A() < 175
    for operator in point_group("O").numpy():
        if not np.allclose(operator, np.eye(3)):
            assert correlation(turned(volume, operator), volume) < 0.8
    assert correlation(volume[:, :, ::-1], volume) < 0.8


def test_conformations_differ_by_a_turn_of_the_head():
    one, two = asymmetric(1).position_A, asymmetric(2).position_A
    moved = np.linalg.norm(one - two, axis=1) > 1e-6
    assert 0.1 < moved.mean() < 0.4
    a, b = (points[moved] - points[moved].mean(axis=0) for points in (one, two))
    u, _, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    assert np.arccos((np.trace(rotation) - 1) / 2) == pytest.approx(HINGE_ANGLE_RAD, abs=1e-6)
    with pytest.raises(HalfmapError, match="conformation"):
        asymmetric(3)


def test_gaussian_volume_projection_and_transform_agree():
    phantom = GaussianPhantom.random(8, 15.0, (3.0, 5.0), seed=3)
    n, pixel = 48, 1.5
    volume = phantom.volume(n, pixel)
    identity = np.eye(3)
    assert phantom.projection(identity, n, pixel) == pytest.approx(volume.sum(axis=0) * pixel, abs=1e-6)
    transform = np.fft.fftn(np.fft.ifftshift(volume)) * pixel**3
    k = np.fft.fftfreq(n, pixel)
    kz, ky, kx = np.meshgrid(k, k, k, indexing="ij")
    expected = phantom.transform(np.stack([kx, ky, kz], axis=-1))
    assert np.abs(transform - expected).max() < 1e-6 * np.abs(expected).max()
    power = (volume**2).sum() * pixel**3
    assert (np.abs(expected) ** 2).sum() / (n * pixel) ** 3 == pytest.approx(power, rel=1e-6)


def test_gaussian_projection_follows_the_rotation_of_the_conventions():
    blob = GaussianPhantom(np.array([1.0]), np.array([[12.0, 0.0, 0.0]]), np.array([2.0]))
    image = blob.projection(matrix_from_euler(np.pi / 2, 0.0, 0.0).numpy(), 32, 1.5)
    row, column = np.unravel_index(image.argmax(), image.shape)
    assert (row, column) == (16 - 8, 16), "ADR-0001: A(90°, 0, 0) takes +x to -y"
