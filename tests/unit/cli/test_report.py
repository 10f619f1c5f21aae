"""The report step joins the pages of jobs that it is given."""

from pathlib import Path

import pytest
from quiet import Quiet
from toy_chain import MICROGRAPHS, toy

from halfmap.cli.inputs import resolve_inputs
from halfmap.errors import HalfmapError
from halfmap.exec.runner import run_job
from halfmap.jobs.run_options import RunOptions
from halfmap.steps.report import STEP


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m.tif").write_text("x")
    for name in ("one", "two"):
        step = toy(name, {"movies": "movies"}, MICROGRAPHS)
        run_job(step, {"movies": [Path("m.tif")]}, step.options(), RunOptions(out=Path("s", name)), screen=Quiet(),
                command=("halfmap", name, "m.tif"))  # fmt: skip


def report(*given):
    inputs = resolve_inputs(STEP, given)
    return run_job(STEP, inputs, STEP.options(title="Both"), RunOptions(out=Path("page")), screen=Quiet())


@pytest.mark.parametrize("given", [("s",), ("s/one", "s/two")])
def test_one_page(jobs, given):
    assert report(*given).figures["items_out"] == 2
    page = Path("page/report.html").read_text()
    assert page.index("halfmap one m.tif") < page.index("halfmap two m.tif")
    assert "<title>Both" in page


def test_unfinished_jobs_are_named(jobs):
    record = Path("s/two/job.json")
    record.write_text(record.read_text().replace('"state":"finished"', '"state":"failed"').replace(
        '"state": "finished"', '"state": "failed"'))  # fmt: skip
    with pytest.raises(HalfmapError, match="not finished: s/two"):
        report("s")


def test_folder_without_jobs(jobs):
    Path("empty").mkdir()
    with pytest.raises(HalfmapError, match="empty holds no job"):
        report("empty")
