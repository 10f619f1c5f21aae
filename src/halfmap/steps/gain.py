"""The step ``gain``: a gain reference that fits the movies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Failure, Port, Step
from halfmap.motion.gain.options import GainOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: GainOptions) -> Mapping[str, Any]:
    """Add movies, find how the reference lies or estimate one, and mark bad pixels."""
    from halfmap.io.relion import read_image_set
    from halfmap.io.star import write_star
    from halfmap.motion.gain.files import SummedMovie, defect_rows, examine, sum_movie, write_gain
    from halfmap.motion.gain.session import chosen_movies, fits_block, of_one_shape, told_in_words
    from halfmap.steps.files import located, output_stems

    paths = inputs["movies"]
    if len(paths) == 1 and paths[0].suffix == ".star":
        paths = [Path(name) for name in located(read_image_set(paths[0], "movies"), paths[0])["movie_name"].tolist()]
    movies = chosen_movies(paths, options.max_movies)
    stems = output_stems([str(movie) for movie in movies])
    tasks = [SummedMovie(movie, job.folder / "sums" / f"{stem}.npy") for movie, stem in zip(movies, stems, strict=True)]
    results = job.each("add frames", tasks, sum_movie, key=lambda task: str(task.movie))
    summed = [(result.item, dict(result.value)) for result in results if result.value is not None]
    used, others = of_one_shape(summed)
    for task, facts in others:
        job.warn(f"{task.movie}: {facts['shape']} px, not the size of most movies; it is not used.")
    if len(used) < 2:
        job.fail("few-movies", f"{len(used)} of {len(movies)} movies can be added.")
    report = examine([task.sum_file for task, _ in used], used[0][0].movie, options)
    for line, doubtful in told_in_words(report, len(used)):
        (job.warn if doubtful else job.log)(line)
    if report.ranked:
        write_star(job.folder / "orientations.star", {"orientations": fits_block(report.ranked)})
    if not report.told:
        job.fail("orientation-not-told", "no orientation of the reference stands out; see orientations.star.")
    write_gain(job.folder / "gain.mrc", report.gain, used[0][0].movie)
    write_star(job.folder / "defects.star", {"defects": defect_rows(report.defects)})
    for task, _ in summed:
        task.sum_file.unlink(missing_ok=True)
    (job.folder / "sums").rmdir()
    return {
        "items_in": len(movies),
        "items_out": len(used),
        "counts_per_pixel": sum(facts["counts_per_pixel"] for _, facts in used),
        "pattern_before": report.pattern_before,
        "pattern_after": report.pattern_after,
        "hot_pixels": int(report.defects.hot.sum()),
        "dead_pixels": int(report.defects.dead.sum()),
        "unstable_pixels": int(report.defects.unstable.sum()),
        "known_defects": int(report.defects.known.sum()),
    }


STEP = Step(
    name="gain",
    summary="Find how a gain reference lies, or estimate one from movies; find bad pixels.",
    options=GainOptions,
    inputs=(Port("movies", "movies", "Movies (MRC, TIFF, EER), or one STAR file of them.", many=True),),
    outputs=(
        Port("gain", "images", "Gain reference for halfmap motion --gain; 0 at bad pixels.", file="gain.mrc"),
        Port("defects", "table", "Bad pixels, and what is wrong with each.", file="defects.star"),
        Port("orientations", "table", "Correlation of the reference with the movies, every way round.",
             file="orientations.star", optional=True),
    ),
    run=run,
    failures=(
        Failure("few-movies", "Fewer than two movies of one size can be added.",
                "Give more movies; a pattern counts as the camera's if two sets of movies share it."),
        Failure("orientation-not-told", "The reference fits in no orientation better than in the others.",
                "Check that it belongs to this camera and mode, or give more movies; without --gain one is estimated."),
    ),
    example="halfmap gain 'raw/*.tif' --gain gain.mrc --out gain",
)  # fmt: skip
