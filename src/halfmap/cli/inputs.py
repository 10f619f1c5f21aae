"""From what a person types as inputs to files by port: patterns, folders, and clear refusals."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from halfmap.errors import HalfmapError
from halfmap.jobs.record import RECORD_FILE, JobRecord
from halfmap.jobs.registry import get_step
from halfmap.jobs.step import Port, PortKind, Step

FILES_IN_FOLDER: Final[dict[PortKind, tuple[str, ...]]] = {
    "movies": (".tif", ".tiff", ".mrc", ".mrcs", ".eer"),
    "micrographs": (".mrc", ".tif", ".tiff"),
}
"""What a plain folder stands for, by the kind of port that it is given to."""


class NoInputError(HalfmapError):
    """An input is absent, or there are too few or too many."""

    code = "no-input"


def resolve_inputs(step: Step, given: Sequence[str]) -> dict[str, list[Path]]:
    """Assign arguments to the ports of a step, in order, and expand each to files.

    A port that takes many files takes all arguments that later required ports do not need.

    Raises
    ------
    NoInputError
        If an argument names nothing, or arguments and ports do not fit.
    """
    waiting = list(given)
    inputs: dict[str, list[Path]] = {}
    for position, port in enumerate(step.inputs):
        needed_later = sum(not later.optional for later in step.inputs[position + 1 :])
        count = max(len(waiting) - needed_later, 0) if port.many else min(len(waiting), 1)
        mine, waiting = waiting[:count], waiting[count:]
        if not mine:
            if port.optional:
                continue
            usage = step.example or f"halfmap {step.name} --help"
            raise NoInputError(f"{step.name} needs {port.name}: {told(port)}.", remedy=f"Example: {usage}")
        paths = list(dict.fromkeys(path for argument in mine for path in expand(argument, port)))
        if len(paths) > 1 and not port.many:
            raise NoInputError(
                f"{port.name} is one file, {mine[0]!r} stands for {len(paths)}.", remedy="Name one of them."
            )
        inputs[port.name] = paths
    if waiting:
        takes = ", ".join(port.name for port in step.inputs) or "no inputs"
        raise NoInputError(
            f"{step.name} takes {takes}; {waiting[0]!r} is too much.", remedy=f"See halfmap {step.name} --help."
        )
    return inputs


def told(port: Port) -> str:
    """What a port takes, as part of a sentence."""
    return port.help.rstrip(".")


def expand(argument: str, port: Port) -> list[Path]:
    """Files that an argument stands for: itself, those of a folder, or those that match a pattern."""
    path = Path(argument).expanduser()
    if path.is_dir():
        return _of_folder(path, port)
    if path.exists():
        return [path]
    if glob.has_magic(argument):
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True))
        files = [match for match in matches if match.is_file()]
        if files:
            return files
        raise NoInputError(
            f"nothing matches {argument!r} ({port.name}: {told(port)}).",
            remedy=f"Check the pattern; it is looked for from {Path.cwd()}.",
        )
    raise NoInputError(
        f"there is no file {argument} ({port.name}: {told(port)}).",
        remedy=f"Check the name; it is looked for from {Path.cwd()}.",
    )


def _of_folder(folder: Path, port: Port) -> list[Path]:
    if port.kind == "job":
        return _jobs_in(folder, port)
    if (folder / RECORD_FILE).exists():
        return [_output_of_job(folder, port)]
    suffixes = FILES_IN_FOLDER.get(port.kind, ())
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes and path.is_file()]
    if port.many and files:
        return files
    raise NoInputError(
        f"{folder} is a folder without {port.kind} ({port.name}: {told(port)}).",
        remedy="Name a file, or a job's folder.",
    )


def _jobs_in(folder: Path, port: Port) -> list[Path]:
    """The record of the job in a folder, or those of the jobs in the folders right below."""
    own = folder / RECORD_FILE
    found = [own] if own.exists() else sorted(folder.glob(f"*/{RECORD_FILE}"))
    if not found:
        raise NoInputError(f"{folder} holds no job ({port.name}: {told(port)}).", remedy="Name folders of jobs.")
    return found


def _output_of_job(folder: Path, port: Port) -> Path:
    record = JobRecord.load(folder)
    if record.state != "finished":
        raise NoInputError(f"the job in {folder} is {record.state}.", remedy=f"Finish it: {record.command_line()}")
    outputs = get_step(record.step).outputs
    for output in outputs:
        if output.kind == port.kind and (folder / output.file).is_file():
            return folder / output.file
    kinds = ", ".join(output.kind for output in outputs)
    raise NoInputError(
        f"the job in {folder} ({record.step}) gives {kinds}, not {port.kind}.", remedy=f"{port.name} is {told(port)}."
    )
