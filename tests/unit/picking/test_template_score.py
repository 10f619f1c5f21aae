import numpy as np
import pytest
import torch

from halfmap.fourier.grid import radius_px
from halfmap.picking.field import Field, field_of, flattened, radial_power, signal_free, smooth
from halfmap.picking.score import maxima, score_map
from halfmap.picking.template import Template, candidates


@pytest.mark.parametrize("inner", [0.0, 0.65])
def test_transform_is_that_of_a_shell_drawn_in_real_space(inner):
    n, pixel_A, diameter_A = 256, 1.0, 120.0
    y, x = np.indices((n, n)) - n // 2
    r2 = (y**2 + x**2) * pixel_A**2
    outer = 2 * np.sqrt(np.maximum((diameter_A / 2) ** 2 - r2, 0))
    drawn = outer - 2 * np.sqrt(np.maximum((inner * diameter_A / 2) ** 2 - r2, 0))
    drawn /= 4 / 3 * np.pi * (diameter_A / 2) ** 3
    expected = np.fft.rfft2(np.fft.ifftshift(drawn)).real
    found = Template(diameter_A, inner, 0.0).transform(radius_px((n, n)) / (n * pixel_A)).numpy()
    low = radius_px((n, n)).numpy() < 40
    assert np.abs(found - expected)[low].max() < 2e-3
    assert found[0, 0] == pytest.approx(1 - inner**3, abs=1e-6)


def test_candidates_are_all_different():
    templates = candidates([100.0, 120.0])
    assert len(set(templates)) == len(templates) == 12


def field_with(image, pixel_size_A=6.0):
    return Field(torch.from_numpy(image.astype(np.float32)), pixel_size_A, 1.0, 0, image.shape)


def test_score_of_noise_has_unit_variance_whatever_its_spectrum():
    rng = np.random.default_rng(1)
    coloured = smooth(torch.from_numpy(rng.standard_normal((256, 256)).astype(np.float32)), 0.7).numpy()
    field = field_with(7 * coloured)
    score = score_map(torch.fft.rfft2(field.image), 6.0, Template(120.0, 0.0, 0.05), radial_power(field.image), None)
    assert float(score.std()) == pytest.approx(1.0, abs=0.05)


def test_score_peaks_at_the_particle_with_the_expected_height():
    rng = np.random.default_rng(2)
    n, place = 128, (40, 90)
    template = Template(120.0, 0.0, 0.05)
    profile = template.transform(radius_px((n, n)) / (n * 6.0))
    particle = torch.fft.irfft2(profile.to(torch.complex64), s=(n, n)).roll(place, (0, 1)).numpy()
    particle -= particle.mean()
    particle *= 9.0 / np.sqrt((particle**2).sum())
    field = field_with(particle + rng.standard_normal((n, n)))
    score = score_map(torch.fft.rfft2(field.image), 6.0, template, torch.ones((n, n // 2 + 1)), None)
    y, x, height = maxima(score, 8.0, 0.0)[0]
    assert np.hypot(y - place[0], x - place[1]) < 1.5
    assert height == pytest.approx(9.0, abs=2.5)


def test_maxima_agree_with_a_slow_search():
    rng = np.random.default_rng(3)
    score = smooth(torch.from_numpy(rng.standard_normal((60, 60)).astype(np.float32)), 1.5)
    values, distance = score.numpy().astype(np.float64), 9.0
    slow = []
    for flat in np.argsort(-values, axis=None, kind="stable"):
        y, x = divmod(int(flat), 60)
        patch = values[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        if values[y, x] == patch.max() and all(np.hypot(y - a, x - b) > distance for a, b in slow):
            slow.append((y, x))
    found = maxima(score, distance, -np.inf)
    assert np.abs(found[:, :2] - np.array(slow)).max() <= 0.5
    assert (np.diff(found[:, 2]) <= 0).all()


def test_maximum_is_found_to_a_fraction_of_a_pixel():
    y, x = np.indices((21, 21))
    blob = np.exp(-((y - 10.3) ** 2 + (x - 8.8) ** 2) / 18.0).astype(np.float32)
    found = maxima(torch.from_numpy(blob), 5.0, 0.0)
    assert found[0, :2] == pytest.approx([10.3, 8.8], abs=0.03)


def test_field_maps_back_to_the_micrograph(make_scene):
    image = np.zeros((500, 420), dtype=np.float32)
    rng = np.random.default_rng(0)
    image += rng.standard_normal(image.shape).astype(np.float32)
    y, x = np.indices(image.shape)
    image += 4 * np.exp(-((y - 300) ** 2 + (x - 111) ** 2) / (2 * 12.0**2)).astype(np.float32)
    field = field_of(image, 2.0, 150.0, "cpu").resampled(7.0)
    assert 7.0 <= field.pixel_size_A * 1.1 < 7.7
    inside = field.inside(smooth(field.image, 3.0))
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    back = (np.array([row, column]) + field.origin()) * field.scale - field.margin_px
    assert np.abs(back - [300, 111]).max() < 8.0


def test_signal_free_copy_keeps_the_spectrum_and_loses_the_signal(make_scene):
    scene = make_scene(seed=4)
    field = flattened(field_of(scene.image, 3.0, 180.0, "cpu").resampled(6.0), 120.0)
    copy = signal_free(field, "a.mrc", 0, seed=1)
    again = signal_free(field, "a.mrc", 0, seed=1)
    other = signal_free(field, "a.mrc", 1, seed=1)
    assert torch.allclose(torch.fft.rfft2(copy.image).abs(), torch.fft.rfft2(field.image).abs(), rtol=1e-2, atol=0.5)
    assert torch.equal(copy.image, again.image)
    correlations = [float((copy.image * f.image).mean() / copy.image.var()) for f in (field, other)]
    assert max(map(abs, correlations)) < 0.1
