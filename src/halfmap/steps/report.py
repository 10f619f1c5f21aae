"""Many jobs to one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Failure, Port, Step
from halfmap.options import Options, option

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


class ReportOptions(Options):
    """What stands above the page."""

    title: str = option("Session", help="Title of the page.", min_length=1, max_length=200)


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: ReportOptions) -> Mapping[str, Any]:
    """Draw one page over jobs in the order in which they ran."""
    from halfmap.jobs.record import JobRecord
    from halfmap.jobs.registry import load_all
    from halfmap.steps.pages.write import PAGE, write_session_page

    jobs = [(path.parent, JobRecord.load(path.parent)) for path in inputs["jobs"]]
    jobs.sort(key=lambda entry: entry[1].runs[0].started if entry[1].runs else "")
    unfinished = [str(folder) for folder, record in jobs if record.state != "finished"]
    if unfinished:
        job.fail("unfinished", f"not finished: {', '.join(unfinished)}.")
    steps, _ = load_all()
    used = [steps[record.step] for _, record in jobs if record.step in steps]
    citations = [citation.text for step in used for citation in step.citations]
    write_session_page(job.folder / PAGE, jobs, citations, options.title)
    return {"items_in": len(jobs), "items_out": len(jobs)}


STEP = Step(
    name="report",
    summary="Draw one page over several jobs: pictures, curves, counts, warnings, commands, citations.",
    options=ReportOptions,
    inputs=(Port("jobs", "job", "Folders of jobs, or a folder that holds them", many=True),),
    outputs=(Port("report", "table", "The page", file="report.html"),),
    run=run,
    failures=(Failure("unfinished", "Some of the jobs have not finished.", "Finish them: run their commands again."),),
    example="halfmap report session --out page",
)
