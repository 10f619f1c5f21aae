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
    if (folder / "statistics.json").exists():  # Jobs of versions without local motion have none.
        _local_motion(page, folder, micrographs)


def _local_motion(page: Report, folder: Path, micrographs: ImageSet) -> None:
    """What local correction did, movie by movie, and paths of patches."""
    import numpy as np

    from halfmap.report.plots import histogram_plot

    movies = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))["movies"]
    corrected = [movie for movie in movies if not movie["local_reason"]]
    page.facts({"local motion corrected in": f"{len(corrected)} of {len(movies)} movies"})
    gains = [movie["sharpness_global"] for movie in movies if movie["sharpness_global"] is not None]
    panels = {
        "largest local motion (Å)": [movie["motion_local_A"] for movie in corrected],
        "correlation of frames, aligned / not": gains,
        "of patches, locally aligned / not": [movie["sharpness_local"] for movie in corrected],
    }
    shown = {name: np.array(values, dtype=np.float64) for name, values in panels.items() if values}
    if shown:
        page.figure(histogram_plot(shown), "Local motion, and how much the frames agree better for each correction.")
    for row in evenly(len(micrographs), SHOWN_MICROGRAPHS):
        _patch_figure(page, Path(micrographs["micrograph_metadata"][row]), movies[row])
    rows = [
        {
            "micrograph": Path(movie["micrograph"]).name,
            "motion (Å)": f"{movie['motion_total_A']:.1f}",
            "local (Å)": f"{movie['motion_local_A']:.1f}",
            "local correction": movie["local_reason"] or "order {} in space, {} in time".format(*movie["local_order"]),
            "remark": movie["verdict"],
        }
        for movie in sorted(movies, key=lambda movie: not movie["verdict"])[:LISTED_MICROGRAPHS]
    ]
    page.table(rows, "Movies with a remark come first.")


def _patch_figure(page: Report, star: Path, movie: dict[str, Any]) -> None:
    """Local paths of the patches of one movie."""
    import numpy as np

    from halfmap.io.star import read_star
    from halfmap.motion.surface import LocalModel
    from halfmap.report.plots import patch_plot

    blocks = read_star(star)
    if "halfmap_patches" not in blocks:
        return
    table, general = blocks["halfmap_patches"], blocks["general"]
    columns = ("rlnCoordinateX", "rlnCoordinateY", "halfmapLocalShiftX", "halfmapLocalShiftY")
    x, y, dx, dy = (np.asarray(table[name], dtype=np.float64) for name in columns)
    frames = np.unique(np.asarray(table["rlnMicrographFrameNumber"], dtype=np.float64)) - 1
    places = np.stack([x, y], axis=1)[:: len(frames)]
    shape = int(float(general["rlnImageSizeY"][0])), int(float(general["rlnImageSizeX"][0]))
    # Shifts undo the motion; the specimen went the other way.
    measured = -np.stack([dx, dy], axis=1).reshape(len(places), len(frames), 2)
    model = None
    if "local_motion_model" in blocks:
        coefficients = np.asarray(blocks["local_motion_model"]["rlnMotionModelCoeff"], dtype=np.float64)
        model = -LocalModel(coefficients.reshape(2, 6, 3)).shifts_px(frames, places / np.array(shape[::-1]) - 0.5)
    longest = max(float(np.abs(measured).max()), 1e-3)
    times = float(f"{0.3 * shape[1] / max(len(places) ** 0.5, 1) / longest:.1g}")
    caption = (
        f"{star.stem}: local motion of the patches, {times:g} times enlarged: each by itself (orange)"
        + (" and the surface that was corrected (blue)." if model is not None else f"; {movie['local_reason']}.")
    )  # fmt: skip
    page.figure(patch_plot(places, measured, model, shape, times), caption)


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
