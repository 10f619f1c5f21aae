"""Particles to class averages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.refine.class2d.options import Class2DOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: Class2DOptions) -> Mapping[str, Any]:
    """Sort particles into classes and average them."""
    from halfmap.io.relion import read_image_set
    from halfmap.refine.class2d.files import classify_particles
    from halfmap.steps.files import located

    star = inputs["particles"][0]
    images = located(read_image_set(star, "particles"), star)
    if len(images) < 2 * options.classes:
        job.fail("few-particles", f"{star} holds {len(images)} particles for {options.classes} classes.")
    return classify_particles(images, star, options, job.folder, job.device, job)


STEP = Step(
    name="class2d",
    summary="Sort particles into class averages, corrected for the CTF.",
    options=Class2DOptions,
    inputs=(
        Port("particles", "particles", "STAR file of particles with their CTF.",
             ("image_name", "defocus_u_A", "defocus_v_A", "defocus_angle_rad")),
    ),
    outputs=(
        Port("particles", "particles", "The particles with their classes, in-plane angles and shifts.",
             ("class_number", "psi_rad", "shift_x_A", "shift_y_A", "max_posterior", "log_likelihood_contribution"),
             file="particles.star"),
        Port("classes", "images", "Class averages, protein white, by population.", file="classes.mrcs"),
        Port("table", "table", "Population and resolution of each class.", file="classes.star"),
    ),
    run=run,
    failures=(
        Failure("few-particles", "There are less than two particles for a class.", "Ask for fewer --classes."),
    ),
    citations=(
        Citation("scheres2005", "Scheres, S. H. W. et al. (2005). Maximum-likelihood multi-reference refinement for "
                 "electron microscopy images. J. Mol. Biol. 348, 139-149.", "10.1016/j.jmb.2005.02.031"),
    ),
    uses_accelerator=True,
    example="halfmap class2d ex/particles.star --classes 50 --out c2",
)  # fmt: skip
