"""A live session over toy steps: rounds, failures, replaced and refused files, restarts, counts, halves."""

import json
import threading
import time
from collections import Counter

import numpy as np
import pytest
from quiet import Quiet
from toy_live import BAD, STEPS

from halfmap.errors import HalfmapError
from halfmap.exec.local import InlineExecutor
from halfmap.io.movies import write_movie
from halfmap.io.relion import read_image_set
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions
from halfmap.project.live import LiveSession
from halfmap.project.live_options import LiveOptions
from halfmap.project.plan import make_plan

OPTICS = {"pixel_size_A": 1.0, "voltage_kV": 300.0, "cs_mm": 2.7, "dose_per_frame_e_per_A2": 1.0}


@pytest.fixture(autouse=True)
def raw(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def movie(path, first=1):
    frames = np.random.default_rng(0).integers(0, 9, (3, 16, 16)).astype(np.uint8)
    frames[:, -1, 0] = frames[:, 0, 0] = first
    path.parent.mkdir(exist_ok=True)
    write_movie(path, frames, 1.0)


def session(tmp_path, screen=None, **options):
    values = {"settle_s": 0.1, "poll_s": 0.05, "once": True, **options}
    plan = make_plan(None, OPTICS, STEPS)
    return LiveSession(
        (tmp_path / "raw").relative_to(tmp_path), LiveOptions(**values), plan, STEPS,
        RunOptions(out=tmp_path / "live", threads=1), screen or Quiet(), lambda *a: ("halfmap",),
        lambda n, threads, device: InlineExecutor(),
    )  # fmt: skip


def times_done(tmp_path):
    traces = [line for path in tmp_path.glob("live/*/trace.txt") for line in path.read_text().splitlines()]
    return Counter(traces)


def table(tmp_path, folder, kind):
    return read_image_set(tmp_path / "live" / folder / f"{kind}.star", "movies" if kind == "movies" else "micrographs")


def test_all_that_is_there_goes_through_and_every_file_is_counted(tmp_path, raw):
    for i in range(5):
        movie(raw / f"m{i}.tif", BAD if i == 2 else 1)
    movie(raw / "cut.tif")
    (raw / "cut.tif").write_bytes((raw / "cut.tif").read_bytes()[:-300])
    counts = (status := session(tmp_path).execute())["counts"]
    assert (counts["seen"], counts["taken"], counts["incomplete"]) == (6, 5, 1)
    assert (counts["ctf"], counts["particles"]) == (4, 4)
    assert counts["taken"] == counts["ctf"] + counts["failed"]["motion"]
    failures = {(f["step"], f["item"]) for f in status["failures"]}
    assert failures == {("motion", "raw/m2.tif"), ("watch", "raw/cut.tif")}
    assert all(f["reason"] for f in status["failures"])
    assert set(times_done(tmp_path).values()) == {1}
    records = {p.parent.name: JobRecord.load(p.parent) for p in (tmp_path / "live").glob("*/job.json")}
    assert {name: record.state for name, record in records.items()} == dict.fromkeys(
        ("01_import", "02_motion", "03_ctf", "04_pick"), "finished"
    )
    assert json.loads((tmp_path / "live" / "status.json").read_text())["counts"] == counts


def test_started_again_it_does_only_what_is_new_and_halves_stay(tmp_path, raw):
    for i in range(4):
        movie(raw / f"m{i}.tif", BAD if i == 2 else 1)
    session(tmp_path).execute()
    first = table(tmp_path, "03_ctf", "micrographs")
    decided = times_done(tmp_path)
    for i in range(4, 11):
        movie(raw / f"a{i}.tif")
    counts = session(tmp_path).execute()["counts"]
    assert (counts["taken"], counts["ctf"], counts["failed"]) == (11, 10, {"motion": 1})
    assert set(times_done(tmp_path).values()) == {1}
    assert decided.items() <= times_done(tmp_path).items()
    now = table(tmp_path, "03_ctf", "micrographs")
    halves = dict(zip(now["micrograph_name"].tolist(), now["half_set"].tolist(), strict=True))
    assert [halves[name] for name in first["micrograph_name"].tolist()] == first["half_set"].tolist()
    movies = read_image_set(tmp_path / "live" / "taken.star", "movies")
    assert abs(movies["half_set"].tolist().count(1) - 5.5) == 0.5
    session(tmp_path).execute()
    assert set(times_done(tmp_path).values()) == {1}


def test_picking_waits_for_enough_micrographs_and_then_keeps_its_template(tmp_path, raw):
    live = session(tmp_path, once=False, settle_s=0.05)
    thread = threading.Thread(target=live.execute)
    thread.start()
    try:
        movie(raw / "a.tif")
        movie(raw / "b.tif")
        wait_for(lambda: done(tmp_path, "03_ctf") == 2)
        assert not (tmp_path / "live" / "04_pick").exists()
        for name in "cdef":
            movie(raw / f"{name}.tif")
            wait_for(lambda: done(tmp_path, "04_pick") >= 3)
        wait_for(lambda: done(tmp_path, "04_pick") == 6)
    finally:
        live.stop()
        thread.join(timeout=30)
    assert not thread.is_alive()
    decisions = [json.loads(path.read_text()) for path in (tmp_path / "live" / "04_pick" / "items").glob("*.json")]
    (template,) = [entry["value"] for entry in decisions if entry["label"] == "decisions"]
    assert 3 <= len(template["of"]) < 6
    assert JobRecord.load(tmp_path / "live" / "02_motion").runs[-1].rounds > 1
    assert (tmp_path / "live" / "01_import" / "report.html").exists()


def done(tmp_path, folder):
    path = tmp_path / "live" / folder
    return JobRecord.load(path).figures.get("items_out", 0) if (path / "job.json").exists() else 0


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_few_micrographs_are_picked_in_at_the_end(tmp_path, raw):
    movie(raw / "a.tif")
    assert session(tmp_path).execute()["counts"]["particles"] == 1


def test_a_bad_movie_that_is_replaced_is_tried_again(tmp_path, raw):
    for i in range(3):
        movie(raw / f"m{i}.tif", BAD if i == 1 else 1)
    assert session(tmp_path).execute()["counts"]["failed"] == {"motion": 1}
    movie(raw / "m1.tif", 2)
    counts = session(tmp_path).execute()["counts"]
    assert (counts["taken"], counts["ctf"], counts["failed"]) == (3, 3, {})
    assert times_done(tmp_path)["motion m1.tif"] == 2
    assert times_done(tmp_path)["motion m0.tif"] == 1


def test_only_bad_movies_so_far_is_trouble_but_no_end(tmp_path, raw):
    movie(raw / "m0.tif", BAD)
    status = session(tmp_path).execute()
    assert "1 of 1 failed" in status["trouble"]
    movie(raw / "m1.tif")
    status = session(tmp_path).execute()
    assert (status["trouble"], status["counts"]["ctf"]) == ("", 1)


def test_a_second_movie_of_the_same_name_is_refused_with_a_reason(tmp_path, raw):
    movie(raw / "m0.tif")
    session(tmp_path).execute()
    movie(raw / "day2" / "m0.tif")
    status = session(tmp_path).execute()
    assert status["counts"]["refused"] == 1
    assert "raw/m0.tif has the same name" in status["failures"][0]["reason"]
    movie(raw / "m0.2.tif")
    counts = session(tmp_path).execute()["counts"]
    assert (counts["seen"], counts["taken"], counts["refused"]) == (3, 2, 1)


def test_a_movie_that_was_moved_away_stays_in_the_tables(tmp_path, raw):
    for i in range(3):
        movie(raw / f"m{i}.tif")
    session(tmp_path).execute()
    (raw / "m0.tif").unlink()
    movie(raw / "m3.tif")
    counts = session(tmp_path).execute()["counts"]
    assert (counts["taken"], counts["ctf"], counts["failed"]) == (4, 4, {})


def test_other_options_or_another_folder_are_refused(tmp_path, raw):
    movie(raw / "m0.tif")
    session(tmp_path).execute()
    other = session(tmp_path)
    other.plan = make_plan(None, {**OPTICS, "diameter_A": 90.0}, STEPS)
    movie(raw / "m1.tif")
    with pytest.raises(HalfmapError, match="diameter_A None, not 90"):
        other.execute()
    assert json.loads((tmp_path / "live" / "status.json").read_text())["state"] == "stopped"
    (tmp_path / "other").mkdir()
    other.folder = tmp_path / "other"
    with pytest.raises(HalfmapError, match="is the session of the folder raw"):
        other.execute()


def test_no_folder_and_no_optics(tmp_path, raw):
    raw.rename(tmp_path / "gone")
    with pytest.raises(HalfmapError, match="there is no folder raw"):
        session(tmp_path).execute()
    (tmp_path / "gone").rename(raw)
    movie(raw / "m0.tif")
    live = session(tmp_path)
    live.plan = make_plan(None, {"pixel_size_A": 1.0}, STEPS)
    with pytest.raises(HalfmapError, match="Give --voltage"):
        live.execute()


def test_it_ends_when_nothing_comes(tmp_path, raw):
    movie(raw / "m0.tif")
    began = time.monotonic()
    assert session(tmp_path, once=False, stop_after_idle_s=1.0).execute()["state"] == "ended"
    assert time.monotonic() - began < 20
    text = (tmp_path / "live" / "live.html").read_text()
    assert "http-equiv='refresh'" not in text
    assert "movies taken" in text


def test_a_full_disk_is_trouble_that_passes(tmp_path, raw, monkeypatch):
    for i in range(3):
        movie(raw / f"m{i}.tif")
    live = session(tmp_path)

    def full():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live, "_write_taken", full)
    status = live.execute()
    assert "No space left" in status["trouble"]
    assert status["counts"]["not_done"] == 3
    again = session(tmp_path).execute()
    assert (again["trouble"], again["counts"]["ctf"], again["counts"]["not_done"]) == ("", 3, 0)
