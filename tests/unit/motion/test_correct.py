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
from halfmap.motion.surface import LocalModel
from halfmap.simulate.motion import warp

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


def test_halves_add_up_to_the_whole(make_movie):
    movie = make_movie(n=7, shape=(256, 270))
    result = correct(movie, replace(SETTINGS, halves=True))
    odd, even = result.halves
    np.testing.assert_allclose(odd + even, result.weighted, atol=2e-3 * np.abs(result.weighted).max())
    assert np.corrcoef(odd.ravel(), even.ravel())[0, 1] < 0.9


def bent_movie(make_movie, n=8, shape=(600, 601)):
    """Frames that stretch along x, by up to 4 px at the edges, in equal steps of the time."""
    rate = make_movie(n=1, shape=shape, dose=400.0, contrast=0.3, path="still").counts[0] / 400.0
    x = (np.arange(shape[1]) / shape[1] - 0.5).astype(np.float32)
    rng = np.random.default_rng(3)
    counts = []
    for t in np.linspace(0, 1, n, dtype=np.float32):
        along_x = np.tile(8 * x * t, (shape[0], 1))
        counts.append(rng.poisson(np.clip(warp(rate.astype(np.float32), along_x, 0 * along_x), 0, None)))
    movie = make_movie(n=n, shape=shape, path="still")
    movie.counts[:] = np.array(counts).astype(np.uint8)
    return movie, rate


def test_local_correction_brings_the_edges_back(make_movie):
    movie, rate = bent_movie(make_movie)
    settings = replace(SETTINGS, pixel_size_A=2.0, dose_weighting=False)
    local, globally = correct(movie, settings), correct(movie, replace(settings, local=False))
    assert local.local_model is not None
    assert globally.local.reason == "not asked for"
    edge = np.s_[20:-20, 20:100]
    with_truth = [np.corrcoef(r.unweighted[edge].ravel(), rate[edge].ravel())[0, 1] for r in (local, globally)]
    assert with_truth[0] > 1.1 * with_truth[1]
    # The shift at the left edge in the last frame undoes the stretch.
    assert local.local_model.shifts_px(np.array([7]), np.array([[-0.5, 0.0]]))[0, 0, 0] == pytest.approx(4.0, abs=0.5)


def test_a_binned_movie_has_the_local_model_in_recorded_pixels(make_movie, tmp_path):
    movie, _ = bent_movie(make_movie)
    movie.counts[2] = 0  # A frame that is left out still has its time.
    write_movie(tmp_path / "a.tif", movie.counts, pixel_size_A=1.0)
    settings = replace(SETTINGS, pixel_size_A=1.5, binning=1.25)
    value = process_movie(MovieFiles(tmp_path / "a.tif", None, tmp_path / "a", settings), device="cpu", float16=False)
    star = read_star(tmp_path / "a.star")
    coefficients = star["local_motion_model"]["rlnMotionModelCoeff"].astype(float).reshape(2, 6, 3)
    assert star["local_motion_model"]["rlnMotionModelCoeffsIdx"].astype(int).tolist() == list(range(36))
    left = LocalModel(coefficients).shifts_px(np.array([7]), np.array([[-0.5, 0.0]]))[0, 0, 0]
    assert left == pytest.approx(4.0, abs=0.6)
    assert value["left_out"].keys() == {"3"}
    patches = star["halfmap_patches"]
    assert len(patches["rlnCoordinateX"]) == 7 * value["patches"][0] * value["patches"][1]
    assert patches["rlnCoordinateX"].astype(float).max() < 601


def test_pixels_and_frames_that_are_not_numbers_do_not_spread(make_movie):
    movie, _ = bent_movie(make_movie, shape=(601, 600))
    movie.counts = movie.counts.astype(np.float32)
    movie.counts[:, 100, 200] = np.nan
    movie.counts[5] = np.nan
    result = correct(movie, replace(SETTINGS, pixel_size_A=2.0))
    assert np.isfinite(result.weighted).all()
    assert np.isfinite(result.local.tracks_px).all()
    assert result.local.tracks_px.shape[1] == 7


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_frames_have_no_local_motion(make_movie, n):
    result = correct(make_movie(n=n, shape=(256, 256), contrast=0.3), replace(SETTINGS, pixel_size_A=4.0))
    assert result.local_model is None
    assert result.local.reason == "fewer than 3 usable frames"
    assert result.motion_local_A == 0.0


def test_noise_is_not_corrected_and_says_why(make_movie):
    movie = make_movie(n=8, shape=(256, 256), path="still")
    movie.counts[:] = np.random.default_rng(0).poisson(1.0, movie.counts.shape)
    result = correct(movie, replace(SETTINGS, pixel_size_A=4.0))
    assert result.local.reason == "the frames have no signal in common"
    np.testing.assert_allclose(result.unweighted, movie.counts.sum(0), atol=1e-3)
