"""Tilted specimens of known tilt, as the simulation of movies makes them."""

import numpy as np
import pytest
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.files import MicrographFiles, process_micrograph
from halfmap.ctffit.local import local_defocus, with_surface
from halfmap.ctffit.spectrum import micrograph_spectrum
from halfmap.ctffit.surface import fit_surface
from halfmap.ctffit.tiles import N_SECTORS, tile_edge_px, tile_length_A, tiles_of
from halfmap.errors import HalfmapError
from halfmap.io.mrc import write_image
from halfmap.io.star import read_star
from halfmap.optics.defocus_surface import DefocusSurface
from halfmap.simulate.background import random_background
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field
from halfmap.units import DEG

EDGE, PIXEL_A = 1024, 1.2
DEFOCUS = Defocus(15300.0, 14700.0, 0.6)


@pytest.fixture(scope="module")
def tilted_micrograph():
    """Ice whose defocus grows by ``tan(tilt)`` towards a direction, seen by a counting detector."""
    made = {}

    def make(tilt_deg, direction_deg, *, seed=0, dose=60.0):
        key = (tilt_deg, direction_deg, seed, dose)
        if key not in made:
            generator = np.random.default_rng(seed)
            slope, direction = np.tan(tilt_deg * DEG), direction_deg * DEG
            plane = IcePlane(slope * np.cos(direction), slope * np.sin(direction))
            background = random_background(
                (EDGE, EDGE), PIXEL_A, kind="ordinary", voltage_kV=300.0, ice_thickness_A=350.0, contaminants=0.0,
                generator=generator,
            )  # fmt: skip
            field = background_field(background, plane, DEFOCUS, Optics(300.0, 2.7, 0.1, 0.0, 50.0), PIXEL_A)
            image = generator.poisson(np.clip(field, 0.0, None) * dose * PIXEL_A**2).astype(np.float32)
            made[key] = image, np.array([plane.slope_x, plane.slope_y])
        return made[key]

    return make


