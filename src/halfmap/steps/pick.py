"""The step ``pick``: from micrographs to the coordinates of particles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.picking.options import PickOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext
    from halfmap.picking.template import Template


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: PickOptions) -> Mapping[str, Any]:
    """Survey a few micrographs, pick in all of them, and choose the threshold over all."""
    from halfmap.io.relion import write_image_set
    from halfmap.picking.blob import PickPlan, pick_micrograph
    from halfmap.picking.micrograph import micrographs_of
    from halfmap.picking.session import collect
    from halfmap.picking.survey import (
        PACKING,
        Finding,
        find_template,
        longest_diameter_A,
        survey_micrograph,
        survey_sample,
    )
    from halfmap.steps.inputs import image_set_from

    images = image_set_from(inputs["micrographs"], "micrographs", options, seed=job.seed)
    micrographs = micrographs_of(images)
    sample = survey_sample(micrographs, options.survey_micrographs, job.seed)

    def survey(label: str, templates: Sequence[Template]) -> list[Mapping[str, Any]]:
        work = partial(survey_micrograph, templates=templates, seed=job.seed, device=job.device)
        return [r.value for r in job.each(label, sample, work, key=lambda m: m.name) if r.value is not None]

    def decide() -> Mapping[str, Any]:
        finding = find_template(options.diameter_A, survey)
        if finding is None:
            job.fail("no-particles", "no template matches the micrographs better than noise of the same spectrum")
        return asdict(finding)

    finding = Finding.restored(job.once("template", decide))
    diameter_A = options.diameter_A or round(longest_diameter_A(finding.template), 1)
    distance_A = options.min_distance_A or PACKING * diameter_A
    job.log(f"particles are {finding.contrast} in the micrographs; diameter {diameter_A:g} Å")
    plan = PickPlan(finding.template, finding.sign, diameter_A, distance_A, options.controls, job.seed, job.device)
    results = job.each("pick", micrographs, partial(pick_micrograph, plan=plan), key=lambda m: m.name)
    done = [(row, result.value) for row, result in enumerate(results) if result.value is not None]
    picks = collect(images, done, plan, max_false_frac=options.max_false_frac, threshold=options.threshold)
    if picks is None:
        job.fail("no-particles", "no place in any micrograph rises above noise of the same spectrum")
    write_image_set(job.folder / "particles.star", picks.coordinates)
    write_text_atomic(job.folder / "statistics.json", json.dumps(picks.statistics()))
    job.log(f"{len(picks.coordinates)} particles; noise accounts for about {picks.expected_false:.0f} of them")
    return {
        "items_in": len(images),
        "items_out": len(done),
        "particles": len(picks.coordinates),
        "expected_false": round(picks.expected_false, 1),
        "threshold": round(picks.threshold, 3),
        "diameter_A": diameter_A,
        **finding.record(),
    }


STEP = Step(
    name="pick",
    summary="Find the particles in micrographs, without templates or training.",
    options=PickOptions,
    inputs=(Port("micrographs", "micrographs", "STAR of micrographs, or MRC files.", ("micrograph_name",), many=True),),
    outputs=(
        Port(
            "particles", "coordinates", "One row a particle.",
            ("uid", "coordinate_x_px", "coordinate_y_px", "pick_figure_of_merit", "particle_diameter_A"),
            "particles.star",
        ),
        Port("statistics", "table", "Counts of each micrograph, scores of picks and controls.", (), "statistics.json"),
    ),
    run=run,
    failures=(
        Failure("no-particles", "Nothing in the micrographs stands out from noise.",
                "Check diameter, pixel size and defocus, and look at a micrograph."),
    ),
    citations=(
        Citation("barber2015", "Barber, R. F. & Candès, E. J. (2015). Controlling the false discovery rate via "
                 "knockoffs. Ann. Stat. 43, 2055-2085.", "10.1214/15-AOS1337"),
    ),
    uses_accelerator=True,
    example="halfmap pick ctf/micrographs.star --diameter 120 --out pick",
)  # fmt: skip
