"""The step ``extract``: from coordinates to particle images."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.particles.options import ExtractOptions

if TYPE_CHECKING:
    from halfmap.data.records import ImageSet
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: ExtractOptions) -> Mapping[str, Any]:
    """Choose box and contrast, and write one stack a micrograph."""
    from halfmap.io.relion import write_image_set
    from halfmap.particles.extract import extract_micrograph
    from halfmap.particles.session import box_plans, collect, diameter_of, extraction_tasks, prepared
    from halfmap.steps.files import output_stems

    coordinates = prepared(_coordinates(inputs["coordinates"], options), options, job.seed)
    diameter_A = diameter_of(coordinates, options)
    if diameter_A is None:
        job.fail("no-diameter", "the coordinates do not bring a particle diameter along")
    if "defocus_u_A" not in coordinates:
        job.warn("no CTF is known for these particles: they can be looked at, but not refined")
    plans = box_plans(coordinates, diameter_A, options)
    names = sorted(set(coordinates["micrograph_name"].tolist()))
    stems = dict(zip(names, output_stems(names), strict=True))
    tasks = extraction_tasks(coordinates, plans, diameter_A, stems)
    contrast = _contrast(job, tasks)
    work = partial(extract_micrograph, folder=job.folder, sign=contrast.sign, device=job.device)
    results = job.each("extract", tasks, work, key=lambda task: task.stem)
    extracted = collect(coordinates, [result.value for result in results], plans, diameter_A)
    if extracted is None:
        job.fail("no-particles", "no particle lies within its micrograph")
    write_image_set(job.folder / "particles.star", extracted.particles)
    job.log(f"{len(extracted.particles)} of {len(coordinates)} particles, box {extracted.boxes}")
    significance = round(contrast.significance, 1)
    record = {"contrast": contrast.name, "contrast_significance": significance, **extracted.record()}
    return {"items_in": len(coordinates), **record}


def _coordinates(paths: list[Path], options: ExtractOptions) -> ImageSet:
    from halfmap.particles.session import joined_with_micrographs
    from halfmap.steps.inputs import image_set_from

    if options.micrographs is None:
        return image_set_from(paths, "coordinates", options)
    micrographs = image_set_from([options.micrographs], "micrographs", options)
    pixel_size_A = options.pixel_size_A or float(micrographs.pixel_size_A()[0])
    first = {name: float(micrographs[name][0]) for name in ("voltage_kV", "cs_mm", "amplitude_contrast")}
    known = options.model_copy(update={**first, "pixel_size_A": pixel_size_A})
    return joined_with_micrographs(image_set_from(paths, "coordinates", known), micrographs)


def _contrast(job: JobContext, tasks: list[Any]) -> Any:
    from halfmap.particles.contrast import contrast_sample, decide_contrast
    from halfmap.particles.extract import measure_contrast

    work = partial(measure_contrast, device=job.device)
    measured = job.each("contrast", contrast_sample(tasks), work, key=lambda task: task.stem)
    contrast = decide_contrast([value for result in measured if result.value for value in result.value["evidence"]])
    job.log(f"protein is {contrast.name} in the micrographs ({contrast.significance:+.1f} standard errors)")
    if not contrast.clear:
        job.warn("the images do not say clearly whether protein is white or dark; dark, as in underfocus, was assumed")
    return contrast


STEP = Step(
    name="extract",
    summary="Cut particles out of micrographs, normalised and protein-white.",
    options=ExtractOptions,
    inputs=(
        Port("coordinates", "coordinates", "particles.star of pick, or any RELION STAR of coordinates.",
             ("micrograph_name", "coordinate_x_px", "coordinate_y_px")),
    ),
    outputs=(
        Port("particles", "particles", "Images with coordinates, CTF and half-sets.",
             ("image_name", "coordinate_x_px", "coordinate_y_px", "shift_x_A", "shift_y_A", "half_set",
              "particle_diameter_A"), "particles.star"),
        Port("stacks", "images", "One stack a micrograph.", (), "stacks/*.mrcs"),
    ),
    run=run,
    failures=(
        Failure("no-diameter", "Nothing tells the diameter of the particle.", "Give --diameter in Å."),
        Failure("no-particles", "No particle could be cut out.", "Check coordinates, pixel size and --diameter."),
    ),
    citations=(
        Citation("rosenthal2003", "Rosenthal, P. B. & Henderson, R. (2003). Optimal determination of particle "
                 "orientation, absolute hand, and contrast loss. J. Mol. Biol. 333, 721-745.",
                 "10.1016/j.jmb.2003.07.013"),
    ),
    uses_accelerator=True,
    example="halfmap extract pick/particles.star --out ex",
)  # fmt: skip
