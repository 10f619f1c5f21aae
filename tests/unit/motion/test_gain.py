"""Gain references found, estimated and checked against a simulated camera whose gain is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from halfmap.errors import BadInputError
from halfmap.io.movies import write_movie
from halfmap.io.mrc import read_image, write_image, write_stack
from halfmap.motion.gain.defects import find_defects, read_defects
from halfmap.motion.gain.files import SummedMovie, defect_rows, examine, oriented, sum_movie, write_gain
from halfmap.motion.gain.options import GainOptions
from halfmap.motion.gain.pattern import ORIENTATIONS, Fit, estimated_gain, fits, is_told
from halfmap.motion.gain.session import chosen_movies, of_one_shape
from halfmap.simulate.detector import random_detector

SHAPE = (96, 96)
CONTRAST = 0.15


def specimen(shape, seed):
    """Electrons a pixel of one place: smooth, uneven."""
    generator = np.random.default_rng([seed, 9])
    blobs = gaussian_filter(generator.standard_normal(shape), 3.0)
    return 1.0 + CONTRAST * blobs / blobs.std()


@pytest.fixture(scope="module")
def camera():
    return random_detector(SHAPE, spread_frac=0.06, hot_pixels=6, dead_pixels=5, generator=np.random.default_rng(4))


def sums_of(camera, movies, electrons=60.0, shape=SHAPE):
    generator = np.random.default_rng(5)
    return [
        generator.poisson(camera.rate(electrons * specimen(shape, seed))).astype(np.float32) for seed in range(movies)
    ]


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("lies", ORIENTATIONS, ids=lambda o: o.name)
def test_every_orientation_is_found_multiplied_and_divided(lies, inverted, camera):
    total = sum(sums_of(camera, 4))
    recorded = camera.gain
    if inverted:
        recorded = np.divide(1.0, recorded, out=np.zeros_like(recorded), where=recorded > 0)
    given = np.ascontiguousarray(lies.of(recorded))
    ranked = fits(total, given)
    assert len(ranked) == 16
    assert is_told(ranked, total.size)
    assert ranked[0].inverted is inverted
    assert np.allclose(oriented(given, ranked[0]), camera.gain, rtol=1e-5)


def test_a_reference_of_another_camera_is_not_taken(camera):
    other = random_detector(SHAPE, spread_frac=0.06, hot_pixels=0, dead_pixels=0, generator=np.random.default_rng(8))
    ranked = fits(sum(sums_of(camera, 4)), other.gain)
    assert not is_told(ranked, other.gain.size)


def test_only_orientations_that_fit_the_shape_are_tried():
    shape = (64, 96)
    camera = random_detector(shape, spread_frac=0.06, hot_pixels=0, dead_pixels=0, generator=np.random.default_rng(4))
    total = sum(sums_of(camera, 4, shape=shape))
    turned = np.ascontiguousarray(np.rot90(camera.gain))
    ranked = fits(total, turned)
    assert len(ranked) == 8
    assert np.allclose(oriented(turned, ranked[0]), camera.gain)
    assert fits(total, camera.gain[:-2]) == []


@pytest.mark.parametrize("movies", [4, 30])
def test_an_estimated_gain_is_nearer_to_the_truth_than_none(movies, camera):
    sums = sums_of(camera, movies)
    bad = camera.dead.copy()
    bad.reshape(-1)[camera.hot_index] = True
    found = estimated_gain([sum(sums[0::2]), sum(sums[1::2])], bad)
    good = ~bad
    # The smooth part is the illumination's and cannot be told.
    smooth = gaussian_filter(np.where(good, camera.gain, 1.0), 12.0)
    truth = np.log(camera.gain[good] / smooth[good])
    error = np.log(found.gain[good]) - truth
    without = truth.std()
    noise = np.hypot(1.0 / np.sqrt(60.0), CONTRAST) / np.sqrt(movies)  # Counting, and what is left of specimens.
    assert error.std() < 0.95 * without
    assert error.std() < 1.25 * without * noise / np.hypot(without, noise)  # The Wiener filter's error.
    assert found.gain[bad].max() == 0
    assert 0 < found.reliability < 1
    assert abs(found.pattern_sd - without) < 0.02


def test_no_pattern_gives_a_gain_of_one():
    generator = np.random.default_rng(6)
    sums = [generator.poisson(100.0, SHAPE).astype(np.float64) for _ in range(2)]
    found = estimated_gain(sums, np.zeros(SHAPE, bool))
    assert found.gain.std() < 0.03  # The counting noise of the two is 7 %.


def test_hot_dead_and_unstable_pixels_are_found_and_no_others(camera):
    sums = sums_of(camera, 12)
    for number, one in enumerate(sums):
        one[40, 41] *= 1.0 if number % 2 else 2.0  # Switches between movies.
    sums[3][50, 50] += 900.0  # A cosmic ray.
    defects = find_defects(sums, np.zeros(SHAPE, bool))
    assert np.array_equal(defects.dead, camera.dead)
    rates = dict(zip(camera.hot_index.tolist(), camera.hot_rate.tolist(), strict=True))
    hot = np.zeros(SHAPE, bool)
    hot.reshape(-1)[[index for index, rate in rates.items() if rate > 3.3 * 60.0]] = True
    assert not (hot & ~defects.all).any()
    expected = np.zeros(SHAPE, bool)
    expected[40, 41] = True
    expected.reshape(-1)[camera.hot_index] |= defects.unstable.reshape(-1)[camera.hot_index]
    assert np.array_equal(defects.unstable, expected)
    assert not defects.all[50, 50]
    rows = defect_rows(defects)
    assert len(rows["rlnCoordinateX"]) == defects.all.sum()
    assert set(rows["rlnHalfmapReason"]) <= {"hot", "dead", "unstable"}


def test_movies_to_a_gain_that_reads_back(camera, tmp_path):
    generator = np.random.default_rng(7)
    tasks = []
    for number in range(6):
        frames = [camera.record(10.0 * specimen(SHAPE, number), 127, generator) for _ in range(6)]
        movie = tmp_path / f"m{number}.mrc"
        write_movie(movie, frames, 1.0)
        tasks.append(SummedMovie(movie, tmp_path / "sums" / f"m{number}.npy"))
    facts = [sum_movie(task) for task in tasks]
    assert {tuple(fact["shape"]) for fact in facts} == {SHAPE}
    turned = np.ascontiguousarray(ORIENTATIONS[6].of(camera.gain))
    write_image(tmp_path / "given.mrc", turned, 1.0)
    report = examine([task.sum_file for task in tasks], tasks[0].movie, GainOptions(gain=tmp_path / "given.mrc"))
    assert report.told
    good = report.gain > 0
    assert good.mean() > 0.99
    assert np.allclose(report.gain[good], camera.gain[good], rtol=1e-5)
    # What two sums of three small pictures have in common by chance is a third of the pattern.
    assert report.pattern_after < 0.4 * report.pattern_before
    write_gain(tmp_path / "gain.mrc", report.gain, tasks[0].movie)
    again = examine([task.sum_file for task in tasks], tasks[0].movie, GainOptions(gain=tmp_path / "gain.mrc"))
    assert again.ranked[0] == Fit(ORIENTATIONS[0], False, again.ranked[0].correlation)


def test_an_inverse_reference_is_written_for_eer(tmp_path):
    gain = np.array([[1.0, 2.0], [0.0, 0.5]], np.float32)
    write_gain(tmp_path / "g.mrc", gain, tmp_path / "movie.eer")
    assert np.allclose(read_image(tmp_path / "g.mrc")[0], [[1.0, 0.5], [0.0, 2.0]])


def test_defect_files(tmp_path):
    text = tmp_path / "defects.txt"
    text.write_text("# columns\n3 0 1 8\n\n0 5 2 2  # corner\n")
    found = read_defects(text, (8, 10))
    expected = np.zeros((8, 10), bool)
    expected[:, 3] = True
    expected[5:7, 0:2] = True
    assert np.array_equal(found, expected)
    write_image(tmp_path / "defects.mrc", expected.astype(np.float32), 1.0)
    assert np.array_equal(read_defects(tmp_path / "defects.mrc", (8, 10)), expected)
    with pytest.raises(BadInputError, match="shape"):
        read_defects(tmp_path / "defects.mrc", (10, 8))


@pytest.mark.parametrize("line", ["9 0 2 1", "1 2 3", "a b c d", "0 0 0 1", "-1 0 1 1"])
def test_wrong_lines_of_defects_are_named(line, tmp_path):
    text = tmp_path / "defects.txt"
    text.write_text(f"0 0 1 1\n{line}\n")
    with pytest.raises(BadInputError, match="line 2"):
        read_defects(text, (8, 10))


def test_a_movie_without_counts_is_refused(tmp_path):
    write_stack(tmp_path / "empty.mrcs", np.zeros((3, 8, 8), np.float32), 1.0)
    with pytest.raises(BadInputError, match="mean of 0"):
        sum_movie(SummedMovie(tmp_path / "empty.mrcs", tmp_path / "s" / "empty.npy"))


def test_movies_are_taken_from_all_over_the_session(tmp_path):
    paths = [tmp_path / f"{number}.tif" for number in range(10)]
    assert chosen_movies(paths, 4) == [paths[0], paths[3], paths[6], paths[9]]
    assert chosen_movies(paths, 100) == paths


def test_movies_of_another_size_are_set_apart(tmp_path):
    tasks = [(SummedMovie(tmp_path / str(i), tmp_path / str(i)), {"shape": shape}) for i, shape in
             enumerate([[4, 4], [4, 6], [4, 4]])]  # fmt: skip
    used, others = of_one_shape(tasks)
    assert [task.movie.name for task, _ in used] == ["0", "2"]
    assert [task.movie.name for task, _ in others] == ["1"]
