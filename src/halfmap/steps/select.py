"""The step ``select``: particles of good classes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.step import Failure, Port, Step
from halfmap.particles.options import SelectOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext

SMALL_SHARE = 0.3


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: SelectOptions) -> Mapping[str, Any]:
    """Split the particles into those that are kept and those that are left out, with reasons."""
    from halfmap.io.relion import write_image_set
    from halfmap.optics.options import OpticsOptions
    from halfmap.particles.selection import select_particles
    from halfmap.steps.inputs import image_set_from

    star = inputs["particles"][0]
    beside = star.with_name("classes.mrcs")
    given = inputs.get("classes") or [path for path in [beside] if path.is_file()]
    averages = given[0] if given else None
    particles = image_set_from([star], "particles", OpticsOptions())
    selection = select_particles(particles, averages, options)
    for reason, count in selection.reasons.items():
        job.log(f"left out {count}: {reason}")
    if len(selection.kept) == 0:
        job.fail("nothing-left", f"all {len(particles)} particles were left out")
    if len(selection.kept) < SMALL_SHARE * len(particles):
        job.warn(f"only {len(selection.kept)} of {len(particles)} particles are kept; look at the class averages")
    write_image_set(job.folder / "particles.star", selection.kept)
    if len(selection.excluded):
        write_image_set(job.folder / "excluded.star", selection.excluded)
    write_text_atomic(job.folder / "selection.json", json.dumps(selection.classes, indent=1))
    kept_classes = [entry["class"] for entry in selection.classes if entry["kept"]]
    job.log(f"{len(selection.kept)} of {len(particles)} particles are kept")
    return {
        "items_in": len(particles),
        "items_out": len(selection.kept),
        "excluded": len(selection.excluded),
        "kept_classes": kept_classes,
        "reasons": selection.reasons,
        "averages": str(averages or ""),
    }


STEP = Step(
    name="select",
    summary="Keep the particles of good classes, and say why the others are left out.",
    options=SelectOptions,
    inputs=(
        Port("particles", "particles", "particles.star of class2d.", ("image_name",)),
        Port("classes", "images", "Class averages; classes.mrcs beside the particles if absent.", optional=True),
    ),
    outputs=(
        Port("particles", "particles", "The particles that are kept.", (), "particles.star"),
        Port("excluded", "table", "The particles that are left out, with reasons.", (), "excluded.star", optional=True),
        Port("selection", "table", "Score of each class.", (), "selection.json"),
    ),
    run=run,
    failures=(
        Failure("nothing-left", "No particle is kept.", "Loosen --min-score, --keep or --where."),
    ),
    example="halfmap select c2/particles.star --out selected",
)  # fmt: skip
