"""Section on curation: quantities with their limits, and what was left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from halfmap.report.html import Report, shown
from halfmap.steps.pages.micrographs import evenly, micrographs_of

SHOWN_LEFT_OUT = 12
LISTED_LEFT_OUT = 200
THUMBNAIL_PX = 150


def curate_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Histograms and courses with limits, counts by reason, and the list and pictures of the left out."""
    import numpy as np

    from halfmap.report.session_plots import Judged, judged_plot

    record = json.loads((folder / "curation.json").read_text(encoding="utf-8"))
    page.section("Curation", "Everything left out is listed in excluded.star with its reasons.")
    facts = {"micrographs in": "items_in", "kept": "items_out", "left out": "excluded",
             "kept on request": "kept_on_request", "particles kept": "particles"}  # fmt: skip
    page.facts({name: figures[key] for name, key in facts.items() if key in figures})
    reasons = figures.get("reasons", {})
    page.table([{"first reason": code.replace("_", " "), "micrographs": n} for code, n in reasons.items()])
    quantities = record["quantities"]
    if quantities:
        names = record["micrographs"]
        left_out = np.array([name in record["left_out"] for name in names], dtype=bool)
        judged = [
            Judged(entry["label"], np.array(entry["values"], dtype=np.float64), entry["low"], entry["high"])
            for entry in quantities.values()
        ]
        page.figure(judged_plot(judged, left_out), "Dashed: limits. Orange: left out, for whatever reason.")
    page.table([_limits(entry) for entry in quantities.values()], "Limits within which micrographs are kept.")
    _list(page, record["left_out"], "Left out")
    _list(page, record["kept_on_request"], "Kept on request, though")
    _pictures(page, folder, record["left_out"])


def _limits(entry: Mapping[str, Any]) -> dict[str, Any]:
    def told(side: str) -> str:
        if entry[side] is None:
            return ""
        return f"{shown(entry[side])} ({entry[f'{side}_rule']})"

    return {"quantity": entry["label"], "smallest": told("low"), "largest": told("high")}


def _list(page: Report, left_out: Mapping[str, list[dict[str, Any]]], title: str) -> None:
    if not left_out:
        return
    rows = [
        {
            "micrograph": Path(name).name,
            "reason": ", ".join(reason["code"].replace("_", " ") for reason in reasons),
            "value": ", ".join("–" if r["value"] is None else shown(r["value"]) for r in reasons),
            "allowed": ", ".join(reason["limit"] for reason in reasons),
        }
        for name, reasons in left_out.items()
    ]
    more = f"; {len(rows) - LISTED_LEFT_OUT} more stand in excluded.star" if len(rows) > LISTED_LEFT_OUT else ""
    page.table(rows[:LISTED_LEFT_OUT], f"{title}: {len(rows)} micrographs{more}.")


def _pictures(page: Report, folder: Path, left_out: Mapping[str, list[dict[str, Any]]]) -> None:
    """Small pictures of some of the left out whose files can be read."""
    from halfmap.errors import BadInputError
    from halfmap.io.mrc import read_image
    from halfmap.report.pictures import montage_picture, shrunk

    if not left_out or not (folder / "excluded.star").is_file():
        return
    names = micrographs_of(folder, "excluded.star")["micrograph_name"].tolist()
    codes = [reasons[0]["code"].replace("_", " ") for reasons in left_out.values()]
    images, titles = [], []
    for row in evenly(len(names), SHOWN_LEFT_OUT):
        try:
            image = read_image(names[row])[0]
        except BadInputError:
            continue
        images.append(shrunk(image, THUMBNAIL_PX)[0])
        titles.append(f"{Path(names[row]).stem[-16:]}\n{codes[row]}")
    if images:
        page.figure(montage_picture(images, titles, 6), "Some of those left out, with the first reason.")
