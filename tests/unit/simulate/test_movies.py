import hashlib

import numpy as np
import pytest

from halfmap.errors import BadInputError
from halfmap.io.gain import read_gain
from halfmap.io.movies import open_movie
from halfmap.io.mrc import read_volume
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.simulate.movies import movie_tasks
from halfmap.simulate.options import SimulateMoviesOptions
from halfmap.steps.simulate_movies import STEP

PIXEL_A = 4.0
SMALL = {
    "movies": 1, "particles": 6, "pixel_size_A": PIXEL_A, "width_px": 192, "height_px": 160, "frames": 6,
    "dose_per_frame_e_per_A2": 2.0, "contaminants": 0.0, "hot_pixels": 3, "dead_pixels": 3,
    "defocus_min_A": 10000.0, "defocus_max_A": 12000.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def simulate(make_job):
    def run(folder, seed=1, order=1, **changes):
        options = SimulateMoviesOptions(**(SMALL | changes))
        return STEP.run(make_job(folder, seed, order), {}, options), options

    return run


def corrected_frames(folder, name="movie_0001.tif"):
    """Gain-corrected frames with hot and dead pixels set to the mean."""
    movie = open_movie(folder / "movies" / name)
    gain = read_gain(folder / "gain.mrc", movie)
    frames = np.stack(list(movie.frames())).astype(np.float64) * gain
    faulty = (gain == 0) | (frames.mean(axis=0) > 5 * np.median(frames.mean(axis=0)))
    frames[:, faulty] = frames[:, ~faulty].mean(axis=1, keepdims=True)
    return frames


def digests(folder):
    files = [p for p in sorted(folder.rglob("*")) if p.suffix in (".tif", ".mrc")]
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture(scope="module")
def session(tmp_path_factory, simulate):
    folder = tmp_path_factory.mktemp("movies")
    facts, options = simulate(folder, movies=2)
    return folder, facts, options


def test_tables_tell_what_was_made(session):
    folder, facts, _ = session
    movies = read_image_set(folder / "movies.star", "movies")
    assert facts["items_in"] == facts["items_out"] == len(movies) == 2
    assert movies["dose_per_frame_e_per_A2"].tolist() == [2.0, 2.0]
    assert movies.pixel_size_A().tolist() == [PIXEL_A, PIXEL_A]
    particles = read_image_set(folder / "truth" / "particles.star", "coordinates")
    assert len(particles) == facts["particles"] == 12
    assert set(particles["micrograph_name"]) == set(movies["movie_name"])
    micrographs = read_image_set(folder / "truth" / "micrographs.star", "micrographs")
    assert ((micrographs["defocus_u_A"] > 9500) & (micrographs["defocus_u_A"] < 12500)).all()
    assert read_volume(folder / "truth" / "map.mrc").pixel_size_A == pytest.approx(PIXEL_A)
    assert facts["diameter_A"] == pytest.approx(131.5, abs=1.0)


def test_counts_add_up_to_the_dose(session):
    folder, _, _ = session
    frames = corrected_frames(folder)
    assert frames.shape == (6, 160, 192)
    expected = 2.0 * PIXEL_A**2
    assert frames.mean(axis=(1, 2)) == pytest.approx(expected, rel=0.03)


def test_particles_are_dark_in_movies_where_the_truth_says(session):
    folder, _, _ = session
    image = corrected_frames(folder).sum(axis=0)
    truth = read_image_set(folder / "truth" / "particles.star", "coordinates")
    first = truth.select(truth["micrograph_name"] == truth["micrograph_name"][0])
    y, x = np.indices(image.shape)
    distance = np.full(image.shape, np.inf)
    for column, row in zip(first["coordinate_x_px"], first["coordinate_y_px"], strict=True):
        distance = np.minimum(distance, np.hypot(x - column, y - row))
    inside, outside = distance < 55 / PIXEL_A, distance > 100 / PIXEL_A
    error = image[outside].std() / np.sqrt(inside.sum())
    assert image[inside].mean() < image[outside].mean() - 10 * error


def test_particles_keep_their_distance(session):
    folder, facts, _ = session
    truth = read_image_set(folder / "truth" / "particles.star", "coordinates")
    for name in set(truth["micrograph_name"]):
        chosen = truth.select(truth["micrograph_name"] == name)
        at = np.stack([chosen["coordinate_x_px"], chosen["coordinate_y_px"]], axis=1)
        distance = np.linalg.norm(at[:, None] - at[None], axis=-1) + 1e9 * np.eye(len(at))
        assert distance.min() * PIXEL_A > facts["diameter_A"]


def test_same_seed_gives_the_same_bytes_in_any_order(session, tmp_path, simulate):
    folder, _, _ = session
    simulate(tmp_path / "again", movies=2, order=-1)
    simulate(tmp_path / "other", movies=2, seed=2)
    assert digests(tmp_path / "again") == digests(folder)
    other = digests(tmp_path / "other")
    assert all(other[p] != digests(folder)[p] for p in other if "map" not in p.name)


def measured_shift_px(image, reference):
    """Displacement (x, y) of an image against a reference by the peak of their correlation, to sub-pixels."""
    product = np.fft.rfft2(image - image.mean()) * np.conj(np.fft.rfft2(reference - reference.mean()))
    fy, fx = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])[None]
    product *= np.exp(-((fx**2 + fy**2) / (2 * 0.15**2)))
    correlation = np.fft.irfft2(product, s=image.shape)
    row, column = np.unravel_index(correlation.argmax(), correlation.shape)

    def vertex(before, at, after):
        return 0.5 * (before - after) / (before - 2 * at + after)

    n_y, n_x = correlation.shape
    dy = row + vertex(*(correlation[(row + i) % n_y, column] for i in (-1, 0, 1)))
    dx = column + vertex(*(correlation[row, (column + i) % n_x] for i in (-1, 0, 1)))
    return np.array([(dx + n_x / 2) % n_x - n_x / 2, (dy + n_y / 2) % n_y - n_y / 2])


