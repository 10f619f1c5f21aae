"""SQLite index of a folder of jobs; the files are the truth, the index only finds things in them.

It is brought up to date whenever it is opened: `job.json` files that are new or changed are read
again, those that are gone are dropped. So it cannot be stale, and deleting it loses nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from halfmap.errors import HalfmapError
from halfmap.jobs.lock import folder_lock, is_locked
from halfmap.jobs.record import RECORD_FILE, JobRecord
from halfmap.jobs.state import State, observed

INDEX_FILE: Final = ".halfmap-index.sqlite"
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS jobs (
    folder TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
    step TEXT NOT NULL, started TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    folder TEXT NOT NULL REFERENCES jobs(folder) ON DELETE CASCADE,
    role TEXT NOT NULL, port TEXT NOT NULL, path TEXT NOT NULL, hash TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS files_by_hash ON files(hash, role);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True)
class Job:
    """A job of a project: its folder (absolute), its record, and its state as it stands."""

    folder: Path
    record: JobRecord
    state: State


class Index:
    """What the jobs below a folder are; get one from `open_index`."""

    def __init__(self, project: Path, database: sqlite3.Connection) -> None:
        self.project = project
        self._database = database

    def jobs(self) -> list[Job]:
        """All jobs, in the order of their first start."""
        rows = self._database.execute("SELECT folder, record FROM jobs ORDER BY started, folder")
        return [self._job(folder, record) for folder, record in rows]

    def job(self, folder: Path) -> Job | None:
        """The job in a folder of the project."""
        try:
            name = str(folder.absolute().relative_to(self.project))
        except ValueError:
            return None
        row = self._database.execute("SELECT folder, record FROM jobs WHERE folder = ?", (name,)).fetchone()
        return self._job(*row) if row else None

    def makers(self, content: str) -> list[Job]:
        """Jobs that have an output of that content hash."""
        query = (
            "SELECT DISTINCT jobs.folder, record FROM files JOIN jobs USING (folder) "
            "WHERE hash = ? AND role = 'output' ORDER BY started, jobs.folder"
        )
        return [self._job(*row) for row in self._database.execute(query, (content,))]

    def _job(self, folder: str, record: str) -> Job:
        path = self.project / folder
        parsed = JobRecord.model_validate_json(record)
        return Job(path, parsed, observed(parsed.state, locked=parsed.state == "running" and is_locked(path)))

    def refresh(self) -> None:
        """Read what is new or changed, forget what is gone."""
        known = {row[0]: row[1:] for row in self._database.execute("SELECT folder, mtime_ns, size FROM jobs")}
        seen = set()
        for path in job_files(self.project):
            name, status = str(path.parent.relative_to(self.project)), path.stat()
            seen.add(name)
            if known.get(name) != (status.st_mtime_ns, status.st_size):
                self._store(name, status, JobRecord.load(path.parent))
        for name in set(known) - seen:
            self._database.execute("DELETE FROM jobs WHERE folder = ?", (name,))
        self._database.commit()

    def _store(self, name: str, status: os.stat_result, record: JobRecord) -> None:
        started = record.runs[0].started if record.runs else ""
        self._database.execute("DELETE FROM jobs WHERE folder = ?", (name,))
        self._database.execute(
            "INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)",
            (name, status.st_mtime_ns, status.st_size, record.step, started, record.model_dump_json()),
        )
        rows = [(name, "input", file.port, file.path, file.hash) for file in record.inputs]
        rows += [(name, "output", file.port, file.path, file.hash) for file in record.outputs]
        self._database.executemany("INSERT INTO files VALUES (?, ?, ?, ?, ?)", rows)


def job_files(project: Path) -> Iterator[Path]:
    """Find every `job.json` below a folder, not looking into hidden folders."""
    for folder, below, files in os.walk(project):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if RECORD_FILE in files:
            yield Path(folder, RECORD_FILE)


@contextmanager
def open_index(project: Path, *, rebuild: bool = False) -> Iterator[Index]:
    """Open the index of a folder, brought up to date (or made anew).

    Raises
    ------
    HalfmapError
        If there is no such folder.
    LockedError
        If another process brings the index up to date right now.
    """
    project = project.absolute()
    if not project.is_dir():
        raise HalfmapError(f"there is no folder {project}.", remedy="Name the folder that holds the jobs.")
    path = project / INDEX_FILE
    with folder_lock(project, name=f"{INDEX_FILE}.lock"):
        if rebuild:
            path.unlink(missing_ok=True)
        database = sqlite3.connect(path)
        try:
            _prepare(database)
            index = Index(project, database)
            index.refresh()
            yield index
        except sqlite3.DatabaseError as error:
            raise HalfmapError(
                f"the index {path} is damaged ({error}).", remedy=f"halfmap project reindex {project}"
            ) from None
        finally:
            database.close()


def _prepare(database: sqlite3.Connection) -> None:
    database.execute("PRAGMA foreign_keys = ON")
    database.executescript(_SCHEMA)


def history_lines(jobs: Sequence[Job], project: Path) -> list[str]:
    """One line a job: when, state, step, folder, counts, time."""
    lines = []
    for job in jobs:
        runs = job.record.runs
        counts = job.record.figures
        items = f"{counts['items_in']} -> {counts['items_out']}" if {"items_in", "items_out"} <= set(counts) else ""
        cpu = sum(run.cpu_s or 0.0 for run in runs)
        started = runs[0].started[:16].replace("T", " ") if runs else ""
        folder = job.folder.relative_to(project)
        lines.append(f"{started:16}  {job.state:11}  {job.record.step:18}  {items:>16}  {cpu:8.1f} s CPU  {folder}")
    return lines
