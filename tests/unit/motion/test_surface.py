import numpy as np
import pytest

from halfmap.motion.surface import LocalModel, space_functions, time_functions


def a_model(seed=0):
    return LocalModel(np.random.default_rng(seed).normal(size=(2, 6, 3)) * np.array([0.1, 0.01, 0.001]))


def test_shifts_are_relions_polynomial():
    model = a_model()
    z, x, y = 5.0, 0.3, -0.2
    expected = []
    for c in model.coefficients_px.reshape(2, 18):
        total = 0.0
        for term, value in enumerate((1.0, x, x * x, y, y * y, x * y)):
            total += value * (c[3 * term] * z + c[3 * term + 1] * z**2 + c[3 * term + 2] * z**3)
        expected.append(total)
    np.testing.assert_allclose(model.shifts_px(np.array([z]), np.array([[x, y]]))[0, 0], expected)


def test_working_functions_and_coefficients_tell_the_same_motion():
    working = np.random.default_rng(1).normal(size=(2, 6, 3))
    places = np.random.default_rng(2).uniform(-0.5, 0.5, (7, 2))
    model = LocalModel.of_working(working, 24)
    direct = np.einsum("ask,ps,nk->pna", working, space_functions(places), time_functions(np.arange(24) / 23))
    np.testing.assert_allclose(model.shifts_px(np.arange(24), places), direct, atol=1e-9)


def test_working_functions_of_the_position_are_orthonormal_over_the_frame():
    edge = (np.arange(200) + 0.5) / 200 - 0.5
    values = space_functions(np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2))
    product = values.T @ values / len(values)
    assert product[3, 4] == pytest.approx(0.0, abs=1e-3)
    np.testing.assert_allclose(np.diag(product), 1.0, atol=1e-3)


def test_the_mean_is_taken_out_and_told():
    model, edge = a_model(), (np.arange(100) + 0.5) / 100 - 0.5
    places = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2)
    frames = np.arange(10)
    np.testing.assert_allclose(model.shifts_px(frames, places).mean(0), model.mean_px(10), atol=1e-3)
    rest = model.without_mean().shifts_px(frames, places)
    np.testing.assert_allclose(rest, model.shifts_px(frames, places) - model.mean_px(10), atol=1e-9)


def test_nothing_moves_in_the_first_frame():
    assert np.all(a_model().shifts_px(np.array([0]), np.array([[0.4, -0.4]])) == 0)
