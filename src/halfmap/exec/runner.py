"""Runs a step as a job in a folder: starts, continues, refuses, and keeps the record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from halfmap import __version__
from halfmap.errors import HalfmapError, StepFailedError
from halfmap.exec.executor import MORE_MEMORY, finite, json_copy, memory_ran_out
from halfmap.exec.running import LOG_FILE, NOW, PROGRESS_PAGE, ChooseExecutor, RunningJob
from halfmap.exec.screen import PlainScreen, Screen, clock
from halfmap.jobs import checkpoint, items
from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.environment import cpu_seconds, environment, peak_device_memory_GB, peak_memory_GB
from halfmap.jobs.hashing import content_hashes
from halfmap.jobs.lock import folder_lock
from halfmap.jobs.record import (
    RECORD_FILE,
    FailureRecord,
    FileRecord,
    ItemFailure,
    JobRecord,
    Run,
    differences,
    is_grown,
    job_key,
)
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.state import Event, advance
from halfmap.jobs.step import Step
from halfmap.options import Options

FAILURES_FILES = ("failures.json", "failures.star")
UNFINISHED_FILES = (".part-*", ".writing-*")
"""What killed processes leave behind (jobs/atomic.py, io/files.py)."""


class InterruptedJobError(HalfmapError):
    """The job was stopped from outside; the same command continues it."""

    code = "interrupted"


def run_job(
    step: Step,
    inputs: Mapping[str, Sequence[Path]],
    options: Options,
    run: RunOptions,
    *,
    command: Sequence[str] = (),
    screen: Screen | None = None,
    choose_executor: ChooseExecutor | None = None,
    grows: bool = False,
) -> JobRecord:
    """Run a step in the folder ``run.out``, or continue it there, and return its record.

    A finished job with the same key (step, options, contents of inputs, seed) is returned as it
    is; an unfinished one is continued. A job that ``grows`` may be called again with other contents of
    its inputs: items that it has done, well or not, are not done again. Its page is left to the caller.

    Raises
    ------
    LockedError
        If another process works in the folder.
    HalfmapError
        If the folder holds another job or other files, or the step fails for a reason it gives.
    InterruptedJobError
        After Ctrl-C or SIGTERM; the record says so and the same command continues.
    """
    screen = screen if screen is not None else PlainScreen(sys.stderr)
    _refuse_foreign_folder(run.out)
    with folder_lock(run.out):
        old = JobRecord.load(run.out) if (run.out / RECORD_FILE).exists() else None
        job = RunningJob(step, run, screen, choose_executor, old if grows else None)
        record = _new_record(step, inputs, options, run, command, old)
        record = record.model_copy(update={"grows": grows or (old is not None and old.grows)})
        if old is not None:
            if old.key != record.key and not (grows and is_grown(old, record, inputs)):
                _refuse_other_job(run.out, old, record)
            absent = [file.path for file in old.outputs if not (run.out / file.path).exists()]
            if old.state == "finished" and old.key == record.key and not absent:
                job.log(f"{run.out} is finished already; nothing is done")
                _drop_intermediates(old, run.out)
                return old
            record = _continued(job, record, old, absent)
            if grows:
                stands = ("failed_items", "warnings", "figures", "outputs")
                record = record.model_copy(update={name: getattr(old, name) for name in stands})
        for pattern in UNFINISHED_FILES:
            for part in run.out.rglob(pattern):
                part.unlink(missing_ok=True)
        return _perform(job, record, inputs, options)


def _refuse_foreign_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise HalfmapError(f"{out} is a file.", remedy="Give --out the name of a folder.")
    if not out.is_dir() or (out / RECORD_FILE).exists():
        return
    others = sorted(path.name for path in out.iterdir() if not path.name.startswith("."))
    if others:
        raise HalfmapError(
            f"{out} holds other files ({', '.join(others[:3])}) and no job.", remedy="Give --out a new or empty folder."
        )


def _refuse_other_job(out: Path, old: JobRecord, new: JobRecord) -> NoReturn:
    changes = "; ".join(differences(old, new)) or "another fingerprint"
    raise HalfmapError(
        f"{out} holds a {old.state} job that is not this one: it has {changes}.",
        remedy="Give another --out, or remove the folder to start anew.",
        code="other-job",
    )


def _continued(job: RunningJob, record: JobRecord, old: JobRecord, absent: Sequence[str]) -> JobRecord:
    """Take over what an earlier run left; start afresh where outputs of a finished job are gone."""
    if old.state == "finished" and record.grows:
        return record.model_copy(update={"runs": old.runs})
    if old.state == "finished":
        job.log(f"{job.folder} was finished, but {', '.join(absent[:3])} is gone; it is done again")
        _drop_intermediates(record, job.folder)
        return record.model_copy(update={"runs": old.runs})
    version = old.runs[-1].environment.halfmap if old.runs else ""
    if version and version != __version__:
        job.warn(f"an earlier part of this job was done by halfmap {version}")
    job.log(f"continuing the job in {job.folder}")
    return record.model_copy(update={"runs": old.runs, "state": "interrupted"})


def _new_record(
    step: Step,
    inputs: Mapping[str, Sequence[Path]],
    options: Options,
    run: RunOptions,
    command: Sequence[str],
    old: JobRecord | None,
) -> JobRecord:
    files = [(port, Path(path)) for port, paths in inputs.items() for path in paths]
    for name in type(options).model_fields:
        value = getattr(options, name)
        values = value if isinstance(value, tuple | list) else [value]
        files += [(name, path) for path in values if isinstance(path, Path)]
    known = {(f.path, f.size, f.mtime_ns): f.hash for f in old.inputs} if old is not None else {}
    records = file_records(files, known)
    dumped = json.loads(options.model_dump_json())
    return JobRecord(
        step=step.name,
        step_version=step.version,
        options=dumped,
        inputs=records,
        seed=run.seed,
        max_failed_frac=run.max_failed_frac,
        key=job_key(step.name, step.version, dumped, records, run.seed),
        command=tuple(command),
        working_folder=os.getcwd(),
    )


def file_records(
    files: Sequence[tuple[str, Path]], known: Mapping[tuple[str, int, int], str], root: Path | None = None
) -> tuple[FileRecord, ...]:
    """Describe (port, path) pairs; a file of known path, size and time is not read again."""
    found = []
    for port, path in files:
        try:
            status = path.stat()
        except OSError as error:
            raise HalfmapError(f"{path} ({port}) cannot be read: {error.strerror}.", remedy="Check the name.") from None
        if not path.is_file():
            raise HalfmapError(f"{path} ({port}) is a folder.", remedy="Name the file.")
        found.append((port, path, status))
    unknown = [p for _, p, s in found if (str(p), s.st_size, s.st_mtime_ns) not in known]
    hashes = dict(zip(unknown, content_hashes(unknown), strict=True))
    return tuple(
        FileRecord(
            port=port,
            path=str(path if root is None else path.relative_to(root)),
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            hash=hashes[path] if path in hashes else known[str(path), status.st_size, status.st_mtime_ns],
        )
        for port, path, status in found
    )


def _perform(job: RunningJob, record: JobRecord, inputs: Mapping[str, Sequence[Path]], options: Options) -> JobRecord:
    attempt = _Attempt(job, record)
    record = attempt.record
    job.write_log(f"halfmap {__version__}, step {record.step}: {record.command_line()}")
    try:
        with sigterm_interrupts(), closing(job.pool):
            given = {port: list(paths) for port, paths in inputs.items()}
            figures = finite(json_copy(job.step.run(job, given, options)))
            outputs = _outputs(job)
    except KeyboardInterrupt:
        attempt.ended("interrupt")
        job.log("interrupted")
        raise InterruptedJobError(f"{job.folder} was interrupted.", remedy="The same command continues it.") from None
    except HalfmapError as error:
        job.write_log(traceback.format_exc())
        attempt.ended("fail", failure=FailureRecord(code=error.code, message=error.message, remedy=error.remedy))
        raise
    except Exception as error:
        job.write_log(traceback.format_exc())
        failure = _unforeseen(error, job.folder)
        attempt.ended("fail", failure=failure)
        raise StepFailedError(failure.message, remedy=failure.remedy, code=failure.code) from error
    done = attempt.ended("finish", outputs=outputs, figures=figures)
    _drop_intermediates(done, job.folder)
    last = done.runs[-1]
    job.log(f"finished {job.folder} in {clock(last.wall_s or 0)}, {clock(last.cpu_s or 0)} of CPU")
    return done


def _unforeseen(error: Exception, folder: Path) -> FailureRecord:
    """What to say of an error that no step gave a reason for."""
    message = f"{type(error).__name__}: {error}"
    if memory_ran_out(error):
        return FailureRecord(code="out-of-memory", message=message, remedy=MORE_MEMORY)
    remedy = f"This is a fault of halfmap; please report it with {folder / LOG_FILE}."
    return FailureRecord(code="unexpected", message=message, remedy=remedy)


class _Attempt:
    """One start of a job, from the record that says running to the one that says how it ended."""

    def __init__(self, job: RunningJob, record: JobRecord) -> None:
        self.job = job
        self.start, self.cpu_before = time.monotonic(), cpu_seconds()
        run = Run(started=_now(), threads=job.threads, memory_GB=job.memory_GB, environment=environment())
        self.record = record.model_copy(
            update={"state": advance(record.state, "start"), "runs": (*record.runs, run), "failure": None}
        )
        self.record.save(job.folder)

    def ended(self, event: Event, **changes: Any) -> JobRecord:
        """Write and return the last record of this start."""
        last = self.record.runs[-1].model_copy(
            update={
                "ended": _now(),
                "wall_s": round(time.monotonic() - self.start, 3),
                "cpu_s": round(cpu_seconds() - self.cpu_before + self.job.lent_cpu_s, 3),
                "peak_memory_GB": round(peak_memory_GB(), 4),
                "peak_device_memory_GB": peak_device_memory_GB(),
                "device": self.job.resolved_device,
                "items": self.job.item_times,
            }
        )
        changes |= {
            "state": advance(self.record.state, event),
            "runs": _with_last(self.record.runs[:-1], last, grows=self.record.grows),
            "warnings": tuple(self.job.warnings),
            "failed_items": tuple(sorted(self.job.failed_items, key=lambda failure: (failure.label, failure.item))),
        }
        final = self.record.model_copy(update=changes)
        _write_failures(self.job.folder, final.failed_items)
        if event == "finish" and not final.grows:
            final = _with_page(self.job, final)
        final.save(self.job.folder)
        return final


def _with_last(runs: tuple[Run, ...], last: Run, *, grows: bool) -> tuple[Run, ...]:
    """The runs with one more; rounds of a job that grows are added up while machine and resources are the same."""
    before = runs[-1] if runs else None
    alike = ("environment", "threads", "device")
    if before is None or not grows or not before.ended or any(getattr(before, n) != getattr(last, n) for n in alike):
        return (*runs, last)
    items = dict(before.items)
    for label, times in last.items.items():
        items[label] = items[label].plus(times) if label in items else times
    peaks = {
        name: max((value for run in (before, last) if (value := getattr(run, name)) is not None), default=None)
        for name in ("peak_memory_GB", "peak_device_memory_GB")
    }
    sums = {
        name: round((getattr(before, name) or 0.0) + (getattr(last, name) or 0.0), 3) for name in ("wall_s", "cpu_s")
    }
    added = {"ended": last.ended, "memory_GB": last.memory_GB, "items": items, "rounds": before.rounds + last.rounds}
    return (*runs[:-1], before.model_copy(update=added | peaks | sums))


def _with_page(job: RunningJob, record: JobRecord) -> JobRecord:
    """Draw the job's page; one that cannot be drawn is a warning, the results are there without it."""
    from halfmap.steps.pages.write import PAGE, write_page

    if any(port.file == PAGE for port in job.step.outputs):
        return record
    try:
        write_page(job.folder, record, [citation.text for citation in job.step.citations])
    except Exception as error:
        job.write_log(traceback.format_exc())
        job.warn(f"report.html could not be drawn: {type(error).__name__}: {error}")
    return record.model_copy(update={"warnings": tuple(job.warnings)})


