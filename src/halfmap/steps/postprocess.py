"""Two half-maps to a sharpened map, its FSC, and what can be said against it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.postprocess.options import PostprocessOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: PostprocessOptions) -> Mapping[str, Any]:
    """Correlate two half-maps, judge them, and write the sharpened map."""
    from halfmap.errors import HalfmapError
    from halfmap.io.mrc import read_volume
    from halfmap.postprocess.combine import agreeing_half_maps, postprocess
    from halfmap.postprocess.files import write_postprocessed

    maps = agreeing_half_maps(read_volume(inputs["half1"][0]), read_volume(inputs["half2"][0]))
    mask = read_volume(options.mask) if options.mask is not None else None
    try:
        result = postprocess(maps, options, mask, seed=job.seed, device=job.device)
    except HalfmapError as error:
        if error.code != "no-mask":
            raise
        job.fail("no-mask", error.message)
    for verdict in result.verdicts:
        job.warn(verdict.message)
    figures = write_postprocessed(result, maps.half1, job.folder)
    found = figures["resolution_A"]
    job.log("nothing is resolved: the halves share no signal" if found is None else
            f"resolution {found:.2f} Å at FSC = 0.143 (corrected for the mask), "
            f"{result.curves.unmasked_resolution_A():.2f} Å without a mask")  # fmt: skip
    job.log(f"sharpened by {result.sharpened.b_factor_A2:.0f} Å² ({result.sharpened.b_factor_source})")
    return {"items_in": 2, "items_out": 2, **figures}


STEP = Step(
    name="postprocess",
    summary="Judge two half-maps by their FSC (unmasked, masked, randomised, directional), and sharpen their mean.",
    options=PostprocessOptions,
    inputs=(
        Port("half1", "half-map", "Unfiltered map of half 1."),
        Port("half2", "half-map", "Unfiltered map of half 2."),
    ),
    outputs=(
        Port("map", "volume", "FSC-weighted, sharpened and low-passed map.", file="map.mrc"),
        Port("masked", "volume", "The same within the mask.", file="map_masked.mrc"),
        Port("mask", "mask", "The mask that was used.", file="mask.mrc"),
        Port("fsc", "table", "FSC curves, Guinier plot and directional resolution.", file="fsc.star"),
    ),
    run=run,
    failures=(
        Failure("no-mask", "No mask can be made from the half-maps: nothing, or everything, stands out.",
                "Give --mask, or --mask-threshold."),
    ),
    citations=(
        Citation("rosenthal2003", "Rosenthal, P. B. & Henderson, R. (2003). Optimal determination of particle "
                 "orientation, absolute hand, and contrast loss in single-particle electron cryomicroscopy. "
                 "J. Mol. Biol. 333, 721-745.", "10.1016/j.jmb.2003.07.013"),
        Citation("chen2013", "Chen, S. et al. (2013). High-resolution noise substitution to measure overfitting and "
                 "validate resolution in 3D structure determination by single particle electron cryomicroscopy. "
                 "Ultramicroscopy 135, 24-35.", "10.1016/j.ultramic.2013.06.004"),
        Citation("tan2017", "Tan, Y. Z. et al. (2017). Addressing preferred specimen orientation in single-particle "
                 "cryo-EM through tilting. Nat. Methods 14, 793-796.", "10.1038/nmeth.4347"),
    ),
    uses_accelerator=True,
    example="halfmap postprocess r/half1.mrc r/half2.mrc --out pp",
)  # fmt: skip
