"""A job that gets more inputs: nothing is done twice, failures stand, decisions stand, rounds are added up."""

import json

import pytest
from quiet import Quiet
from toy_step import STEP, ToyOptions

from halfmap.errors import HalfmapError, StepFailedError
from halfmap.exec.fake import FakeExecutor
from halfmap.exec.runner import run_job
from halfmap.exec.running import RunningJob
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "job"


@pytest.fixture
def grown(tmp_path, folder):
    executor = FakeExecutor()

    def grown(*texts, grows=True, screen=None, **options):
        paths = []
        for index, text in enumerate(texts):
            paths.append(tmp_path / f"t{index}.txt")
            paths[-1].write_text(text)
        record = run_job(
            STEP, {"texts": paths}, ToyOptions(**options), RunOptions(out=folder, max_failed_frac=1.0),
            screen=screen or Quiet(), choose_executor=lambda n, threads, device: executor, grows=grows,
        )  # fmt: skip
        return record

    grown.asked = executor.asked
    return grown


def test_only_new_items_are_done_and_the_failed_are_not_tried_again(grown, folder):
    assert grown("a", "bad", "c").figures["items_out"] == 2
    assert len(grown.asked) == 3
    record = grown("a", "bad", "c", "d", "bug")
    assert len(grown.asked) == 5
    assert (record.figures["items_in"], record.figures["items_out"]) == (5, 3)
    assert [failure.item for failure in record.failed_items] == ["t1.txt", "t4.txt"]
    assert len(json.loads((folder / "failures.json").read_text())) == 2
    assert record.state == "finished"


def test_the_result_is_that_of_a_job_which_had_all_from_the_start(grown, folder, tmp_path):
    grown("a", "b", length_px=5)
    last = grown("a", "b", "c", length_px=5).figures["last"]
    folder.rename(tmp_path / "before")
    assert grown("a", "b", "c", grows=False, length_px=5).figures["last"] == last


def test_nothing_new_is_nothing_to_do(grown):
    first = grown("a", "b")
    assert grown("a", "b") == first
    assert grown("a", "b", grows=False) == first
    grown("a", "b", "c")
    assert len(grown.asked) == 3, "the results of items were still there"


def test_rounds_are_added_up(grown):
    grown("a")
    record = grown("a", "b", "c")
    (run,) = record.runs
    assert run.rounds == 2
    assert run.items["items"].count == 3
    assert run.wall_s >= run.items["items"].wall_s


def test_a_warning_is_said_once_and_kept(grown, folder):
    grown("a")
    record = JobRecord.load(folder)
    record.model_copy(update={"warnings": ("careful",)}).save(folder)
    screen = Quiet()
    job = RunningJob(STEP, RunOptions(out=folder), screen, before=JobRecord.load(folder))
    job.warn("careful")
    job.warn("news")
    assert "careful" not in screen.text
    assert "news" in screen.text
    assert job.warnings == ["careful", "news"]


def test_other_options_do_not_grow(grown):
    grown("a")
    with pytest.raises(HalfmapError, match="length_px 16, not 17"):
        grown("a", "b", length_px=17)


def test_a_job_does_not_grow_unasked(grown):
    grown("a", grows=False)
    with pytest.raises(HalfmapError, match="other contents of texts"):
        grown("a", "b", grows=False)


def test_all_bad_so_far_is_a_failure_that_more_items_mend(grown):
    with pytest.raises(StepFailedError, match="1 of 1 failed"):
        grown("bad")
    record = grown("bad", "b")
    assert (record.state, record.figures["items_out"]) == ("finished", 1)
    assert len(grown.asked) == 2


def test_a_decision_stands(grown, folder):
    grown("a")
    job = RunningJob(STEP, RunOptions(out=folder), Quiet())
    assert job.once("x", lambda: {"value": (1, 2)}) == {"value": [1, 2]}
    assert job.once("x", lambda: {"value": 3}) == {"value": [1, 2]}
    with pytest.raises(ZeroDivisionError):
        job.once("y", lambda: 1 / 0)
    assert job.once("y", lambda: {"value": 4}) == {"value": 4}
