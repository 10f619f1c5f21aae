"""Looks at a job that goes on."""

import io

import pytest

from halfmap.exec import running
from halfmap.exec.running import NOW, PROGRESS_PAGE, RunningJob
from halfmap.exec.screen import screen_for
from halfmap.jobs.run_options import RunOptions
from halfmap.steps import compare


@pytest.fixture
def job(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "SHOWN_EVERY_S", 0.0)
    return RunningJob(compare.STEP, RunOptions(out=tmp_path), screen_for(io.StringIO()))


def test_a_look_that_fails_is_told_and_ends_nothing(job, tmp_path):
    def write(folder):
        raise ValueError("no map yet")

    job.show(write)
    log = (tmp_path / "run.log").read_text()
    assert f"{PROGRESS_PAGE} could not be drawn: ValueError: no map yet" in log
    assert "Traceback" in log


def test_looks_are_not_frequent(job, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "SHOWN_EVERY_S", 1000.0)
    job.show(lambda folder: pytest.fail("too soon"))
    assert not (tmp_path / NOW).exists()
