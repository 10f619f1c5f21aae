import numpy as np
import pytest

from halfmap.optics.defocus_surface import SURFACE_COLUMNS, DefocusSurface, surface_offsets_A


def test_an_offset_is_the_polynomial_at_the_distance_from_the_centre():
    surface = DefocusSurface((0.2, -0.1, 1e-5, 2e-5, -3e-5), (100.0, 50.0))
    x_A, y_A = 1.5 * (130.0 - 100.0), 1.5 * (20.0 - 50.0)
    expected = 0.2 * x_A - 0.1 * y_A + 1e-5 * x_A**2 + 2e-5 * x_A * y_A - 3e-5 * y_A**2
    assert float(surface.offset_A(np.array(130.0), np.array(20.0), 1.5)) == pytest.approx(expected)
    assert float(surface.offset_A(np.array(100.0), np.array(50.0), 1.5)) == 0.0


def test_tilt_and_axis_of_a_known_plane():
    """Defocus grows along x at 30 degrees of tilt: the axis runs along y."""
    surface = DefocusSurface((np.tan(np.pi / 6), 0.0, 0.0, 0.0, 0.0), (0.0, 0.0))
    assert surface.tilt_rad == pytest.approx(np.pi / 6)
    assert surface.tilt_axis_rad == pytest.approx(np.pi / 2)
    turned = DefocusSurface((-0.1, 0.1, 0.0, 0.0, 0.0), (0.0, 0.0))
    assert turned.tilt_axis_rad == pytest.approx(np.pi / 4)


def test_places_on_several_micrographs_have_the_surface_of_their_own():
    surfaces = [
        DefocusSurface((0.1, 0.0, 0.0, 0.0, 0.0), (10.0, 10.0)),
        DefocusSurface((0, -0.3, 0, 0, 1e-4), (0.0, 5.0)),
    ]
    columns = {name: np.array([surface.columns()[name] for surface in surfaces]) for name in SURFACE_COLUMNS}
    x, y, pixel = np.array([20.0, 7.0]), np.array([3.0, 25.0]), np.array([1.0, 2.0])
    found = surface_offsets_A(columns, x, y, pixel)
    expected = [float(s.offset_A(x[i], y[i], pixel[i])) for i, s in enumerate(surfaces)]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(found, [1.0, -0.3 * 40 + 1e-4 * 1600])
