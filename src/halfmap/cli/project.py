"""``halfmap project``: the history of a folder of jobs, where a file comes from, how to make it again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from halfmap.errors import HalfmapError
from halfmap.jobs.record import RECORD_FILE, JobRecord
from halfmap.project.index import history_lines, open_index
from halfmap.project.lineage import lineage, lineage_lines, project_of


def history(project: Path = Path()) -> None:
    """List the jobs below a folder in the order of their start.

    Parameters
    ----------
    project
        Folder that holds the jobs.
    """
    with open_index(project) as index:
        for line in history_lines(index.jobs(), index.project):
            print(line)


def reindex(project: Path = Path()) -> None:
    """Make the index anew from the job.json files.

    Parameters
    ----------
    project
        Folder that holds the jobs.
    """
    with open_index(project, rebuild=True) as index:
        print(f"{len(index.jobs())} jobs below {index.project}")


def show_lineage(file: Path, *, project: Annotated[Path | None, Parameter(name="--project")] = None) -> None:
    """Follow a file back to the movies: every job, its command, and the files that no job made.

    Parameters
    ----------
    file
        Output of a job, or the job's folder.
    project
        Folder that holds the jobs; the one above the job's folder if not given.
    """
    with open_index(project or project_of(file)) as index:
        print("\n".join(lineage_lines(lineage(file, index))))


def command(job: Path) -> None:
    """Print the exact command that makes a job again, and the folder to start it in.

    Parameters
    ----------
    job
        Folder of the job.
    """
    folder = job.parent if job.name == RECORD_FILE else job
    if not (folder / RECORD_FILE).exists():
        raise HalfmapError(f"{folder} holds no job.", remedy="Name a job's folder; halfmap project history lists them.")
    record = JobRecord.load(folder)
    print(f"cd {record.working_folder}\n{record.command_line()}")


def register(app: App) -> None:
    """Add the commands."""
    verbs = App(name="project", help="History, lineage and index of a folder of jobs.", help_format="plaintext")
    verbs.command(history)
    verbs.command(reindex)
    verbs.command(show_lineage, name="lineage")
    verbs.command(command)
    app.command(verbs)
