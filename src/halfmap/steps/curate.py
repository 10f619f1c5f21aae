"""The step ``curate``: good micrographs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.curation.options import CurateOptions
from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.step import Citation, Failure, Port, Step

if TYPE_CHECKING:
    from halfmap.data.records import ImageSet
    from halfmap.jobs.context import JobContext

SMALL_SHARE = 0.5


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: CurateOptions) -> Mapping[str, Any]:
    """Judge every micrograph, and write what is kept and what is left out."""
    import numpy as np

    from halfmap.curation.curate import curate, in_kept
    from halfmap.curation.measure import measure_micrograph
    from halfmap.io.relion import write_image_set
    from halfmap.optics.options import OpticsOptions
    from halfmap.steps.inputs import image_set_from

    micrographs = image_set_from(inputs["micrographs"], "micrographs", OpticsOptions(), seed=job.seed)
    intensity, unreadable = None, {}
    if options.intensity:
        results = job.each("measure", micrographs["micrograph_name"].tolist(), measure_micrograph, key=str)
        intensity = np.array([result.value["mean"] if result.value else np.nan for result in results])
        unreadable = {row: result.error for row, result in enumerate(results) if not result.ok}
    curation = curate(micrographs, intensity, unreadable, options)
    for reason, count in curation.counts().items():
        job.log(f"left out {count}: {reason}")
    kept = len(curation.kept)
    job.log(f"{kept} of {len(micrographs)} micrographs are kept")
    write_text_atomic(job.folder / "curation.json", json.dumps(curation.record()))
    if kept == 0:
        job.fail("nothing-left", f"all {len(micrographs)} micrographs were left out; see curation.json.")
    if kept < SMALL_SHARE * len(micrographs):
        job.warn(f"only {kept} of {len(micrographs)} micrographs are kept; look at the limits on this page")
    write_image_set(job.folder / "micrographs.star", curation.kept)
    if len(curation.excluded):
        write_image_set(job.folder / "excluded.star", curation.excluded)
    figures = {
        "items_in": len(micrographs),
        "items_out": kept,
        "excluded": len(curation.excluded),
        "kept_on_request": len(curation.spared),
        "reasons": curation.counts(),
    }
    if not inputs.get("coordinates"):
        return figures
    particles = image_set_from(inputs["coordinates"], _kind(inputs["coordinates"][0]), OpticsOptions())
    mine: ImageSet = particles.select(in_kept(particles, micrographs, curation.kept))
    write_image_set(job.folder / "particles.star", mine)
    return figures | {"particles_in": len(particles), "particles": len(mine)}


def _kind(star: Path) -> Any:
    from halfmap.io.relion import read_image_set

    return read_image_set(star).kind


STEP = Step(
    name="curate",
    summary="Keep good micrographs, by limits or as outliers of the session, and say why the others are left out.",
    options=CurateOptions,
    inputs=(
        Port("micrographs", "micrographs", "STAR of micrographs, best with CTF and motion.", ("micrograph_name",)),
        Port("coordinates", "coordinates", "Picks or particles, of which those in kept micrographs are kept.",
             ("micrograph_name",), optional=True),
    ),
    outputs=(
        Port("micrographs", "micrographs", "The micrographs that are kept.", (), "micrographs.star"),
        Port("excluded", "table", "The micrographs that are left out, with reasons.", (), "excluded.star",
             optional=True),
        Port("particles", "coordinates", "The particles in kept micrographs.", (), "particles.star", optional=True),
        Port("curation", "table", "Values, limits and reasons.", (), "curation.json"),
    ),
    run=run,
    failures=(
        Failure("nothing-left", "No micrograph is kept.", "Loosen the limits, or give --keep."),
    ),
    citations=(
        Citation("leys2013", "Leys, C. et al. (2013). Detecting outliers: do not use standard deviation around the "
                 "mean, use absolute deviation around the median. J. Exp. Soc. Psychol. 49, 764-766.",
                 "10.1016/j.jesp.2013.03.013"),
    ),
    example="halfmap curate ctf/micrographs.star --max-fit-resolution 6 --out curated",
)  # fmt: skip
