"""A job starts, continues, refuses, fails with reasons, and its record says what happened."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from quiet import Quiet
from toy_step import STEP, ToyOptions

from halfmap.errors import HalfmapError, StepFailedError
from halfmap.exec import runner
from halfmap.exec.fake import FakeExecutor
from halfmap.exec.local import InlineExecutor
from halfmap.exec.running import allowed_failures
from halfmap.jobs.lock import LockedError, folder_lock
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions


@pytest.fixture
def texts(tmp_path):
    def make(*contents):
        paths = []
        for index, content in enumerate(contents):
            paths.append(tmp_path / f"t{index}.txt")
            paths[-1].write_text(content)
        return {"texts": paths}

    return make


@pytest.fixture
def run_job(tmp_path):
    def run(inputs, options=None, executor=None, step=STEP, screen=None, **run_options):
        executor = executor or InlineExecutor()
        return runner.run_job(
            step,
            inputs,
            options or ToyOptions(),
            RunOptions(**({"out": tmp_path / "job", "threads": 1} | run_options)),
            screen=screen or Quiet(),
            choose_executor=lambda n, threads, device: executor,
        )

    return run


def test_record_of_a_finished_job(texts, run_job, tmp_path):
    record = run_job(texts("a", "b"), seed=7)
    assert JobRecord.load(tmp_path / "job") == record
    assert record.state == "finished"
    assert (record.figures["items_in"], record.figures["items_out"]) == (2, 2)
    assert record.options["length_px"] == 16
    assert [file.port for file in record.inputs] == ["texts", "texts"]
    assert [file.path for file in record.outputs] == ["result.npy"]
    last = record.runs[-1]
    assert last.cpu_s >= 0
    assert last.wall_s > 0
    assert last.peak_memory_GB > 0.01
    assert last.environment.packages["torch"] != "absent"
    assert "finished" in (tmp_path / "job" / "run.log").read_text()
    assert not (tmp_path / "job" / "items").exists()
    assert not (tmp_path / "job" / "checkpoints").exists()


def test_same_job_again_does_nothing(texts, run_job):
    executor = FakeExecutor()
    first = run_job(texts("a", "b"), executor=executor)
    assert len(executor.asked) == 2
    assert run_job(texts("a", "b"), executor=executor, threads=3) == first
    assert len(executor.asked) == 2


def test_other_options_inputs_or_seed_are_refused(texts, run_job, tmp_path):
    inputs = texts("a", "b")
    run_job(inputs, seed=1)
    with pytest.raises(HalfmapError, match=r"length_px 16, not 17.*Give another --out"):
        run_job(inputs, ToyOptions(length_px=17), seed=1)
    with pytest.raises(HalfmapError, match="seed 1, not 2"):
        run_job(inputs, seed=2)
    with pytest.raises(HalfmapError, match="other contents of texts"):
        run_job(texts("a", "c"), seed=1)
    assert JobRecord.load(tmp_path / "job").state == "finished"


def test_inputs_that_moved_are_the_same_inputs(texts, run_job, tmp_path):
    inputs = texts("a", "b")
    first = run_job(inputs)
    (tmp_path / "elsewhere").mkdir()
    moved = [path.rename(tmp_path / "elsewhere" / path.name) for path in inputs["texts"]]
    assert run_job({"texts": moved}) == first


def test_files_named_by_options_are_hashed(texts, run_job, tmp_path):
    mask = tmp_path / "mask.txt"
    mask.write_text("one")
    record = run_job(texts("a"), ToyOptions(mask=mask))
    assert [file.port for file in record.inputs] == ["texts", "mask"]
    mask.write_text("two")
    with pytest.raises(HalfmapError, match="other contents of mask"):
        run_job(texts("a"), ToyOptions(mask=mask))


def test_missing_file_of_an_option(texts, run_job, tmp_path):
    with pytest.raises(HalfmapError, match=r"absent\.mrc \(mask\) cannot be read"):
        run_job(texts("a"), ToyOptions(mask=tmp_path / "absent.mrc"))


def test_lost_outputs_of_a_finished_job_are_made_again(texts, run_job, tmp_path):
    run_job(texts("a", "b"))
    before = (tmp_path / "job" / "result.npy").read_bytes()
    (tmp_path / "job" / "result.npy").unlink()
    screen = Quiet()
    record = run_job(texts("a", "b"), screen=screen)
    assert "is gone; it is done again" in screen.text
    assert len(record.runs) == 2
    assert (tmp_path / "job" / "result.npy").read_bytes() == before


def test_bad_item_is_passed_over_and_listed(texts, run_job, tmp_path):
    record = run_job(texts("a", "bad", "c", "bug", "e", "f", "g", "h", "i", "j"))
    assert record.state == "finished"
    assert (record.figures["items_in"], record.figures["items_out"]) == (10, 8)
    listed = json.loads((tmp_path / "job" / "failures.json").read_text())
    assert [row["item"] for row in listed] == ["t1.txt", "t3.txt"]
    assert listed[0]["remedy"] == "Write good into it."
    assert listed[1]["error"] == "ZeroDivisionError: one over nothing"
    star = (tmp_path / "job" / "failures.star").read_text()
    assert "t1.txt" in star
    assert "Traceback" in (tmp_path / "job" / "run.log").read_text()


def test_memory_that_ran_out_is_no_fault_of_the_program(texts, run_job, tmp_path):
    run_job(texts("a", "large", *"cdefgh"))
    listed = json.loads((tmp_path / "job" / "failures.json").read_text())
    assert [(row["error"], "--threads" in row["remedy"]) for row in listed] == [("MemoryError: 16 EiB wanted", True)]

    class OutOfMemoryError(RuntimeError):
        """As torch calls it."""

    def too_large(*_):
        raise OutOfMemoryError("CUDA out of memory")

    with pytest.raises(StepFailedError, match="CUDA out of memory"):
        run_job(texts("a"), step=replace(STEP, run=too_large), out=tmp_path / "other")
    failure = JobRecord.load(tmp_path / "other").failure
    assert failure.code == "out-of-memory"
    assert "--device cpu" in failure.remedy


def test_too_many_bad_items_fail_with_the_commonest_reason(texts, run_job, tmp_path):
    with pytest.raises(StepFailedError, match=r"2 of them like t\d\.txt: .*content is bad.*Write good into it"):
        run_job(texts("bad", "b", "bug", "d", "bad", "f"), max_failed_frac=0.34)
    record = JobRecord.load(tmp_path / "job")
    assert record.state == "failed"
    assert record.failure.code == "too-many-failures"


@pytest.mark.parametrize("contents", [("bad",), ("bad", "bad"), ("bug", "bug", "bug")])
def test_job_fails_when_every_item_does(texts, run_job, contents):
    with pytest.raises(StepFailedError, match=f"{len(contents)} of {len(contents)} failed"):
        run_job(texts(*contents), max_failed_frac=1.0)


@pytest.mark.parametrize(("total", "share"), [(1, 0.2), (2, 1.0), (7, 0.2), (50, 0.3)])
def test_allowed_failures_leave_something(total, share):
    assert allowed_failures(total, share) < total
    assert allowed_failures(total, share) >= min(1, total - 1)


def test_failed_job_continues_when_the_cause_is_gone(texts, run_job, tmp_path):
    attempts = []

    def run(job, inputs, options):
        attempts.append(job.load_checkpoint("state"))
        job.save_checkpoint("state", 3, {"x": np.arange(3)}, {"note": "here"})
        if len(attempts) == 1:
            raise HalfmapError("the disk is full", remedy="Make room.")
        (job.folder / "result.npy").write_bytes(b"done")
        return {"items_in": 1, "items_out": 1}

    step = replace(STEP, run=run)
    with pytest.raises(HalfmapError, match="disk is full"):
        run_job(texts("a"), step=step)
    assert JobRecord.load(tmp_path / "job").failure.remedy == "Make room."
    record = run_job(texts("a"), step=step)
    assert record.state == "finished"
    assert record.failure is None
    assert len(record.runs) == 2
    assert attempts[0] is None
    assert attempts[1][0] == 3
    assert attempts[1][1]["x"].tolist() == [0, 1, 2]


def test_declared_failure_carries_its_remedy(texts, run_job, tmp_path):
    def run(job, inputs, options):
        job.fail("nothing", "no numbers were found")

    with pytest.raises(StepFailedError, match=r"no numbers were found Give texts\."):
        run_job(texts("a"), step=replace(STEP, run=run))
    assert JobRecord.load(tmp_path / "job").failure.code == "nothing"


def test_unexpected_exception_is_logged_in_full_and_told_in_short(texts, run_job, tmp_path):
    def run(job, inputs, options):
        return {"value": [][1]}

    with pytest.raises(StepFailedError, match=r"IndexError: list index out of range .*report it") as caught:
        run_job(texts("a"), step=replace(STEP, run=run))
    assert "Traceback" not in caught.value.message
    assert 'return {"value": [][1]}' in (tmp_path / "job" / "run.log").read_text()


def test_interrupted_job_says_so(texts, run_job, tmp_path):
    def run(job, inputs, options):
        raise KeyboardInterrupt

    with pytest.raises(runner.InterruptedJobError, match="same command continues"):
        run_job(texts("a"), step=replace(STEP, run=run))
    assert JobRecord.load(tmp_path / "job").state == "interrupted"


def test_missing_output_is_a_fault_of_the_step(texts, run_job):
    with pytest.raises(StepFailedError, match=r"without its output result\.npy"):
        run_job(texts("a"), step=replace(STEP, run=lambda job, inputs, options: {}))


def test_warnings_are_kept_once(texts, run_job):
    def run(job, inputs, options):
        job.warn("odd")
        job.warn("odd")
        (job.folder / "result.npy").write_bytes(b"")
        return {}

    assert run_job(texts("a"), step=replace(STEP, run=run)).warnings == ("odd",)


def test_folder_with_other_files_is_not_touched(texts, run_job, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "thesis.tex").write_text("years of work")
    with pytest.raises(HalfmapError, match=r"holds other files \(thesis\.tex\)"):
        run_job(texts("a"))
    assert [path.name for path in (tmp_path / "job").iterdir()] == ["thesis.tex"]


def test_out_that_is_a_file(texts, run_job, tmp_path):
    (tmp_path / "job").write_text("")
    with pytest.raises(HalfmapError, match="is a file"):
        run_job(texts("a"))


def test_second_process_is_kept_out(texts, run_job, tmp_path):
    with folder_lock(tmp_path / "job"), pytest.raises(LockedError, match=r"in use by process \d+ of .* since"):
        run_job(texts("a"))


def test_remains_of_killed_writers_are_cleared(texts, run_job, tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / ".part-1-result.npy").write_text("half")
    (tmp_path / "job" / ".writing-1-result.npy").write_text("half")
    run_job(texts("a"))
    assert not list((tmp_path / "job").glob(".*-1-*"))


def test_items_finished_before_are_not_redone_and_results_do_not_depend_on_it(texts, run_job, tmp_path):
    inputs = texts("a", "b", "c", "d")
    whole = run_job(inputs, out=tmp_path / "whole")
    stop = partial(FakeExecutor, order=[0, 1])
    with pytest.raises(StepFailedError, match="KeyError"):
        run_job(inputs, executor=stop())
    assert len(list((tmp_path / "job" / "items").iterdir())) == 2
    executor = FakeExecutor()
    continued = run_job(inputs, executor=executor)
    assert [path.rsplit("/", 1)[-1] for path in executor.asked] == ["t3.txt", "t2.txt"]
    assert continued.figures == whole.figures
    assert continued.outputs[0].hash == whole.outputs[0].hash


def test_same_input_twice_is_refused(texts, run_job):
    inputs = texts("a", "b")
    with pytest.raises(HalfmapError, match=r"t0\.txt occurs more than once"):
        run_job({"texts": [*inputs["texts"], inputs["texts"][0]]})
