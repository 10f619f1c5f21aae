"""Refined particles to one row for every symmetric view of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.refine.expand.options import ExpandOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: ExpandOptions) -> Mapping[str, Any]:
    """Write every particle once for each operator of its point group."""
    from halfmap.geometry.symmetry import canonical_name
    from halfmap.io.relion import read_image_set, write_image_set
    from halfmap.refine.expand.expansion import expanded, why_expanded
    from halfmap.refine.images.sources import half_sets
    from halfmap.steps.files import located

    star, symmetry = inputs["particles"][0], canonical_name(options.symmetry)
    if symmetry == "C1":
        job.fail("no-symmetry", "C1 has one operator, which changes nothing.")
    images = located(read_image_set(star, "particles"), star)
    sign = why_expanded(images)
    if sign is not None:
        job.fail("expanded", f"{star} is expanded already: {sign}.")
    # Where no halves are given they are drawn here, before copies could fall into different ones.
    copies = expanded(images.with_columns(half_set=half_sets(images, job)), symmetry)
    write_image_set(job.folder / "particles.star", copies)
    order = len(copies) // len(images)
    job.log(f"{len(images)} particles in, {len(copies)} rows out: {order} views of each under {symmetry}")
    return {"items_in": len(images), "items_out": len(copies), "symmetry": symmetry, "operators": order}


STEP = Step(
    name="expand",
    summary="Write each refined particle once for every symmetric view of it (symmetry expansion).",
    options=ExpandOptions,
    inputs=(
        Port("particles", "particles", "particles.star of refine, or any with poses refined under the symmetry.",
             ("image_name", "rot_rad", "tilt_rad", "psi_rad")),
    ),
    outputs=(
        Port("particles", "particles", "One row for each operator and particle; images are referenced, not copied.",
             ("uid", "source_uid", "half_set", "rot_rad", "tilt_rad", "psi_rad"), file="particles.star"),
    ),
    run=run,
    failures=(
        Failure("no-symmetry", "The point group has no second view to write.",
                "Give --symmetry as it was given to refine."),
        Failure("expanded", "The particles are expanded already; their views would count twice.",
                "Give the particles.star of the refinement itself."),
    ),
    citations=(
        Citation("ilca2015", "Ilca, S. L. et al. (2015). Localized reconstruction of subunits from electron "
                 "cryomicroscopy images of macromolecular complexes. Nat. Commun. 6, 8843.", "10.1038/ncomms9843"),
    ),
    example="halfmap expand r/particles.star --symmetry D2 --out expanded",
)  # fmt: skip
