"""The step ``simulate movies``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Port, Step
from halfmap.simulate.options import SimulateMoviesOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: SimulateMoviesOptions) -> Mapping[str, Any]:
    """Write movies, their gain reference and table, and the truth."""
    from halfmap.simulate.models import (
        fitting_box_px,
        largest_diameter_A,
        load_model,
        used_conformations,
        write_maps,
    )
    from halfmap.simulate.movies import movie_tasks, session_detector, simulate_movie, write_gain
    from halfmap.simulate.truth import gain_file, movie_file, write_movies_table, write_truth_tables

    conformations, symmetry = load_model(options)
    conformations = used_conformations(conformations, options.class_weights)
    diameter_A = largest_diameter_A(conformations)
    box_px = fitting_box_px(diameter_A, options.pixel_size_A)
    maps = write_maps(job.folder, conformations, options, box_px, options.pixel_size_A)
    write_gain(gain_file(job.folder), session_detector(options, job.seed), options)
    work = partial(simulate_movie, options=options, maps=maps, diameter_A=diameter_A, folder=job.folder, seed=job.seed)
    results = job.each(
        "simulate", movie_tasks(options, job.seed), work, key=lambda task: movie_file(Path(), task.index, "mrc").stem
    )
    facts = [result.value for result in results if result.value is not None]
    movies = [movie_file(job.folder, result.item.index, options.format) for result in results if result.ok]
    write_movies_table(job.folder / "movies.star", movies, options)
    particles = write_truth_tables(job.folder, movies, facts, options)
    job.log(f"{len(movies)} movies with {particles} particles of {diameter_A:.0f} Å, symmetry {symmetry}")
    return {
        "items_in": options.movies,
        "items_out": len(movies),
        "particles": particles,
        "diameter_A": round(diameter_A, 1),
        "symmetry": symmetry,
    }


STEP = Step(
    name="simulate movies",
    summary="Make raw movies of a model in ice, as a counting detector records them, with the truth beside them.",
    options=SimulateMoviesOptions,
    inputs=(),
    outputs=(
        Port("movies", "movies", "Movies and optics.", ("movie_name", "dose_per_frame_e_per_A2"), "movies.star"),
        Port("gain", "images", "Gain reference.", file="gain.mrc"),
        Port("true_micrographs", "micrographs", "True defocus.", ("defocus_u_A",), "truth/micrographs.star"),
        Port("true_particles", "coordinates", "True positions and poses.", ("rot_rad",), "truth/particles.star"),
        Port("map", "volume", "True map of class 1.", file="truth/map.mrc"),
    ),
    run=run,
    citations=(
        Citation(
            "Grant2015",
            "Grant & Grigorieff (2015). Measuring the optimal exposure for single particle cryo-EM using a "
            "2.6 Å reconstruction of rotavirus VP6. eLife 4, e06980.",
            "10.7554/eLife.06980",
        ),
    ),
    example="halfmap simulate movies --model cage --movies 12 --pixel-size 1.2 --out raw",
)
