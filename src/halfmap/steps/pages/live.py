"""The page of a collection that goes on: rates, what was found over time, the last micrograph, what failed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfmap.errors import HalfmapError
from halfmap.jobs.atomic import write_text_atomic
from halfmap.report.html import Report
from halfmap.steps.pages.micrographs import micrographs_of
from halfmap.typing import Array

REFRESH_S = 30
LISTED_FAILURES = 50
RATE_WINDOW_MIN = 10.0


def write_live_page(
    path: Path, status: Mapping[str, Any], written: Mapping[str, float], folders: Mapping[str, Path]
) -> None:
    """Draw the page of a live session; browsers load it again by themselves while it goes on.

    Parameters
    ----------
    path
        The page.
    status
        As `halfmap.project.live_status.status_of` gives it.
    written
        Movies that were taken, and when their files were written (seconds since 1970).
    folders
        Folder of each job, by step.
    """
    going_on = status["state"] == "collecting"
    page = Report(f"Live: {status['folder']}", _subtitle(status), refresh_s=REFRESH_S if going_on else None)
    counts = status["counts"]
    page.facts(
        {
            "movies taken": counts["taken"],
            "micrographs with CTF": counts["ctf"],
            "picks": counts["particles"],
            "movies an hour": status["movies_per_hour"],
            "waiting": counts["ready"] + counts["waiting"] + counts["not_done"],
            "failed": sum(counts["failed"].values()),
        }
    )
    page.warnings([status["trouble"]] if status["trouble"] else [])
    _course(page, written, folders)
    if (folders["pick"] / "particles.star").is_file():
        page.section("Last micrograph")
        try:
            _last_micrograph(page, folders["pick"] / "particles.star")
        except HalfmapError as error:
            page.text(f"It cannot be shown: {error.message}")
    _failures(page, status["failures"])
    _times(page, status)
    for step, folder in folders.items():
        if (folder / "report.html").is_file():
            page.link(f"{folder.name}/report.html", f"Page of {step}")
    write_text_atomic(path, page.render())


def _subtitle(status: Mapping[str, Any]) -> str:
    now = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(status["updated"]))
    if status["last_taken"] is None:
        return f"{status['state']} at {now}; no movie has come yet"
    minutes = (status["updated"] - status["last_taken"]) / 60.0
    doing = f"; {status['doing']}" if status["doing"] else ""
    return f"{status['state']} at {now}; the last movie came {minutes:.0f} min ago{doing}"


def _course(page: Report, written: Mapping[str, float], folders: Mapping[str, Path]) -> None:
    """Rate of movies, and the quantities of the micrographs, over the time at which the movies were written."""
    import numpy as np

    from halfmap.curation.criteria import CRITERIA
    from halfmap.report.session_plots import course_plot

    if not written:
        return
    first = min(written.values())
    page.section("Course", "Over the time at which the files of the movies were written.")
    minutes = (np.array(sorted(written.values())) - first) / 60.0
    panels: dict[str, tuple[Array, Array]] = {"movies an hour": (minutes, _rates(minutes))}
    star = folders["ctf"] / "micrographs.star"
    if star.is_file():
        micrographs = micrographs_of(folders["ctf"])
        times = np.array([written.get(name, np.nan) for name in micrographs["movie_name"].tolist()])
        for criterion in CRITERIA:
            values = criterion.values(micrographs)
            if values is not None:
                panels[criterion.label] = ((times - first) / 60.0, values)
    page.figure(
        course_plot(panels, "minutes since the first movie"),
        f"Movies an hour: from those of the {RATE_WINDOW_MIN:.0f} minutes before.",
    )


def _rates(minutes: Array) -> Array:
    """Movies an hour at each of some sorted times, from those of the window before it."""
    import numpy as np

    before = np.searchsorted(minutes, minutes - RATE_WINDOW_MIN, side="right")
    count = np.arange(1, len(minutes) + 1) - before
    rates: Array = count * 60.0 / np.clip(minutes, 1.0, RATE_WINDOW_MIN)
    return rates


def _last_micrograph(page: Report, star: Path) -> None:
    """The newest micrograph that was picked in, with its picks."""
    from halfmap.io.mrc import read_image
    from halfmap.io.relion import read_image_set
    from halfmap.report.pictures import micrograph_picture
    from halfmap.steps.files import located

    picks = located(read_image_set(star, "coordinates"), star)
    newest = picks["micrograph_name"][-1]
    mine = picks.select(picks["micrograph_name"] == newest)
    image, _ = read_image(newest)
    diameter_px = float(mine["particle_diameter_A"][0]) / float(mine.pixel_size_A()[0])
    picture = micrograph_picture(
        image, mine["coordinate_x_px"], mine["coordinate_y_px"], diameter_px, Path(newest).name, smooth_px=1.5
    )
    page.figure(picture, f"{len(mine)} picks; circles have the diameter of the particle.")


def _failures(page: Report, failures: list[dict[str, str]]) -> None:
    if not failures:
        return
    more = f" The first {LISTED_FAILURES} are shown, all are in status.json." if len(failures) > LISTED_FAILURES else ""
    page.section("Failed", f"Passed over so far: {len(failures)}.{more}")
    rows = [
        {"step": f["step"], "item": Path(f["item"]).name, "why": f["reason"], "what to do": f["remedy"]}
        for f in failures[:LISTED_FAILURES]
    ]
    page.table(rows)


def _times(page: Report, status: Mapping[str, Any]) -> None:
    seconds = status["seconds_per_item"]
    if not seconds:
        return
    page.section("Where the time goes", f"Seconds of one item in the process that did it; {status['rounds']} rounds.")
    columns = {"items": "items", "wall (s)": "wall_s", "CPU (s)": "cpu_s"}
    page.table([{"work": name, **{c: t[key] for c, key in columns.items()}} for name, t in seconds.items()])
