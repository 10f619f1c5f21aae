"""Sections on movies and micrographs: motion and picks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.report.html import Report

if TYPE_CHECKING:
    from halfmap.data.records import ImageSet

SHOWN_MICROGRAPHS = 3
LISTED_MICROGRAPHS = 30
TRACKS = 40


def micrographs_of(folder: Path, star: str = "micrographs.star") -> ImageSet:
    """The table of micrographs that a job wrote, with names that open from here."""
    from halfmap.io.relion import read_image_set
    from halfmap.steps.files import located

    return located(read_image_set(folder / star, "micrographs"), folder / star)


def evenly(count: int, most: int) -> list[int]:
    """At most ``most`` indices spread over a range.

    >>> evenly(10, 3)
    [0, 4, 9]
    """
    if count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


def motion_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Trajectories and how much the specimen moved."""
    from halfmap.report.plots import histogram_plot, motion_plot

    micrographs = micrographs_of(folder)
    page.section(
        "Motion", "How the image moved while it was recorded; the shifts were undone before the frames were added."
    )
    shown = evenly(len(micrographs), TRACKS)
    names = [Path(micrographs["micrograph_name"][i]).stem for i in shown]
    tracks = [_track_A(micrographs, i) for i in shown]
    if tracks:
        page.figure(motion_plot(tracks, names), "Whole-frame motion of each movie in Å; a dot marks the first frame.")
    columns = {
        "total motion (Å)": "motion_total_A",
        "early, first 4 e/Å² (Å)": "motion_early_A",
        "late (Å)": "motion_late_A",
    }
    panels = {label: micrographs[name] for label, name in columns.items() if name in micrographs}
    if panels:
        page.figure(histogram_plot(panels), "Accumulated motion over all movies.")


def _track_A(micrographs: ImageSet, row: int) -> Any:
    import numpy as np

    from halfmap.io.star import read_star

    table = read_star(micrographs["micrograph_metadata"][row])["global_shift"]
    shifts_px = np.array([table["rlnMicrographShiftX"], table["rlnMicrographShiftY"]], dtype=np.float64).T
    return shifts_px * float(micrographs["original_pixel_size_A"][row])


def pick_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Micrographs with their picks."""
    from halfmap.io.mrc import read_image
    from halfmap.io.relion import read_image_set
    from halfmap.report.pictures import micrograph_picture
    from halfmap.steps.files import located

    picks = located(read_image_set(folder / "particles.star", "coordinates"), folder / "particles.star")
    names = picks["micrograph_name"]
    found = sorted(set(names.tolist()))
    page.section("Picks", f"{len(picks)} particles in {len(found)} micrographs.")
    facts = {name: figures[key] for name, key in _PICK_FACTS if key in figures}
    if facts:
        page.facts(facts)
    diameter_A = float(figures.get("diameter_A") or 0.0)
    for row in evenly(len(found), SHOWN_MICROGRAPHS):
        mine = picks.select(names == found[row])
        image, _ = read_image(found[row])
        diameter_px = diameter_A / float(mine.pixel_size_A()[0])
        title = f"{Path(found[row]).name}: {len(mine)} picks"
        picture = micrograph_picture(
            image, mine["coordinate_x_px"], mine["coordinate_y_px"], diameter_px, title, smooth_px=1.5
        )
        page.figure(picture, "Circles have the diameter of the particle.")
    _pick_statistics(page, folder)


def _pick_statistics(page: Report, folder: Path) -> None:
    """How the scores compare with noise, and what was kept and left out in each micrograph."""
    import numpy as np

    from halfmap.report.plots import score_plot

    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    plot = score_plot(
        np.array(statistics["scores"]), np.array(statistics["control_scores"]), statistics["copies"],
        statistics["threshold"],
    )  # fmt: skip
    page.figure(plot, "Places in the micrographs against places in copies of the same spectrum that hold no particle.")
    counts = statistics["micrographs"]
    rows = [
        {
            "micrograph": Path(counts[row]["micrograph"]).name,
            **{name.replace("_", " "): counts[row][name] for name in counts[row] if name != "micrograph"},
        }
        for row in evenly(len(counts), LISTED_MICROGRAPHS)
    ]
    page.table(rows)


_PICK_FACTS: Sequence[tuple[str, str]] = (
    ("picks", "particles"),
    ("expected to be noise", "expected_false"),
    ("diameter (Å)", "diameter_A"),
    ("particles look", "contrast"),
)