def _outputs(job: RunningJob) -> tuple[FileRecord, ...]:
    files = []
    for port in job.step.outputs:
        paths = sorted(job.folder.glob(port.file)) if port.file else []
        if not paths and port.file and not port.optional:
            raise RuntimeError(f"step {job.step.name} ended without its output {port.file}")
        files += [(port.name, path) for path in paths if path.is_file()]
    return file_records(files, {}, root=job.folder)


def _write_failures(folder: Path, failed: Sequence[ItemFailure]) -> None:
    """List what was passed over for people and programs (JSON) and for STAR readers."""
    paths = [folder / name for name in FAILURES_FILES]
    if not failed:
        for path in paths:
            path.unlink(missing_ok=True)
        return
    from halfmap.io.star import write_star

    rows = [failure.model_dump() for failure in failed]
    write_text_atomic(paths[0], json.dumps(rows, indent=1, ensure_ascii=False) + "\n")
    columns = {f"rlnHalfmapFailure{name.title()}": [row[name] for row in rows] for name in rows[0]}
    write_star(paths[1], {"failures": columns})


def _drop_intermediates(record: JobRecord, folder: Path) -> None:
    for name in (checkpoint.FOLDER, NOW) if record.grows else (items.FOLDER, checkpoint.FOLDER, NOW):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / PROGRESS_PAGE).unlink(missing_ok=True)


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Treat SIGTERM (of batch systems) as Ctrl-C; signals can be set in the main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
