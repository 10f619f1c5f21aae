"""`job.json`: everything that is needed to know what a job did, and to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from halfmap.errors import BadInputError
from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.hashing import canonical_json, text_hash
from halfmap.jobs.state import State

RECORD_FILE: Final = "job.json"
FORMAT: Final = 1


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FileRecord(_Part):
    """One file that a job read or wrote."""

    port: str
    """Name of the port, or of the option that names the file."""
    path: str
    """As given; relative to the folder that the job was started in, outputs to the job's folder."""
    size: int
    mtime_ns: int
    hash: str


class Environment(_Part):
    """Where a job ran."""

    halfmap: str
    python: str
    packages: dict[str, str]
    host: str
    cpu: str
    cores: int
    system: str


class ItemTimes(_Part):
    """What the items of one label took, added up; each is timed in the process that did it."""

    count: int
    wall_s: float
    cpu_s: float

    def plus(self, other: ItemTimes) -> ItemTimes:
        """Both together."""
        return ItemTimes(
            count=self.count + other.count, wall_s=self.wall_s + other.wall_s, cpu_s=self.cpu_s + other.cpu_s
        )


class Run(_Part):
    """One start of the program on a job; a continued job has several."""

    started: str
    ended: str | None = None
    wall_s: float | None = None
    cpu_s: float | None = None
    peak_memory_GB: float | None = None
    peak_device_memory_GB: float | None = None
    device: str | None = None
    threads: int
    memory_GB: float
    environment: Environment
    items: dict[str, ItemTimes] = {}
    """By label."""
    rounds: int = 1
    """How often a job that grows was run by the program that started then."""


class ItemFailure(_Part):
    """One item that was passed over."""

    label: str
    item: str
    error: str
    remedy: str = ""


class FailureRecord(_Part):
    """Why a job failed."""

    code: str
    message: str
    remedy: str = ""


class JobRecord(_Part):
    """Content of `job.json`."""

    format: int = FORMAT
    step: str
    step_version: int
    options: dict[str, Any]
    inputs: tuple[FileRecord, ...]
    seed: int
    max_failed_frac: float
    key: str
    """Fingerprint of step, options, contents of inputs and seed: the same key is the same job."""
    command: tuple[str, ...]
    """Reproduces the job when started in ``working_folder``."""
    working_folder: str
    state: State = "queued"
    runs: tuple[Run, ...] = ()
    outputs: tuple[FileRecord, ...] = ()
    figures: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()
    failed_items: tuple[ItemFailure, ...] = ()
    failure: FailureRecord | None = None
    grows: bool = False
    """More inputs may come: the results of items are kept when it finishes, and failed ones are not tried again."""

    def command_line(self) -> str:
        """The command as one line for a shell."""
        return shlex.join(self.command)

    def save(self, folder: Path) -> None:
        """Write `job.json` into the folder of the job."""
        write_text_atomic(folder / RECORD_FILE, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> JobRecord:
        """Read `job.json`.

        Raises
        ------
        BadInputError
            If it is damaged or was written by a newer halfmap.
        """
        path = folder / RECORD_FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(str(part) for part in first["loc"]) or "content"
            raise BadInputError(
                path,
                field,
                found=first["type"].replace("_", " "),
                expected="the record of a job as halfmap writes it",
                remedy="Restore the file, or run the step into another folder.",
            ) from None


def job_key(step: str, step_version: int, options: dict[str, Any], inputs: tuple[FileRecord, ...], seed: int) -> str:
    """Fingerprint of a job; the places of its inputs do not enter, their contents do."""
    contents = [[record.port, record.hash] for record in inputs]
    from_files = {record.port for record in inputs}
    plain = {name: value for name, value in options.items() if name not in from_files}
    return text_hash(canonical_json([step, step_version, plain, contents, seed]))


def is_grown(old: JobRecord, new: JobRecord, ports: Collection[str]) -> bool:
    """Whether two jobs differ in nothing but what came in at the ports of the step."""

    def rest(job: JobRecord) -> tuple[Any, ...]:
        files = {file.port for file in job.inputs}
        plain = {name: value for name, value in job.options.items() if name not in files}
        return (
            job.step,
            job.step_version,
            job.seed,
            plain,
            [(f.port, f.hash) for f in job.inputs if f.port not in ports],
        )

    return rest(old) == rest(new)


def differences(old: JobRecord, new: JobRecord) -> list[str]:
    """Say in what two jobs differ, for the one that finds the folder of the other."""
    found = []
    if old.step != new.step:
        return [f"step {old.step}, not {new.step}"]
    if old.step_version != new.step_version:
        found.append(f"version of the step {old.step_version}, not {new.step_version}")
    if old.seed != new.seed:
        found.append(f"seed {old.seed}, not {new.seed}")
    ports = {record.port for record in (*old.inputs, *new.inputs)}
    for port in sorted(ports):
        mine, theirs = ([r.hash for r in job.inputs if r.port == port] for job in (new, old))
        if mine != theirs:
            found.append(f"other contents of {port} ({len(theirs)} files, now {len(mine)})")
    for name in sorted((set(old.options) | set(new.options)) - ports):
        if old.options.get(name) != new.options.get(name):
            found.append(f"{name} {old.options.get(name)}, not {new.options.get(name)}")
    return found