def fitted(image, titan):
    half = 0.5 * (DEFOCUS.u_A - DEFOCUS.v_A)
    vector = half * np.cos(2 * DEFOCUS.angle_rad), half * np.sin(2 * DEFOCUS.angle_rad)
    parameters = np.array([15000.0, *vector, 0.0])
    return fit_surface(tiles_of(image, PIXEL_A, 30.0, 4.0), titan, parameters, (EDGE // 2, EDGE // 2))


@pytest.mark.parametrize(("tilt_deg", "direction_deg"), [(15, 20), (30, 130), (45, -100), (55, 60)])
def test_tilt_and_the_way_defocus_grows_are_found(tilted_micrograph, titan, tilt_deg, direction_deg):
    image, slope = tilted_micrograph(tilt_deg, direction_deg)
    found = fitted(image, titan)
    assert found.kind == "plane"
    assert found.surface.tilt_rad / DEG == pytest.approx(tilt_deg, abs=3.0)
    apart = (found.surface.tilt_axis_rad / DEG - direction_deg - 90.0 + 90.0) % 180.0 - 90.0
    assert abs(apart) < 8.0
    assert np.dot(found.surface.coefficients[:2], slope) > 0
    assert abs(found.mean_defocus_A - 15000.0) < 40.0
    assert 0 < found.tilt_error_rad / DEG < 3.0


@pytest.mark.parametrize("seed", range(4))
def test_a_level_specimen_reports_no_tilt(tilted_micrograph, titan, seed):
    image, _ = tilted_micrograph(0.0, 0.0, seed=seed)
    found = fitted(image, titan)
    assert found.kind == "level"
    assert found.surface.tilt_rad == 0.0
    assert found.surface.coefficients == (0.0,) * 5
    assert 0 < found.tilt_error_rad / DEG < 4.0


def test_noise_reports_no_tilt(titan):
    noise = np.random.default_rng(0).normal(size=(EDGE, EDGE)).astype(np.float32)
    assert fitted(noise, titan).kind == "level"


def test_errors_are_as_large_as_they_say(tilted_micrograph, titan):
    misses = []
    for seed in range(6):
        image, slope = tilted_micrograph(20.0, 75.0, seed=seed)
        found = fitted(image, titan)
        misses.extend((np.array(found.plane_slope) - slope) / np.sqrt(np.diag(found.slope_covariance)))
    assert 0.4 < np.sqrt(np.mean(np.square(misses))) < 2.0


def test_a_bowl_is_found_curved(titan):
    """Patches of a micrograph are simulated with the defocus that a bowl has at their centres."""
    edge, deep_per_A = 1536, 1.5e-3
    tile = edge // 8
    generator = np.random.default_rng(3)
    shape = (tile * 2, tile * 2)
    image = np.zeros((edge, edge), np.float32)
    for row in range(8):
        for column in range(8):
            x, y = ((i + 0.5) * tile - edge // 2 for i in (column, row))
            offset = deep_per_A * ((x * PIXEL_A) ** 2 + (y * PIXEL_A) ** 2)
            defocus = Defocus(DEFOCUS.u_A + offset, DEFOCUS.v_A + offset, DEFOCUS.angle_rad)
            background = random_background(
                shape, PIXEL_A, kind="ordinary", voltage_kV=300.0, ice_thickness_A=350.0, contaminants=0.0,
                generator=generator,
            )  # fmt: skip
            optics = Optics(300.0, 2.7, 0.1, 0.0, 50.0)
            field = background_field(background, IcePlane(0.0, 0.0), defocus, optics, PIXEL_A)[:tile, :tile]
            image[row * tile : (row + 1) * tile, column * tile : (column + 1) * tile] = field
    image = generator.poisson(np.clip(image, 0.0, None) * 100.0 * PIXEL_A**2).astype(np.float32)
    half = 0.5 * (DEFOCUS.u_A - DEFOCUS.v_A)
    vector = half * np.cos(2 * DEFOCUS.angle_rad), half * np.sin(2 * DEFOCUS.angle_rad)
    tiles = tiles_of(image, PIXEL_A, 30.0, 4.0)
    found = fit_surface(tiles, titan, np.array([15300.0, *vector, 0.0]), (edge // 2, edge // 2))
    assert found.kind == "curved"
    assert found.surface.coefficients[2] == pytest.approx(deep_per_A, rel=0.25)
    assert found.surface.coefficients[4] == pytest.approx(deep_per_A, rel=0.25)
    assert abs(found.surface.coefficients[3]) < 0.25 * deep_per_A


def test_cells_of_a_tile_are_means_of_its_spectrum():
    """One tile against a slow average, cell by cell, of the same relative power."""
    image = np.random.default_rng(1).normal(size=(800, 900)).astype(np.float32)
    tiles = tiles_of(image, 1.5, 30.0, 4.0)
    edge = tile_edge_px(image.shape, 1.5)
    assert edge == 256
    assert len(tiles) == 5 * 6
    assert tiles.value.shape == (len(tiles), N_SECTORS, len(tiles.frequency_squared))
    filled = tiles.count > 0
    variance = (tiles.count * tiles.value**2)[:, filled].mean()
    assert 1.0 < variance < 2.6  # A periodogram's pixels vary by as much as their mean; neighbours share noise.
    assert 1.2 < tiles.shared < 1.6
    assert abs(tiles.value[:, filled].mean()) < 0.1


@pytest.mark.parametrize("shape", [(4096, 4096), (4092, 5760), (1024, 1440), (3838, 3710), (576, 700)])
def test_tiles_fit_into_the_micrograph(shape):
    for pixel_A in (0.5, 0.83, 1.2, 3.0):
        edge = tile_edge_px(shape, pixel_A)
        assert edge % 2 == 0
        assert 192 <= edge <= min(shape) // 3


def test_tiles_grow_with_the_defocus(titan):
    """Rings at 5 Å of a defocus of 60,000 Å belong to a distance of 2 λ Δf / 5 Å."""
    assert tile_length_A(titan, 10000.0) == 500.0
    assert tile_length_A(titan, 60000.0) == pytest.approx(2 * 2 * 0.0196875 * 60000 / 5, rel=0.02)


def test_a_micrograph_too_small_for_tiles_is_an_error():
    with pytest.raises(HalfmapError, match="576 px"):
        tile_edge_px((500, 2000), 1.0)


def test_the_files_of_a_tilted_micrograph_hold_its_surface(tilted_micrograph, titan, tmp_path):
    image, slope = tilted_micrograph(30.0, 130.0)
    write_image(tmp_path / "a.mrc", image, PIXEL_A)
    files = MicrographFiles(tmp_path / "a.mrc", None, tmp_path / "a", PIXEL_A, titan, FitSettings(), local=True)
    value = process_micrograph(files)
    assert value["defocus_surface"] == "plane"
    assert value["specimen_tilt_rad"] / DEG == pytest.approx(30.0, abs=2.5)
    assert abs(value["defocus_u_A"] - DEFOCUS.u_A) < 60.0
    assert abs(value["defocus_v_A"] - DEFOCUS.v_A) < 60.0
    surface = DefocusSurface(
        tuple(value[n] for n in list(value)[list(value).index("defocus_slope_x") :][:5]), (512, 512)
    )
    corner = float(surface.offset_A(np.array(0.0), np.array(1023.0), PIXEL_A))
    assert corner == pytest.approx(float(slope @ np.array([-512.0, 511.0])) * PIXEL_A, abs=60.0)
    assert read_star(tmp_path / "a_ctf.star")["ctf_fit"]["halfmapDefocusSurface"][0] == "plane"


def test_rings_that_follow_the_surface_reach_farther(tilted_micrograph, titan):
    image, _ = tilted_micrograph(45, -100)
    whole = estimate_ctf(micrograph_spectrum(torch.from_numpy(image), PIXEL_A), titan, FitSettings())
    local = local_defocus(image, PIXEL_A, titan, FitSettings(), whole)
    found = with_surface(whole, local, image, PIXEL_A, titan, FitSettings())
    assert whole.fit_resolution_A > 4.5
    assert found.fit_resolution_A < whole.fit_resolution_A - 1.0
    assert abs(found.parameters[0] - 15000.0) < 40.0
    low = found.curve.frequency_per_A < 1 / found.fit_resolution_A
    assert np.corrcoef(found.curve.spectrum[low], found.curve.fit[low])[0, 1] > 0.6


def test_a_small_micrograph_is_fitted_as_a_whole_only(titan, tmp_path):
    image = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    write_image(tmp_path / "a.mrc", image, PIXEL_A)
    files = MicrographFiles(tmp_path / "a.mrc", None, tmp_path / "a", PIXEL_A, titan, FitSettings(), local=True)
    value = process_micrograph(files)
    assert value["defocus_surface"] == "not fitted"
    assert value["defocus_slope_x"] == 0.0
    assert np.isnan(value["specimen_tilt_rad"])
