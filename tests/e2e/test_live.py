"""A collection as it happens: movies written in pieces, one cut off, a kill -9 in the middle, and steps after it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from halfmap.io.relion import read_image_set

pytestmark = [pytest.mark.e2e, pytest.mark.truth]

MOVIES, PIXEL_A, CUT = 9, 3.0, 4
OPTICS = ("--pixel-size", str(PIXEL_A), "--voltage", "300", "--cs", "2.7", "--dose-per-frame", "5")
PIECES = 4


def start(*arguments: str | Path, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "halfmap", *map(str, arguments)], cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def halfmap(*arguments: str | Path, folder: Path) -> str:
    process = start(*arguments, folder=folder)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    return output


def live(folder: Path) -> subprocess.Popen:
    return start(
        "live", "incoming", "--gain", "sim/gain.mrc", *OPTICS, "--diameter", "131", "--settle", "1",
        "--give-up", "4", "--poll", "0.3", "--stop-after-idle", "8", "--threads", "2", "--out", "live", folder=folder,
    )  # fmt: skip


def feed(folder: Path, files: list[Path], gate: threading.Event) -> None:
    """Write movies as a camera does, piece by piece; the cut one stops in its middle, for good."""
    for number, source in enumerate(files):
        if number == 5:
            gate.wait(timeout=120)  # The second half comes after the kill.
        content = source.read_bytes()
        size = len(content) // PIECES + 1
        with (folder / "incoming" / source.name).open("wb") as file:
            for piece in range(PIECES - 2 if number == CUT else PIECES):
                file.write(content[piece * size : (piece + 1) * size])
                file.flush()
                time.sleep(0.15)


def until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def items(folder: Path, job: str) -> set[str]:
    """Keys of the finished items of a job."""
    found = (folder / "live" / job / "items").glob("[!.]*.json")
    return {entry["key"] for entry in (json.loads(path.read_text()) for path in found)}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    folder = tmp_path_factory.mktemp("live")
    (folder / "incoming").mkdir()
    halfmap(
        "simulate", "movies", "--model", "cage", "--movies", MOVIES, "--pixel-size", PIXEL_A, "--width", "640",
        "--height", "640", "--frames", "6", "--dose-per-frame", "5", "--particles", "40", "--seed", "5",
        "--threads", "2", "--out", "sim", folder=folder,
    )  # fmt: skip
    gate = threading.Event()
    feeder = threading.Thread(target=feed, args=(folder, sorted((folder / "sim" / "movies").glob("*.tif")), gate))
    feeder.start()
    process = live(folder)
    until(lambda: len(items(folder, "02_motion")) >= 2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = {p: p.stat().st_mtime_ns for p in folder.glob("live/02_motion/micrographs/*.star")}
    kept = items(folder, "02_motion")
    gate.set()
    output, _ = (process := live(folder)).communicate(timeout=280)
    feeder.join()
    assert process.returncode == 0, output
    assert len(kept) >= 2
    assert all(p.stat().st_mtime_ns == before[p] for p in before if any(p.stem in key for key in kept))
    return folder, json.loads((folder / "live" / "status.json").read_text()), output


def test_every_movie_is_accounted_for(session):
    _, status, output = session
    counts = status["counts"]
    assert (counts["seen"], counts["taken"], counts["incomplete"]) == (MOVIES, MOVIES - 1, 1)
    assert counts["ctf"] == counts["picked_micrographs"] == MOVIES - 1
    (failure,) = status["failures"]
    assert (failure["step"], Path(failure["item"]).name) == ("watch", f"movie_{CUT + 1:04d}.tif")
    assert "going on with" in output
    assert f"{MOVIES - 1} movies taken" in output


def test_no_item_was_done_twice(session):
    folder, status, _ = session
    assert status["seconds_per_item"]["ctf: ctf"]["items"] <= MOVIES - 1
    log = (folder / "live" / "02_motion" / "run.log").read_text()
    assert "passed over" not in log
    record = json.loads((folder / "live" / "02_motion" / "job.json").read_text())
    assert record["state"] == "finished"
    assert record["grows"]


def test_the_tables_are_those_of_the_ordinary_steps(session):
    folder, _, _ = session
    good = [f"sim/movies/movie_{n + 1:04d}.tif" for n in range(MOVIES) if n != CUT]
    halfmap("motion", *good, "--gain", "sim/gain.mrc", *OPTICS, "--threads", "2", "--out", "motion", folder=folder)
    halfmap("ctf", "motion", "--threads", "2", "--out", "ctf", folder=folder)
    batch = read_image_set(folder / "ctf" / "micrographs.star", "micrographs")
    grown = read_image_set(folder / "live" / "03_ctf" / "micrographs.star", "micrographs")
    row_of = {Path(name).name: row for row, name in enumerate(grown["micrograph_name"].tolist())}
    rows = [row_of[Path(name).name] for name in batch["micrograph_name"].tolist()]
    for column in ("defocus_u_A", "ctf_fit_resolution_A", "motion_total_A"):
        np.testing.assert_array_equal(grown[column][rows], batch[column])
    assert sorted(grown["half_set"].tolist()) == [1] * 4 + [2] * 4


def test_later_steps_take_them(session):
    folder, status, _ = session
    halfmap("curate", "live/03_ctf", "live/04_pick", "--leave-out", "movie_0001", "--out", "curated", folder=folder)
    output = halfmap("extract", "curated/particles.star", "--out", "extracted", folder=folder)
    particles = read_image_set(folder / "extracted" / "particles.star", "particles")
    assert 100 < len(particles) < status["counts"]["particles"], output
    assert not any("movie_0001" in name for name in particles["micrograph_name"].tolist())
    lineage = halfmap("project", "lineage", "extracted/particles.star", folder=folder)
    assert "halfmap motion" in lineage
    assert "taken.star" in lineage


def test_ctrl_c_ends_it_cleanly_and_it_goes_on(session):
    folder, status, _ = session
    shutil.copy(folder / "sim" / "movies" / f"movie_{CUT + 1:04d}.tif", folder / "incoming")
    process = live(folder)
    until(lambda: f"movie_{CUT + 1:04d}" in (folder / "live" / "live.json").read_text())
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    counts = json.loads((folder / "live" / "status.json").read_text())["counts"]
    assert (counts["taken"], counts["incomplete"], counts["failed"]) == (MOVIES, 0, {})
    assert counts["ctf"] == counts["picked_micrographs"] == MOVIES
    assert counts["particles"] > status["counts"]["particles"]
