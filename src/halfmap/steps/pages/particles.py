"""Sections on particles: extracted images, class averages, what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from halfmap.report.html import Report
from halfmap.steps.pages.micrographs import evenly

SHOWN_PARTICLES = 40


def extract_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Some particles as they go into classification."""
    import numpy as np
    from scipy.ndimage import gaussian_filter

    from halfmap.io.images import ParticleImages
    from halfmap.io.relion import read_image_set
    from halfmap.report.pictures import montage_picture

    star = folder / "particles.star"
    particles = read_image_set(star, "particles")
    page.section("Particles", f"{len(particles)} particles were cut out, protein white.")
    page.facts(_numbers(figures))
    rows = evenly(len(particles), SHOWN_PARTICLES)
    images = ParticleImages(particles, star).read(np.array(rows))
    page.figure(
        montage_picture([gaussian_filter(image, 1.2) for image in images], [""] * len(rows)),
        "Particles from all over the set, slightly blurred.",
    )


def class2d_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Class averages by population."""
    import numpy as np

    from halfmap.io.mrc import open_stack
    from halfmap.io.relion import read_image_set
    from halfmap.io.star import read_star
    from halfmap.report.pictures import montage_picture

    stack = open_stack(folder / "classes.mrcs")
    particles = read_image_set(folder / "particles.star", "particles")
    counts = np.bincount(particles["class_number"], minlength=len(stack) + 1)[1:]
    table = read_star(folder / "classes.star")
    block = next(iter(table.values()))
    resolution = np.asarray(block["rlnEstimatedResolution"], dtype=np.float64)
    order = np.argsort(-counts, kind="stable")
    page.section("Class averages", f"{len(particles)} particles in {len(stack)} classes, by population.")
    titles = [f"{i + 1}: {counts[i]}, {resolution[i]:.0f} Å" for i in order]
    page.figure(
        montage_picture([stack[int(i)] for i in order], titles),
        "Number of the class, particles in it, and the resolution at which its two halves agree.",
    )


def select_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """What was kept and what was left out, with the reasons."""
    page.section("Selection", "Everything left out is listed in excluded.star with the reason.")
    facts = {"particles in": "items_in", "kept": "items_out", "left out": "excluded"}
    page.facts({name: figures[key] for name, key in facts.items() if key in figures})
    classes = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    averages = Path(figures.get("averages") or "")
    for kept, name in ((True, "Kept"), (False, "Left out")):
        mine = [entry for entry in classes if entry["kept"] is kept and entry["particles"] > 0]
        mine.sort(key=lambda entry: -entry["particles"])
        if mine and averages.is_file():
            page.figure(_class_montage(averages, mine), f"{name}: number of the class, particles, score.")
    rows = [{"reason": reason, "particles": count} for reason, count in figures.get("reasons", {}).items()]
    if rows:
        page.table(rows)


def _class_montage(averages: Path, classes: list[dict[str, Any]]) -> bytes:
    from halfmap.io.mrc import open_stack
    from halfmap.report.pictures import montage_picture

    stack = open_stack(averages)
    titles = [
        f"{entry['class']}: {entry['particles']}" + (f", {entry['score']:.2f}" if "score" in entry else "")
        for entry in classes
    ]
    return montage_picture([stack[entry["class"] - 1] for entry in classes], titles)


def _numbers(figures: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("_", " "): v for name, v in figures.items() if isinstance(v, int | float | str)}