def test_true_motion_is_what_is_seen_in_the_frames(tmp_path, simulate):
    simulate(
        tmp_path, frames=20, dose_per_frame_e_per_A2=3.0, drift_A=40.0, local_motion_A=0.0, damage=False,
        gain_spread_frac=0.0, ice_thickness_A=4000.0, hot_pixels=0, dead_pixels=0,
    )  # fmt: skip
    frames = corrected_frames(tmp_path)
    motion = read_star(tmp_path / "truth" / "motion_0001.star")
    undo = np.stack([motion["global_shift"][f"rlnMicrographShift{a}"].astype(float) for a in "XY"], axis=1)
    assert np.abs(undo).max() > 3.0
    for frame, shift in zip(frames, undo - undo[10], strict=True):
        assert measured_shift_px(frame, frames[10]) == pytest.approx(-shift, abs=0.25)


def test_local_motion_moves_corners_as_the_truth_says(tmp_path, simulate):
    simulate(
        tmp_path, seed=3, frames=2, dose_per_frame_e_per_A2=15.0, drift_A=0.0, local_motion_A=16.0, damage=False,
        gain_spread_frac=0.0, ice_thickness_A=4000.0, width_px=256, height_px=256, hot_pixels=0, dead_pixels=0,
    )  # fmt: skip
    first, last = corrected_frames(tmp_path)
    block = read_star(tmp_path / "truth" / "motion_0001.star")["local_displacement"]
    local = np.stack([block[f"halfmapLastDisplacement{a}A"].astype(float) for a in "XY"])
    for row, column in ((0, 0), (0, 160), (160, 0), (160, 160)):
        part = np.s_[row : row + 96, column : column + 96]
        x, y = (column + 48) / 256 - 0.5, (row + 48) / 256 - 0.5
        expected = local @ np.array([1.0, x, x * x, y, y * y, x * y]) / PIXEL_A
        assert measured_shift_px(last[part], first[part]) == pytest.approx(expected, abs=0.45)


def test_special_movies_come_in_the_numbers_asked_for():
    options = SimulateMoviesOptions(movies=9, empty_movies=2, drifting_movies=1, carbon_movies=1, truncated_movies=3)
    tasks = movie_tasks(options, seed=5)
    kinds = [task.kind for task in tasks]
    assert [task.index for task in tasks] == list(range(1, 10))
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "ordinary": 2, "empty": 2, "drifting": 1, "carbon": 1, "truncated": 3,
    }  # fmt: skip
    assert kinds != [task.kind for task in movie_tasks(options, seed=6)]
    with pytest.raises(ValueError, match="do not fit"):
        SimulateMoviesOptions(movies=2, empty_movies=3)


def test_bad_movies_are_bad_and_the_truth_says_so(tmp_path, simulate):
    simulate(
        tmp_path, movies=5, empty_movies=1, drifting_movies=1, crystalline_movies=1, carbon_movies=1,
        truncated_movies=1, contaminants=2.0,
    )  # fmt: skip
    micrographs = read_image_set(tmp_path / "truth" / "micrographs.star", "micrographs")
    kinds = micrographs.rows.foreign["halfmapMovieKind"].tolist()
    assert sorted(kinds) == ["carbon", "crystalline", "drifting", "empty", "truncated"]
    name_of = dict(zip(kinds, micrographs["micrograph_name"].tolist(), strict=True))
    with_particles = set(read_image_set(tmp_path / "truth" / "particles.star", "coordinates")["micrograph_name"])
    assert name_of["empty"] not in with_particles
    assert {name_of["drifting"], name_of["crystalline"]} <= with_particles
    with pytest.raises(BadInputError):
        list(open_movie(name_of["truncated"]).frames())


@pytest.mark.parametrize(("movie_format", "suffix"), [("mrc", "mrc"), ("eer", "eer")])
def test_other_formats_hold_the_same_dose(tmp_path, simulate, movie_format, suffix):
    simulate(tmp_path, format=movie_format, frames=2, dose_per_frame_e_per_A2=0.5, width_px=128, height_px=128)
    path = tmp_path / "movies" / f"movie_0001.{suffix}"
    movie = open_movie(path, dose_per_frame=0.5, pixel_size_A=PIXEL_A)
    assert movie.n_frames == 2
    frames = np.stack(list(movie.frames())).astype(float) * read_gain(tmp_path / "gain.mrc", movie)
    assert np.median(frames.mean(axis=0)) == pytest.approx(0.5 * PIXEL_A**2, rel=0.05)
