"""Errors of whole micrographs: as large as stated, and not larger on a coarse grid than they need be."""

from functools import lru_cache

import numpy as np
import pytest
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.files import on_finer_grid
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import micrograph_power, micrograph_spectrum, spectrum_of_power
from halfmap.ctffit.surface import fit_surface
from halfmap.ctffit.tiles import tile_edge_px, tiles_of

SEEDS, EDGE, PIXEL_A = 24, 1024, 1.2
ASTIGMATISM_A = np.array([150.0, -80.0])
"""Half differences along x and across."""


def picture(mean_A, microscope, seed, edge=EDGE):
    """White noise with the rings of a CTF in its spectrum, strong enough to fit and weak enough to err."""
    fx, fy = np.fft.rfftfreq(edge, PIXEL_A)[None], np.fft.fftfreq(edge, PIXEL_A)[:, None]
    s2 = fx**2 + fy**2
    angle, (along, across) = np.arctan2(fy, fx), ASTIGMATISM_A
    defocus = mean_A + along * np.cos(2 * angle) + across * np.sin(2 * angle)
    gamma = microscope.phase_rad(s2, defocus, 0.0)
    noise = np.fft.rfft2(np.random.default_rng(seed).standard_normal((edge, edge)))
    return np.fft.irfft2(noise * np.sqrt(1.0 + 0.2 * np.sin(gamma) ** 2)).astype(np.float32)


@lru_cache
def fits_of(mean_A, microscope):
    """Errors of mean defocus, of the astigmatism vector, and what is stated: with the first grid, and in the end."""
    settings, rows = FitSettings(max_defocus_A=70_000.0), ([], [])
    for seed in range(SEEDS):
        image = torch.from_numpy(picture(mean_A, microscope, seed))
        spectrum = micrograph_spectrum(image, PIXEL_A)
        first = estimate_ctf(spectrum, microscope, settings)
        last = on_finer_grid(image, PIXEL_A, spectrum, first, microscope, settings)[1]
        for row, found in zip(rows, (first, last), strict=True):
            error = found.parameters[:3] - [mean_A, *ASTIGMATISM_A]
            row.append([*error, found.defocus_error_A, 0.5 * found.astigmatism_error_A])
    return np.array(rows)


@pytest.mark.parametrize(("mean_A", "voltage_kV"), [(6_000.0, 300.0), (40_000.0, 200.0)])
def test_errors_of_micrographs_are_as_large_as_they_say(mean_A, voltage_kV):
    _, (mean, along, across, mean_error, half_error) = fits_of(mean_A, Microscope(voltage_kV, 2.7, 0.1)).swapaxes(1, 2)
    misses = np.concatenate([mean / mean_error, along / half_error, across / half_error])
    assert 0.8 < np.sqrt(np.mean(misses**2)) < 1.15


def test_a_finer_grid_lowers_the_error_where_the_first_one_fades_the_rings():
    first, last = fits_of(40_000.0, Microscope(200.0, 2.7, 0.1))
    before, after = (np.sqrt((rows[:, 1:3] ** 2).mean()) for rows in (first, last))
    assert after < 0.9 * before
    assert last[:, 3].mean() < 0.9 * first[:, 3].mean()
    assert (last[:, 3] < first[:, 3]).all()


def test_the_power_of_a_micrograph_is_taken_once_for_all_grids():
    image = torch.from_numpy(picture(15_000.0, Microscope(300.0, 2.7, 0.1), 0))
    power = micrograph_power(image)
    kept = power.clone()
    for box_px in (512, 700, 1024):
        one = spectrum_of_power(power, image.shape, PIXEL_A, box_px)
        assert torch.equal(one.power, micrograph_spectrum(image, PIXEL_A, box_px).power)
    assert torch.equal(power, kept)


def test_tiles_reach_the_border_and_lie_where_their_power_is():
    """Outer tiles lie outside the middle of their squares, and hold more independent pixels."""
    empty = np.random.default_rng(0).normal(size=(768, 768)).astype(np.float32)
    tiles = tiles_of(empty, 1.5, 30.0, 4.0)
    edge = tile_edge_px(empty.shape, 1.5)
    half_A = 0.5 * (768 - edge) * 1.5
    assert tiles.x_A.min() < -half_A - 0.05 * edge * 1.5
    assert tiles.x_A.min() == pytest.approx(-tiles.x_A.max(), abs=2.0)
    assert tiles.x_A.min() > -half_A - 0.2 * edge * 1.5
    corner = np.hypot(tiles.x_A, tiles.y_A).argmax()
    assert tiles.weight[corner] > 1.2 * tiles.weight[np.hypot(tiles.x_A, tiles.y_A).argmin()]
    assert tiles.weight.mean() == pytest.approx(1.0)


def surface_of(seeds, offset_A):
    """Surfaces fitted to micrographs put together of sixteen patches, each with a defocus of its own."""
    microscope, edge, tile = Microscope(300.0, 2.7, 0.1), 960, 240
    found = []
    for seed in seeds:
        generator, image = np.random.default_rng(seed), np.empty((edge, edge), np.float32)
        for row, column in np.ndindex(4, 4):
            mean_A = 15_000.0 + generator.normal() * offset_A
            patch = picture(mean_A, microscope, 100 * seed + 4 * row + column, 2 * tile)[:tile, :tile]
            image[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = patch
        tiles = tiles_of(image, PIXEL_A, 30.0, 4.0)
        parameters = np.array([15_000.0, *ASTIGMATISM_A, 0.0])
        found.append(fit_surface(tiles, microscope, parameters, (edge // 2, edge // 2)))
    return found


def test_noise_of_slopes_is_known_and_rough_specimens_do_not_pass_for_tilted():
    """On level micrographs slopes are as large as stated; patches 300 Å apart at random have larger errors."""
    level, rough = surface_of(range(8), 0.0), surface_of(range(8), 300.0)
    misses = [np.array(f.plane_slope) / np.sqrt(np.diag(f.slope_covariance)) for f in level]
    assert 0.6 < np.sqrt(np.mean(np.square(misses))) < 1.4
    assert {f.kind for f in level} == {"level"}
    assert sum(f.kind != "level" for f in rough) <= 1  # Sixteen patches at random are now and then like a bowl.
    smooth_error, rough_error = (np.median([f.tilt_error_rad for f in set_]) for set_ in (level, rough))
    assert rough_error > 1.5 * smooth_error
    assert (
        np.ptp([f.tilt_error_rad for f in level]) < 0.6 * smooth_error
    )  # Noise is known from all sectors of all tiles.
