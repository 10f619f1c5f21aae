"""Particles and a starting map to two independent half-maps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.refine.refine3d.options import RefineOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: RefineOptions) -> Mapping[str, Any]:
    """Refine poses and maps of two independent halves."""
    from halfmap.io.relion import read_image_set
    from halfmap.refine.refine3d.files import refine_particles
    from halfmap.steps.files import located

    star = inputs["particles"][0]
    images = located(read_image_set(star, "particles"), star)
    if len(images) < 4:
        job.fail("few-particles", f"{star} holds {len(images)} particles.")
    return refine_particles(images, star, options, job.folder, job.device, job)


STEP = Step(
    name="refine",
    summary="Refine particles in 3D against a starting map: two independent halves, regularised by their FSC.",
    options=RefineOptions,
    inputs=(
        Port("particles", "particles", "STAR file of particles with their CTF.",
             ("image_name", "defocus_u_A", "defocus_v_A", "defocus_angle_rad")),
    ),
    outputs=(
        Port("half1", "half-map", "Unfiltered map of half 1.", file="half1.mrc"),
        Port("half2", "half-map", "Unfiltered map of half 2.", file="half2.mrc"),
        Port("map", "volume", "Map from all particles, filtered by the FSC.", file="map.mrc"),
        Port("mask", "mask", "What the solvent was flattened with.", file="mask.mrc"),
        Port("particles", "particles", "The particles with their poses and half-sets.",
             ("rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "half_set",
              "log_likelihood_contribution", "max_posterior"),
             file="particles.star"),
        Port("cutoff", "volume", "Cut-off in Å of the low-pass filter of each place, if regularisation is local.",
             file="cutoff.mrc", optional=True),
        Port("fsc", "table", "FSC of the half-maps, corrected for the mask, and without one.", file="fsc.star"),
        Port("iterations", "table", "What happened in each iteration.", file="iterations.star"),
    ),
    run=run,
    failures=(
        Failure("few-particles", "Two halves of so few particles cannot be refined.", "Give more particles."),
    ),
    citations=(
        Citation("scheres2012", "Scheres, S. H. W. (2012). A Bayesian view on cryo-EM structure determination. "
                 "J. Mol. Biol. 415, 406-418.", "10.1016/j.jmb.2011.11.010"),
        Citation("scheres2012b", "Scheres, S. H. W. & Chen, S. (2012). Prevention of overfitting in cryo-EM structure "
                 "determination. Nat. Methods 9, 853-854.", "10.1038/nmeth.2115"),
        Citation("punjani2020", "Punjani, A., Zhang, H. & Fleet, D. J. (2020). Non-uniform refinement: adaptive "
                 "regularization improves single-particle cryo-EM reconstruction. Nat. Methods 17, 1214-1221.",
                 "10.1038/s41592-020-00990-8"),
    ),
    uses_accelerator=True,
    version=2,
    example="halfmap refine ex/particles.star --reference ref.mrc --diameter 190 --symmetry C1 --out r",
)  # fmt: skip
