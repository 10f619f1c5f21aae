"""The step ``simulate particles``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Port, Step
from halfmap.simulate.options import SimulateParticlesOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext

_IMAGE_COLUMNS = ("uid", "image_name", "micrograph_name", "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "half_set")


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: SimulateParticlesOptions) -> Mapping[str, Any]:
    """Write stacks of particle images, their table, and the truth."""
    from halfmap.simulate.models import largest_diameter_A, load_model, used_conformations, write_maps
    from halfmap.simulate.particles import (
        micrograph_tasks,
        plan_groups,
        simulate_micrograph,
        stack_file,
        write_particle_tables,
    )

    conformations, symmetry = load_model(options)
    conformations = used_conformations(conformations, options.class_weights)
    diameter_A = largest_diameter_A(conformations)
    boxes = options.box_px if len(options.box_px) > 1 else options.box_px * len(options.pixel_size_A)
    maps = [
        write_maps(job.folder, conformations, options, box, pixel, group)
        for group, (box, pixel) in enumerate(zip(boxes, options.pixel_size_A, strict=True), start=1)
    ]
    plans = plan_groups(options, maps, diameter_A, job.seed)
    tasks = micrograph_tasks(options)
    work = partial(
        simulate_micrograph, options=options, plans=plans, diameter_A=diameter_A, folder=job.folder, seed=job.seed
    )
    results = job.each("simulate", tasks, work, key=lambda task: stack_file(Path(), task.index).name)
    done = [(result.item, result.value) for result in results if result.value is not None]
    written = write_particle_tables(
        job.folder, [task for task, _ in done], [fact for _, fact in done], options, plans, job.seed
    )
    job.log(f"{written} particles of {diameter_A:.0f} Å, symmetry {symmetry}, in {len(done)} stacks")
    return {
        "items_in": options.particles,
        "items_out": written,
        "diameter_A": round(diameter_A, 1),
        "symmetry": symmetry,
    }


STEP = Step(
    name="simulate particles",
    summary="Make particle images with known poses, defocus, classes and signal-to-noise ratio.",
    options=SimulateParticlesOptions,
    inputs=(),
    outputs=(
        Port("particles", "particles", "Images, optics and defocus, without poses.", _IMAGE_COLUMNS, "particles.star"),
        Port(
            "truth",
            "particles",
            "The same with true poses and classes.",
            (*_IMAGE_COLUMNS, "rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "class_number"),
            "truth.star",
        ),
        Port("map", "volume", "True map of class 1.", file="truth/map.mrc"),
    ),
    run=run,
    example="halfmap simulate particles --model asymmetric --particles 1000 --snr 0.1 --out particles",
)
