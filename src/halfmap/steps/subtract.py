"""Particles without the part of the map that is not looked at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.refine.subtract.options import SubtractOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: SubtractOptions) -> Mapping[str, Any]:
    """Fit the map's grey scale to the images, and subtract its projections outside the mask."""
    import numpy as np

    from halfmap.io.relion import read_image_set, write_image_set
    from halfmap.refine.subtract import files, grey_scale, parts, projections, stacks
    from halfmap.steps.files import located, output_stems

    star = inputs["particles"][0]
    images = located(read_image_set(star, "particles"), star)
    images.require(files.NEEDED, needed_for="subtraction")
    split = parts.read_parts(images, options)
    names = sorted(set(files.stack_names(images, star)))
    stems = dict(zip(names, output_stems(names), strict=True))
    plan = files.plan_of(split, options, job.folder)
    with projections.slices_file(split.whole, job.folder / "whole.npy") as slices:
        sample = files.stack_tasks(images, star, stems, files.fitted_rows(images))
        measure = partial(stacks.measure_stack, plan=plan, slices=slices, device=job.device)
        measured = job.each("fit", sample, measure, key=lambda task: task.stem)
    sums = [result.value for result in measured if result.value]
    found = grey_scale.grey_scale(sums, len(images.optics))
    if not found.significant:
        job.fail("no-fit", f"the images do not show {options.map} at their poses")
    files.report_scale(found, images, job)
    with projections.slices_file(split.removed, job.folder / "removed.npy") as slices:
        tasks = files.stack_tasks(images, star, stems, np.arange(len(images)))
        work = partial(stacks.subtract_stack, plan=plan.scaled(found.scale), slices=slices, device=job.device)
        results = job.each("subtract", tasks, work, key=lambda task: task.stem)
    left = files.subtracted_table(images, [result.value for result in results], split, job)
    write_image_set(job.folder / "particles.star", left)
    files.write_parts(job.folder, split)
    return files.summary(images, left, [result.value for result in results], split, found, job)


STEP = Step(
    name="subtract",
    summary="Take all but a masked part of the particle out of the images (signal subtraction).",
    options=SubtractOptions,
    inputs=(
        Port("particles", "particles", "particles.star of refine or of expand, with poses and CTF.",
             ("image_name", "rot_rad", "tilt_rad", "psi_rad", "defocus_u_A", "defocus_v_A", "defocus_angle_rad")),
    ),
    outputs=(
        Port("particles", "particles", "The particles with their new images.",
             ("image_name", "original_image_name", "shift_x_A", "shift_y_A", "particle_diameter_A"),
             file="particles.star"),
        Port("stacks", "images", "One new stack for each old one.", file="stacks/*.mrcs"),
        Port("map", "volume", "The part of the map that is kept, in the frame of the new images.", file="map.mrc"),
        Port("mask", "mask", "The mask in that frame.", file="mask.mrc"),
    ),
    run=run,
    failures=(
        Failure("no-fit", "The images do not show the map at their poses, so nothing can be subtracted.",
                "Give the map.mrc of the refinement that the poses come from, in the contrast of the images."),
    ),
    citations=(
        Citation("bai2015", "Bai, X.-C., Rajendra, E., Yang, G., Shi, Y. & Scheres, S. H. W. (2015). Sampling the "
                 "conformational space of the catalytic subunit of human γ-secretase. eLife 4, e11182.",
                 "10.7554/eLife.11182"),
    ),
    uses_accelerator=True,
    example="halfmap subtract r/particles.star --map r/map.mrc --mask part.mrc --recentre --out sub",
)  # fmt: skip
