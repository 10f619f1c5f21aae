"""Movies to micrographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.motion.options import MotionOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: MotionOptions) -> Mapping[str, Any]:
    """Align and add the frames of every movie, and write the table of micrographs."""
    from halfmap.io.relion import write_image_set
    from halfmap.motion.files import process_movie
    from halfmap.motion.session import micrographs_of, movie_files, statistics_of
    from halfmap.steps.files import output_stems
    from halfmap.steps.inputs import image_set_from

    movies = image_set_from(inputs["movies"], "movies", options, seed=job.seed)
    if options.dose_weighting and "dose_per_frame_e_per_A2" not in movies:
        job.fail("no-dose", f"{inputs['movies'][0]} does not state the exposure of a frame.")
    stems = [job.folder / "micrographs" / stem for stem in output_stems(movies["movie_name"].tolist())]
    work = partial(process_movie, device=job.device, float16=options.float16)
    items = movie_files(movies, stems, options, job.seed)
    results = job.each("motion", items, work, key=lambda item: str(item.movie))
    messages = [result.value["message"] for result in results if result.value is not None]
    for message in dict.fromkeys(filter(None, messages)):
        job.log(f"{messages.count(message)} of {len(movies)} movies: {message}")
    for result in results:
        for number, reason in (result.value or {}).get("left_out", {}).items():
            job.warn(f"{result.key}: frame {number} was left out: {reason}.")
    done = [(i, result.value) for i, result in enumerate(results) if result.value is not None]
    micrographs = micrographs_of(movies, done)
    write_image_set(job.folder / "micrographs.star", micrographs)
    movies_of = statistics_of(done)
    (job.folder / "statistics.json").write_text(json.dumps({"movies": movies_of}, indent=1) + "\n", encoding="utf-8")
    for movie in movies_of:
        if movie["verdict"]:
            job.warn(f"{movie['micrograph']}: {movie['verdict']}.")
    reasons = [movie["local_reason"] for movie in movies_of]
    local = reasons.count("")
    job.log(f"Local motion was corrected in {local} of {len(movies_of)} movies.")
    for reason in sorted(set(filter(None, reasons))):
        job.log(f"No local correction in {reasons.count(reason)} of {len(movies_of)} movies: {reason}.")
    totals = sorted(movie["motion_total_A"] for movie in movies_of)
    return {
        "items_in": len(movies),
        "items_out": len(micrographs),
        "median_motion_A": totals[len(totals) // 2],
        "locally_corrected": local,
    }


STEP = Step(
    name="motion",
    summary="Align the frames of movies, as wholes and locally, and add them, weighted by dose.",
    options=MotionOptions,
    inputs=(
        Port("movies", "movies", "Movies (MRC, TIFF, EER), or one STAR file of them.", ("movie_name",), many=True),
    ),
    outputs=(
        Port(
            "micrographs", "micrographs", "Micrographs with their power spectra and motion.",
            ("micrograph_name", "micrograph_metadata", "power_spectrum_name",
             "motion_total_A", "motion_early_A", "motion_late_A"),
            file="micrographs.star",
        ),
    ),
    run=run,
    failures=(
        Failure("no-dose", "Dose weighting needs the exposure of a frame.",
                "Give --dose-per-frame in e/Å², or --no-dose-weighting."),
    ),
    citations=(
        Citation("zivanov2019", "Zivanov, J., Nakane, T. & Scheres, S. H. W. (2019). A Bayesian approach to "
                 "beam-induced motion correction in cryo-EM single-particle analysis. IUCrJ 6, 5.",
                 "10.1107/S205225251801463X"),
        Citation("grant2015", "Grant, T. & Grigorieff, N. (2015). Measuring the optimal exposure for single particle "
                 "cryo-EM. eLife 4, e06980.", "10.7554/eLife.06980"),
    ),
    uses_accelerator=True,
    example="halfmap motion 'raw/*.tif' --gain gain.mrc --pixel-size 1.1 --voltage 300 --cs 2.7 "
    "--dose-per-frame 1.5 --out mc",
)  # fmt: skip
