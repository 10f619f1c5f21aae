"""What a live session is doing: counts in which every file has a place, rates, times, failures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from halfmap.exec.screen import clock
from halfmap.jobs.record import JobRecord
from halfmap.project.watch import View

HOUR_S: Final = 3600.0


@dataclass
class Taken:
    """One movie of the session."""

    name: str
    size: int
    mtime_ns: int
    taken: float
    """Seconds since 1970."""
    done: float | None = None
    """When the round was done that brought it to its end, good or bad."""


def status_of(
    state: str,
    movies: Sequence[Taken],
    refused: Mapping[str, str],
    view: View,
    records: Mapping[str, JobRecord],
    *,
    folder: str,
    doing: str,
    trouble: str,
) -> dict[str, Any]:
    """Counts, rates, times and failures, JSON-able; every file that was seen is in one of the counts."""
    failures = failures_of(records, view, refused)
    figures = {name: record.figures for name, record in records.items()}
    outside = len(view.ready) + len(view.waiting) + len(view.incomplete) + len(refused)
    return {
        "state": state,
        "folder": folder,
        "updated": time.time(),
        "doing": doing,
        "trouble": trouble,
        "counts": {
            "seen": len(movies) + outside,
            "taken": len(movies),
            "ready": len(view.ready),
            "waiting": len(view.waiting),
            "incomplete": len(view.incomplete),
            "refused": len(refused),
            "not_done": sum(movie.done is None for movie in movies),
            "motion": figures.get("motion", {}).get("items_out", 0),
            "ctf": figures.get("ctf", {}).get("items_out", 0),
            "picked_micrographs": figures.get("pick", {}).get("items_out", 0),
            "particles": figures.get("pick", {}).get("particles", 0),
            "failed": dict(Counter(failure["step"] for failure in failures)),
        },
        "movies_per_hour": movies_per_hour(movies, time.time()),
        "last_taken": max((movie.taken for movie in movies), default=None),
        "seconds_per_item": item_seconds(records),
        "rounds": sum(run.rounds for run in records["motion"].runs) if "motion" in records else 0,
        "failures": failures,
    }


def failures_of(records: Mapping[str, JobRecord], view: View, refused: Mapping[str, str]) -> list[dict[str, str]]:
    """Everything that was passed over, with the step (``watch`` before any), the reason and what to do."""
    found = [
        {"step": name, "item": failure.item, "reason": failure.error, "remedy": failure.remedy}
        for name, record in records.items()
        for failure in record.failed_items
    ]
    when_whole = "It is taken as soon as it changes and opens."
    found += [
        {"step": "watch", "item": str(path), "reason": reason, "remedy": when_whole}
        for path, reason in view.incomplete.items()
    ]
    return found + [{"step": "watch", "item": name, "reason": why, "remedy": ""} for name, why in refused.items()]


def movies_per_hour(movies: Sequence[Taken], now: float) -> float | None:
    """How many movies an hour were brought to their end lately: within the last hour, from the first that was taken.

    >>> movies_per_hour([Taken("a", 1, 1, taken=0.0, done=60.0), Taken("b", 1, 1, taken=0.0, done=120.0)], 200.0)
    60.0
    """
    done = [(movie.taken, movie.done) for movie in movies if movie.done is not None and movie.done > now - HOUR_S]
    if not done:
        return None
    began = max(min(taken for taken, _ in done), now - HOUR_S)
    return round(HOUR_S * len(done) / max(max(end for _, end in done) - began, 1.0), 1)


def item_seconds(records: Mapping[str, JobRecord]) -> dict[str, dict[str, float]]:
    """Of each step and label: items, and wall and CPU seconds of one."""
    found: dict[str, dict[str, float]] = {}
    for name, record in records.items():
        for run in record.runs:
            for label, times in run.items.items():
                entry = found.setdefault(f"{name}: {label}", {"items": 0, "wall_s": 0.0, "cpu_s": 0.0})
                entry["items"] += times.count
                entry["wall_s"] += times.wall_s
                entry["cpu_s"] += times.cpu_s
    for entry in found.values():
        entry["wall_s"] = round(entry["wall_s"] / max(entry["items"], 1), 3)
        entry["cpu_s"] = round(entry["cpu_s"] / max(entry["items"], 1), 3)
    return found


def progress_line(status: Mapping[str, Any], new: int, seconds: float) -> str:
    """What a round brought, for the screen."""
    counts = status["counts"]
    failed = sum(counts["failed"].values())
    tail = f", {failed} failed" if failed else ""
    rate = f", {status['movies_per_hour']:.0f} an hour" if status["movies_per_hour"] else ""
    return (
        f"{time.strftime('%H:%M:%S')}  {new} more in {clock(seconds)}: {counts['taken']} movies, {counts['ctf']} "
        f"micrographs, {counts['particles']} picks, {counts['ready'] + counts['waiting']} waiting{tail}{rate}"
    )
