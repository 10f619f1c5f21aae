"""The tables of a session: from movies to one task each, and from results to micrographs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.motion.correct import MovieSettings
from halfmap.motion.files import MovieFiles
from halfmap.motion.options import MotionOptions

NO_DOSE: Final = 1.0
"""Exposure of a frame where none is known and none is needed: it only spaces the groups of spectra."""
FAST_A: Final = 5.0
"""A motion from one frame to the next that blurs what lies finer than about twice its length."""
_STATISTICS: Final = (
    "motion_total_A", "motion_early_A", "motion_late_A", "motion_local_A", "motion_fastest_A", "shift_error_px",
    "sharpness_global", "sharpness_local", "local_reason", "local_order", "patches", "frames", "frames_grouped",
)  # fmt: skip
_RESULT_COLUMNS: Final = (
    "micrograph_name", "micrograph_metadata", "micrograph_unweighted_name",
    "micrograph_odd_name", "micrograph_even_name", "power_spectrum_name",
    "motion_total_A", "motion_early_A", "motion_late_A",
)  # fmt: skip


def movie_files(movies: ImageSet, stems: Sequence[Path], options: MotionOptions, seed: int) -> list[MovieFiles]:
    """One task a movie, with the pixel size, voltage and exposure of its optics group and row."""
    pixel, voltage = movies.pixel_size_A(), movies["voltage_kV"]
    dose = movies.rows.get("dose_per_frame_e_per_A2", NO_DOSE)
    before = movies.rows.get("pre_exposure_e_per_A2", options.pre_exposure_e_per_A2)
    gains = movies["gain_name"].tolist() if "gain_name" in movies else ["None"] * len(movies)
    tasks = []
    for i, name in enumerate(movies["movie_name"].tolist()):
        stated = Path(gains[i]) if gains[i] not in ("", "None") else None
        settings = MovieSettings(
            pixel_size_A=float(pixel[i]),
            voltage_kV=float(voltage[i]),
            dose_per_frame_e_per_A2=float(dose[i]),
            pre_exposure_e_per_A2=float(before[i]),
            binning=options.binning,
            dose_weighting=options.dose_weighting,
            unweighted=options.save_unweighted,
            halves=options.save_halves,
            local=options.local,
            patches=options.patches,
            max_shift_A=options.max_shift_A,
            seed=seed,
        )
        tasks.append(MovieFiles(Path(name), options.gain or stated, stems[i], settings, options.dose_total_e_per_A2))
    return tasks


def verdict(value: Mapping[str, Any]) -> str:
    """What is wrong with a movie as a whole, from what ``motion.files.process_movie`` returned; empty if nothing is."""
    left_out = len(value["left_out"])
    if 2 * left_out > value["frames"]:
        return f"{left_out} of {value['frames']} frames were left out"
    if not value["aligned"]:
        return "the frames have no signal in common; they were added without shifts"
    if not value["converged"]:
        return "the alignment did not converge"
    if value["motion_fastest_A"] > FAST_A:
        return f"it moves by {value['motion_fastest_A']:.1f} Å from one frame to the next, which blurs the frames"
    return ""


def statistics_of(done: Sequence[tuple[int, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One JSON-able row a movie, for the report."""
    return [{"micrograph": value["micrograph_name"], **{key: value[key] for key in _STATISTICS},
             "verdict": verdict(value)} for _, value in done]  # fmt: skip


def micrographs_of(movies: ImageSet, done: Sequence[tuple[int, Mapping[str, Any]]]) -> ImageSet:
    """Micrographs from the results of some of the movies; other columns of the movies pass through.

    The pixel size of an optics group is that of its micrographs after binning, of which there is
    one since its movies have one size; a group without any keeps the movies' pixel size.
    """
    rows = movies.rows.select([index for index, _ in done])
    made = [name for name in _RESULT_COLUMNS if all(name in value for _, value in done)]
    rows = rows.with_columns(**{name: [value[name] for _, value in done] for name in made})
    optics = movies.optics
    group_of = movies.optics_index()
    pixel = optics["original_pixel_size_A"].copy()
    for index, value in done:
        pixel[group_of[index]] = value["micrograph_pixel_size_A"]
    table = Table({**optics.columns, "micrograph_pixel_size_A": pixel}, optics.foreign)
    return ImageSet("micrographs", rows, table, movies.foreign_blocks)
