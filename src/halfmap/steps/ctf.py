"""Defocus and astigmatism of micrographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.ctffit.options import CtfOptions
from halfmap.jobs.step import Citation, Failure, Port, Step

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: CtfOptions) -> Mapping[str, Any]:
    """Fit the CTF of every micrograph, and write their table with the fits."""
    from halfmap.ctffit.files import process_micrograph
    from halfmap.ctffit.session import figures_of, micrograph_files, warnings_of, with_ctf
    from halfmap.io.relion import write_image_set
    from halfmap.steps.files import output_stems
    from halfmap.steps.inputs import image_set_from

    if options.min_defocus_A >= options.max_defocus_A or options.min_resolution_A <= options.max_resolution_A:
        job.fail("empty-range", "The smallest defocus or the finest resolution lies beyond the other end of its range.")
    micrographs = image_set_from(inputs["micrographs"], "micrographs", options, seed=job.seed)
    stems = [job.folder / "micrographs" / stem for stem in output_stems(micrographs["micrograph_name"].tolist())]
    items = micrograph_files(micrographs, stems, options)
    results = job.each("ctf", items, process_micrograph, key=lambda item: str(item.micrograph))
    done = [(i, result.value) for i, result in enumerate(results) if result.value is not None]
    fitted = with_ctf(micrographs, done, options)
    write_image_set(job.folder / "micrographs.star", fitted)
    for warning in warnings_of([value for _, value in done]):
        job.warn(warning)
    return {"items_in": len(micrographs), "items_out": len(fitted), **figures_of([value for _, value in done])}


STEP = Step(
    name="ctf",
    summary="Fit defocus and astigmatism of micrographs, and say how far the fit holds.",
    options=CtfOptions,
    inputs=(
        Port("micrographs", "micrographs", "Micrographs (MRC), or one STAR file of them.", ("micrograph_name",),
             many=True),
    ),
    outputs=(
        Port(
            "micrographs", "micrographs", "The micrographs with their CTF.",
            ("defocus_u_A", "defocus_v_A", "defocus_angle_rad", "ctf_figure_of_merit", "ctf_fit_resolution_A",
             "ctf_image_name"),
            file="micrographs.star",
        ),
    ),
    run=run,
    failures=(
        Failure("empty-range", "A range of the search is empty.",
                "Give --min-defocus below --max-defocus, and --min-resolution (coarse) above --max-resolution (fine)."),
    ),
    citations=(
        Citation("rohou2015", "Rohou, A. & Grigorieff, N. (2015). CTFFIND4: Fast and accurate defocus estimation from "
                 "electron micrographs. J. Struct. Biol. 192, 216-221.", "10.1016/j.jsb.2015.08.008"),
    ),
    example="halfmap ctf mc/micrographs.star --out ctf",
)  # fmt: skip
