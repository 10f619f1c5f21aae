"""Where a file comes from: the jobs between it and the movies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from halfmap.errors import HalfmapError
from halfmap.jobs.hashing import content_hash
from halfmap.jobs.record import RECORD_FILE, FileRecord, JobRecord
from halfmap.project.index import Index


@dataclass(frozen=True)
class Origin:
    """A job, the files of other jobs that it read (with their jobs), and the files that no job made."""

    folder: Path
    record: JobRecord
    parents: tuple[tuple[FileRecord, Origin], ...]
    raw: tuple[FileRecord, ...]


def lineage(file: Path, index: Index) -> Origin:
    """Follow a file back through the records of jobs, by place and content.

    An input is followed to the job in whose folder it lies, provided that the job's output still
    has the content that was read; otherwise to a job of the index with an output of that content.

    Raises
    ------
    HalfmapError
        If no job made the file.
    """
    if not file.exists():
        raise HalfmapError(f"there is no file {file}.", remedy="Check the name.")
    folder = _job_folder(file) if file.name != RECORD_FILE else file.absolute().parent
    if folder is None:
        makers = index.makers(content_hash(file)) if file.is_file() else []
        if not makers:
            raise HalfmapError(f"no job made {file}.", remedy="Name an output of a job, or the job's folder.")
        folder = makers[0].folder
    return _origin(folder, index, {})


def project_of(file: Path) -> Path:
    """Folder above the job that a file belongs to; the file's own folder if it belongs to none."""
    folder = _job_folder(file)
    return folder.parent if folder is not None else file.absolute().parent


def _origin(folder: Path, index: Index, done: dict[Path, Origin]) -> Origin:
    if folder in done:
        return done[folder]
    record = JobRecord.load(folder)
    parents, raw = [], []
    for file in record.inputs:
        maker = _maker(file, record, index)
        if maker is None or maker == folder:
            raw.append(file)
        else:
            parents.append((file, _origin(maker, index, done)))
    done[folder] = Origin(folder, record, tuple(parents), tuple(raw))
    return done[folder]


def _maker(file: FileRecord, reader: JobRecord, index: Index) -> Path | None:
    folder = _job_folder(Path(reader.working_folder, file.path))
    if folder is not None:
        made = {output.hash for output in JobRecord.load(folder).outputs}
        if file.hash in made or not made:
            return folder
    # Equal content can be made again later; only a job that ended before can be the origin.
    makers = [job.folder for job in index.makers(file.hash) if _ended_before(job.record, reader)]
    return makers[-1] if makers else folder


def _ended_before(job: JobRecord, reader: JobRecord) -> bool:
    if not (job.runs and reader.runs and job.runs[-1].ended):
        return False
    return datetime.fromisoformat(job.runs[-1].ended) <= datetime.fromisoformat(reader.runs[0].started)


def _job_folder(file: Path) -> Path | None:
    path = file.absolute()
    candidates = [path, *path.parents] if path.is_dir() else path.parents
    return next((folder for folder in candidates if (folder / RECORD_FILE).exists()), None)


def lineage_lines(origin: Origin) -> list[str]:
    """The jobs as an indented tree, each once, newest first, ending in files that no job made."""
    return list(_lines(origin, 0, set()))


def _lines(origin: Origin, depth: int, shown: set[Path]) -> Iterator[str]:
    space = "  " * depth
    run = origin.record.runs[-1] if origin.record.runs else None
    made = f"halfmap {run.environment.halfmap}, {run.started[:16].replace('T', ' ')}" if run else ""
    yield f"{space}{origin.record.step}  {origin.folder}  ({made}, seed {origin.record.seed})"
    if origin.folder in shown:
        yield f"{space}  (see above)"
        return
    shown.add(origin.folder)
    yield f"{space}  $ {origin.record.command_line()}"
    by_port: dict[str, list[FileRecord]] = {}
    for file in origin.raw:
        by_port.setdefault(file.port, []).append(file)
    for port, files in by_port.items():
        names = ", ".join(file.path for file in files[:3]) + (" ..." if len(files) > 3 else "")
        yield f"{space}  {port}: {len(files)} file{'s' if len(files) > 1 else ''} that no job made: {names}"
    for file, parent in origin.parents:
        yield f"{space}  {file.port}: {file.path}, made by"
        yield from _lines(parent, depth + 2, shown)
