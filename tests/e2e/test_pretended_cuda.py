"""Whole steps on the pretended device: nothing is mixed, all bits could repeat, and results are the CPU's."""

import contextlib

import numpy as np
import pytest
from pretended_cuda import OnDevice, pretended_cuda

from halfmap.cli.main import run
from halfmap.io.mrc import read_volume
from halfmap.io.star import read_star

pytestmark = pytest.mark.e2e
MOST_OPERATIONS_OF_A_MOVIE = 20_000
"""One may cost some 10 µs on a real device, and 7 s are left for a movie where 500 come in an hour."""


def halfmap(*words):
    assert run([str(word) for word in words]) == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A movie, and particles of the asymmetric complex."""
    folder = tmp_path_factory.mktemp("pretended")
    with contextlib.chdir(folder):
        size = ("--width", 768, "--height", 640, "--frames", 10, "--pixel-size", 2)
        halfmap("simulate", "movies", "--movies", 1, "--model", "cage", *size, "--out", "raw")
        halfmap("simulate", "particles", "--particles", 60, "--box", 48, "--pixel-size", 4, "--snr", 0.3,
                "--model", "asymmetric", "--out", "sim")  # fmt: skip
    return folder


@pytest.fixture
def on_both(folder, tmp_path, monkeypatch):
    """Run a step on the CPU and on the pretended device; the folders of both, under names for later steps."""
    for name in ("raw", "sim"):
        (tmp_path / name).symlink_to(folder / name)
    monkeypatch.chdir(tmp_path)

    def do(*words):
        with pretended_cuda():
            halfmap(*words, "--threads", 1, "--device", "cuda", "--out", f"{words[0]}_cuda")
        halfmap(*words, "--threads", 1, "--out", f"{words[0]}_cpu")
        return tmp_path / f"{words[0]}_cpu", tmp_path / f"{words[0]}_cuda"

    return do


def assert_maps_alike(folders, name="map.mrc", least=0.99):
    one, other = (read_volume(folder / name).data.astype(float).ravel() for folder in folders)
    assert np.corrcoef(one, other)[0, 1] > least


def assert_images_equal(folders):
    one, other = (read_volume(next(folder.rglob("*.mrcs"))).data for folder in folders)
    np.testing.assert_allclose(one, other, atol=1e-3)


def columns(folders, block, labels, name="micrographs.star"):
    """Numbers of both folders' tables, ``[2, labels, rows]``."""
    tables = [read_star(folder / name)[block] for folder in folders]
    return np.array([[np.asarray(found[label], float) for label in labels] for found in tables])


def test_movies_to_particles(on_both, tmp_path, monkeypatch):
    count = 0
    original = OnDevice.__torch_function__.__func__

    def counted(cls, *rest):
        nonlocal count
        count += 1
        return original(cls, *rest)

    monkeypatch.setattr(OnDevice, "__torch_function__", classmethod(counted))
    movie = next((tmp_path / "raw" / "movies").iterdir())
    gain = ("--gain", "raw/gain.mrc", "--pixel-size", 2, "--voltage", 300, "--cs", 2.7, "--dose-per-frame", 2)
    folders = on_both("motion", movie, *gain)
    assert 0 < count < MOST_OPERATIONS_OF_A_MOVIE
    tracks = columns(
        folders, "global_shift", ("rlnMicrographShiftX", "rlnMicrographShiftY"), f"micrographs/{movie.stem}.star"
    )
    np.testing.assert_allclose(*tracks, atol=0.01)
    folders = on_both("ctf", "motion_cpu/micrographs.star")
    np.testing.assert_allclose(*columns(folders, "micrographs", ("rlnDefocusU", "rlnDefocusV")), atol=5.0)
    folders = on_both("pick", "ctf_cpu/micrographs.star")
    n_picks = [len(read_star(folder / "particles.star")["particles"]["rlnCoordinateX"]) for folder in folders]
    assert n_picks[0] == n_picks[1] > 10
    folders = on_both("extract", "pick_cpu/particles.star")
    assert_images_equal(folders)


def test_particles_to_a_map(on_both):
    given = ("--reference", "sim/truth/map.mrc", "--diameter", 170, "--initial-resolution", 30)
    assert_maps_alike(on_both("refine", "sim/particles.star", *given))
    assert_maps_alike(on_both("postprocess", "refine_cpu/half1.mrc", "refine_cpu/half2.mrc"))
    assert_maps_alike(on_both("mask", "sim/truth/map.mrc"), "mask.mrc")
    given = ("--map", "refine_cpu/map.mrc", "--mask", "mask_cpu/mask.mrc")
    assert_images_equal(on_both("subtract", "refine_cpu/particles.star", *given))
    assert_maps_alike(on_both("class2d", "sim/particles.star", "--classes", 3), "classes.mrcs")


def test_local_regularisation(on_both):
    given = ("--reference", "sim/truth/map.mrc", "--diameter", 170, "--initial-resolution", 30)
    assert_maps_alike(on_both("refine", "sim/particles.star", *given, "--regularisation", "local"))


def test_a_first_map(on_both):
    """Maps are not compared: a random start that differs in its last bits ends elsewhere, if it ends so soon."""
    folders = on_both("abinitio", "sim/particles.star", "--diameter", 170, "--starts", 1, "--iterations", 12)
    posterior = columns(folders, "particles", ("rlnMaxValueProbDistribution",), "particles.star")
    assert (posterior > 0).sum(axis=2).min() > 0
