"""The main job as a user does it: movies in, a validated map out, the truth only at the end."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from halfmap.io.relion import read_image_set

pytestmark = [pytest.mark.e2e, pytest.mark.truth]

PIXEL_A = 3.0


def halfmap(*arguments: str | Path, folder: Path) -> str:
    """Run the program in a folder; its output, or an error that shows it."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "halfmap", *map(str, arguments)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("session")
    halfmap(
        "simulate", "movies", "--model", "cage", "--movies", "5", "--pixel-size", PIXEL_A, "--width", "704",
        "--height", "704", "--frames", "8", "--dose-per-frame", "5", "--particles", "50", "--truncated-movies", "1",
        "--seed", "3", "--out", "raw", folder=folder,
    )  # fmt: skip
    run(folder)
    return folder


def run(folder: Path) -> str:
    return halfmap(
        "run", "--movies", "raw/movies/*.tif", "--gain", "raw/gain.mrc", "--pixel-size", PIXEL_A, "--voltage", "300",
        "--cs", "2.7", "--dose-per-frame", "5", "--symmetry", "O", "--out", "out", folder=folder,
    )  # fmt: skip


def figures(folder: Path, step: str) -> dict:
    (record,) = folder.glob(f"out/*_{step}/job.json")
    return json.loads(record.read_text())["figures"]


def test_one_command_leads_from_movies_to_a_map_that_agrees_with_the_truth(session):
    halfmap("compare", "out/map.mrc", "raw/truth/map.mrc", "--symmetry", "O", "--out", "truth", folder=session)
    truth = json.loads((session / "truth" / "job.json").read_text())["figures"]
    assert truth["resolution_reference_A"] < 9.0
    assert truth["correlation"] > 0.75
    assert figures(session, "postprocess")["resolution_A"] < 9.0


def test_the_bad_movie_is_passed_over_and_every_particle_is_accounted_for(session):
    motion = json.loads(next(session.glob("out/*_motion/job.json")).read_text())
    assert len(motion["failed_items"]) == 1
    assert (motion["figures"]["items_in"], motion["figures"]["items_out"]) == (5, 4)
    extract, select, refine = (figures(session, step) for step in ("extract", "select", "refine"))
    assert figures(session, "class2d")["items_in"] == extract["items_out"]
    assert select["items_out"] + select["excluded"] == select["items_in"]
    assert refine["items_in"] == select["items_out"]


def test_particles_keep_their_identity_and_half_from_picking_to_the_map(session):
    (extracted,) = session.glob("out/*_extract/particles.star")
    before = read_image_set(extracted, "particles")
    after = read_image_set(session / "out" / "particles.star", "particles")
    half_of = dict(zip(before["uid"].tolist(), before["half_set"].tolist(), strict=True))
    assert len(half_of) == len(before)
    assert [half_of[uid] for uid in after["uid"].tolist()] == after["half_set"].tolist()
    halves = {}
    for name, half in zip(after["micrograph_name"].tolist(), after["half_set"].tolist(), strict=True):
        halves.setdefault(name, set()).add(half)
    assert all(len(found) == 1 for found in halves.values())


def test_the_report_stands_alone_and_shows_every_step(session):
    text = (session / "out" / "report.html").read_text()
    for title in ("Motion", "CTF", "Picks", "Class averages", "Orientations", "Fourier shell correlation", "History"):
        assert f">{title}</h2>" in text
    assert "Passed over in motion" in text
    assert "<script" not in text
    assert "src='http" not in text


def test_run_again_nothing_is_done_again(session):
    before = {path: path.stat().st_mtime_ns for path in session.glob("out/[0-9]*/**/*.mrc")}
    assert before
    assert "finished already" in run(session)
    assert {path: path.stat().st_mtime_ns for path in before} == before
