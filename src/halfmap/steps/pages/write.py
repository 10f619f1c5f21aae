"""The page of one job, and the page of a session."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.record import JobRecord
from halfmap.report.html import Report
from halfmap.steps.pages import ctf, curation, maps, micrographs, particles
from halfmap.steps.pages.gain import gain_section

PAGE = "report.html"

SECTIONS: Mapping[str, Callable[[Report, Path, dict[str, Any]], None]] = {
    "gain": gain_section,
    "motion": micrographs.motion_section,
    "ctf": ctf.ctf_section,
    "curate": curation.curate_section,
    "pick": micrographs.pick_section,
    "extract": particles.extract_section,
    "class2d": particles.class2d_section,
    "select": particles.select_section,
    "abinitio": maps.abinitio_section,
    "refine": maps.refine_section,
    "postprocess": maps.postprocess_section,
    "compare": maps.fsc_section,
}


def write_page(folder: Path, record: JobRecord, citations: Sequence[str] = ()) -> Path:
    """Draw the page of a finished job from its outputs; returns its path."""
    page = Report(f"halfmap {record.step}", str(folder))
    page.warnings(record.warnings)
    draw = SECTIONS.get(record.step)
    if draw is not None:
        draw(page, folder, dict(record.figures))
    else:
        page.facts({k.replace("_", " "): v for k, v in record.figures.items() if isinstance(v, int | float | str)})
    _failures(page, record)
    _history(page, [record])
    _citations(page, citations)
    path = folder / PAGE
    write_text_atomic(path, page.render())
    return path


def write_progress_page(
    path: Path, folder: Path, step: str, figures: Mapping[str, Any], warnings: Sequence[str]
) -> None:
    """Draw the page of a job that goes on, from its present state in a folder."""
    page = Report(f"halfmap {step}, in progress", str(path.parent))
    page.facts({"iteration": figures["iteration"]} if "iteration" in figures else {})
    page.warnings(list(warnings))
    SECTIONS[step](page, folder, dict(figures))
    write_text_atomic(path, page.render())


def write_session_page(
    path: Path, jobs: Sequence[tuple[Path, JobRecord]], citations: Sequence[str] = (), title: str = "Session"
) -> None:
    """Draw one page over all jobs of a session, in the order in which they ran."""
    page = Report(title, str(path.parent))
    figures = {name: value for _, record in jobs for name, value in record.figures.items()}
    resolution_A = figures.get("resolution_A")
    if isinstance(resolution_A, int | float):
        page.facts({"resolution (Å), FSC = 0.143": resolution_A, **_counts(jobs)})
    doubts = [f"{record.step}: {text}" for _, record in jobs for text in record.warnings]
    page.verdict(verdict(resolution_A, doubts), good=not doubts)
    page.warnings(doubts)
    for folder, record in reversed(jobs):
        draw = SECTIONS.get(record.step)
        if draw is not None and record.state == "finished":
            draw(page, folder, dict(record.figures))
            page.link(os.path.relpath(folder / PAGE, path.parent), f"Page of {record.step}")
    for _, record in jobs:
        _failures(page, record)
    _history(page, [record for _, record in jobs])
    _citations(page, citations)
    write_text_atomic(path, page.render())


def verdict(resolution_A: Any, doubts: Sequence[str]) -> str:
    """How far the result can be believed, in plain words.

    >>> verdict(3.24, [])
    'Two independent half-maps agree to 3.2 Å, and nothing that was checked speaks against it.'
    """
    if not isinstance(resolution_A, int | float) or resolution_A != resolution_A or resolution_A == float("inf"):
        return "No resolution can be claimed: the half-maps do not agree beyond chance."
    if doubts:
        which = "the warning" if len(doubts) == 1 else f"the {len(doubts)} warnings"
        return f"Two half-maps agree to {resolution_A:.1f} Å, but read {which} first."
    return f"Two independent half-maps agree to {resolution_A:.1f} Å, and nothing that was checked speaks against it."


def _counts(jobs: Sequence[tuple[Path, JobRecord]]) -> dict[str, Any]:
    counts: dict[str, Any] = {}
    for _, record in jobs:
        if record.step == "motion":
            counts["movies"] = record.figures.get("items_in")
        if record.step == "pick":
            counts["picks"] = record.figures.get("particles")
        if record.step == "refine":
            counts["particles in the map"] = record.figures.get("items_out")
    return counts


def _failures(page: Report, record: JobRecord) -> None:
    if record.failed_items:
        page.section(f"Passed over in {record.step}")
        page.table([{"item": f.item, "why": f.error, "what to do": f.remedy} for f in record.failed_items])


def _history(page: Report, records: Sequence[JobRecord]) -> None:
    page.section("History", "Every step with what went in and out, and the command that does it again.")
    rows = []
    for record in records:
        runs = record.runs
        rows.append(
            {
                "step": record.step,
                "in": record.figures.get("items_in", ""),
                "out": record.figures.get("items_out", ""),
                "passed over": len(record.failed_items),
                "CPU (s)": sum(run.cpu_s or 0.0 for run in runs),
                "wall (s)": sum(run.wall_s or 0.0 for run in runs),
                "memory (GB)": max((run.peak_memory_GB or 0.0 for run in runs), default=0.0),
                "started": runs[-1].started if runs else "",
            }
        )
    page.table(rows)
    page.code("\n".join(record.command_line() for record in records if record.command))


def _citations(page: Report, citations: Sequence[str]) -> None:
    if citations:
        page.section("Methods", "Please cite what was used:")
        for text in dict.fromkeys(citations):
            page.text(text)
