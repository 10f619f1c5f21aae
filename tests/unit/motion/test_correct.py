from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from halfmap.errors import BadInputError
from halfmap.io.movies import write_movie
from halfmap.io.mrc import read_image, write_image
from halfmap.io.star import read_star
from halfmap.motion.correct import MovieSettings, binned_shape, correct_movie
from halfmap.motion.files import MovieFiles, process_movie
from halfmap.motion.frames import read_frames

SETTINGS = MovieSettings(pixel_size_A=1.0, voltage_kV=300.0, dose_per_frame_e_per_A2=1.0, unweighted=True)


def correct(movie, settings=SETTINGS, gain=None):
    frames = read_frames(movie, gain, movie_file=Path("a.mrc"))
    return correct_movie(frames, settings, movie_file=Path("a.mrc"), device="cpu")


def rms(shifts, truth):
    error = shifts - truth
    return float(np.sqrt(np.mean((error - error.mean(0)) ** 2)))


def test_a_movie_becomes_a_sharp_micrograph(make_movie):
    movie = make_movie(n=10, shape=(300, 420))
    result = correct(movie, replace(SETTINGS, dose_weighting=False))
    assert rms(result.shifts_A, movie.shifts_px) < 0.12
    assert result.weighted.shape == (300, 420)
    still = correct(make_movie(n=10, shape=(300, 420), path="still"), replace(SETTINGS, dose_weighting=False))
    moving = movie.counts.sum(0, dtype=np.float64)
    aligned, unaligned = (np.corrcoef(a.ravel(), still.unweighted.ravel())[0, 1] for a in (result.unweighted, moving))
    assert aligned > 1.3 * unaligned


def test_binning_keeps_grey_values_and_finds_the_same_motion(make_movie):
    movie = make_movie(n=8, shape=(512, 384))
    result = correct(movie, replace(SETTINGS, binning=2.0, pixel_size_A=0.5))
    assert result.weighted.shape == (256, 192)
    assert result.pixel_size_A == 1.0
    assert rms(result.shifts_A / 0.5, movie.shifts_px) < 0.15
    np.testing.assert_allclose(result.unweighted.mean(), movie.counts.sum(0).mean(), rtol=1e-3)


def test_an_empty_frame_changes_nothing_else(make_movie):
    movie = make_movie(n=8, shape=(256, 256), path="still", contrast=0.3)
    with_gap = make_movie(n=8, shape=(256, 256), path="still", contrast=0.3)
    with_gap.counts[3] = 0
    result = correct(with_gap)
    assert result.shifts_A.shape == (8, 2)
    expected = correct(movie).unweighted - movie.counts[3]
    assert np.corrcoef(expected.ravel(), result.unweighted.ravel())[0, 1] > 0.98


def test_one_frame_is_enough(make_movie):
    movie = make_movie(n=1, shape=(128, 130))
    result = correct(movie, replace(SETTINGS, dose_weighting=False))
    np.testing.assert_allclose(result.weighted, movie.counts[0], atol=1e-3)
    assert result.motion_total_A == 0.0


def test_binning_to_nothing_is_an_error():
    with pytest.raises(BadInputError, match=r"a\.mrc.*bin less"):
        binned_shape((256, 256), 8.0, Path("a.mrc"))


def test_files_of_a_movie(make_movie, tmp_path):
    movie = make_movie(n=6, shape=(256, 288))
    gain = np.full((256, 288), 2.0, np.float32)
    write_movie(tmp_path / "a.tif", movie.counts, pixel_size_A=1.2)
    write_image(tmp_path / "gain.mrc", gain, 1.2)
    movie.counts[:] = 0  # What follows comes from the files.
    settings = replace(SETTINGS, pixel_size_A=1.2)
    files = MovieFiles(tmp_path / "a.tif", tmp_path / "gain.mrc", tmp_path / "out" / "a", settings)
    (tmp_path / "out").mkdir()
    value = process_movie(files, device="cpu", float16=False)
    image, pixel_size_A = read_image(value["micrograph_name"])
    assert image.shape == (256, 288)
    assert pixel_size_A == pytest.approx(1.2)
    unweighted, _ = read_image(value["micrograph_unweighted_name"])
    assert unweighted.mean() == pytest.approx(12.0, rel=0.02)
    picture, _ = read_image(value["power_spectrum_name"])
    assert picture.shape == (512, 512)
    star = read_star(value["micrograph_metadata"])
    shifts_px = np.stack([star["global_shift"][f"rlnMicrographShift{axis}"].astype(float) for axis in "XY"], 1)
    assert rms(shifts_px, movie.shifts_px) < 0.15
    assert star["global_shift"]["rlnMicrographFrameNumber"].astype(int).tolist() == list(range(1, 7))


def test_half_precision_is_written_on_request(make_movie, tmp_path):
    movie = make_movie(n=3, shape=(128, 128))
    write_movie(tmp_path / "a.mrcs", movie.counts, pixel_size_A=1.0)
    files = MovieFiles(tmp_path / "a.mrcs", None, tmp_path / "a_out", SETTINGS)
    value = process_movie(files, device="cpu", float16=True)
    assert Path(value["micrograph_name"]).stat().st_size == 1024 + 2 * 128 * 128
