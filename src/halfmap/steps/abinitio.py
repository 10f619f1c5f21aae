"""Particles to a first map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.refine.abinitio.options import AbInitioOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext

FEWEST = 50


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: AbInitioOptions) -> Mapping[str, Any]:
    """Find a map from particles alone."""
    from halfmap.io.relion import read_image_set
    from halfmap.refine.abinitio.files import reconstruct_particles
    from halfmap.steps.files import located

    star = inputs["particles"][0]
    images = located(read_image_set(star, "particles"), star)
    if len(images) < FEWEST * options.classes:
        job.fail("few-particles", f"{star} holds {len(images)} particles for {options.classes} map(s).")
    return reconstruct_particles(images, star, options, job.folder, job.device, job)


STEP = Step(
    name="abinitio",
    summary="Find a first map, or one for each of several classes, from particles alone, by several random starts.",
    options=AbInitioOptions,
    inputs=(
        Port("particles", "particles", "STAR file of particles with their CTF.",
             ("image_name", "defocus_u_A", "defocus_v_A", "defocus_angle_rad")),
    ),
    outputs=(
        Port("map", "volume", "Map, protein positive, low-passed; its hand is undetermined.", file="map.mrc"),
        Port("class_maps", "volume", "Map of each class, the largest first; map.mrc is the first of them.",
             file="map_class*.mrc", optional=True),
        Port("particles", "particles", "All particles, with poses (and class_number, class_posterior where there are "
             "classes) of those that were used; the others have posterior 0 and class 0.",
             ("rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "max_posterior",
              "log_likelihood_contribution"),
             file="particles.star"),
        Port("starts", "table", "Likelihood that each random start reached.", file="starts.star"),
        Port("classes", "table", "Share, particles and resolution of each class.", file="classes.star", optional=True),
    ),
    run=run,
    failures=(
        Failure("few-particles", "So few particles do not make a map from nothing.",
                f"Give {FEWEST} particles for each class at the very least, better some hundred."),
    ),
    citations=(
        Citation("punjani2017", "Punjani, A., Rubinstein, J. L., Fleet, D. J. & Brubaker, M. A. (2017). cryoSPARC: "
                 "algorithms for rapid unsupervised cryo-EM structure determination. Nat. Methods 14, 290-296.",
                 "10.1038/nmeth.4169"),
        Citation("scheres2012", "Scheres, S. H. W. (2012). A Bayesian view on cryo-EM structure determination. "
                 "J. Mol. Biol. 415, 406-418.", "10.1016/j.jmb.2011.11.010"),
    ),
    uses_accelerator=True,
    example="halfmap abinitio ex/particles.star --symmetry C1 --out ab",
)  # fmt: skip
