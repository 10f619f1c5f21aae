"""A soft mask from a map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.validation.options import MaskOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: MaskOptions) -> Mapping[str, Any]:
    """Make a soft mask around the particle of a map."""
    import torch

    from halfmap.data.records import Volume
    from halfmap.errors import HalfmapError
    from halfmap.io.mrc import read_volume, write_volume
    from halfmap.validation.solvent_mask import make_mask

    volume = read_volume(inputs["map"][0])
    try:
        made = make_mask(torch.from_numpy(volume.data).to(job.device), volume.pixel_size_A, options)
    except HalfmapError as error:
        if error.code != "no-mask":
            raise
        job.fail("no-mask", error.message)
    write_volume(job.folder / "mask.mrc", Volume(made.mask.cpu().numpy(), volume.pixel_size_A, volume.origin_A))
    job.log(f"threshold {made.threshold:.4g} ({made.threshold_source}), {made.pieces} connected pieces")
    return {
        "items_in": 1,
        "items_out": 1,
        "threshold": made.threshold,
        "threshold_source": made.threshold_source,
        "pieces": made.pieces,
        "volume_fraction": made.volume_frac,
        "mask_fraction": float(made.mask.mean()),
    }


STEP = Step(
    name="mask",
    summary="Make a soft mask around the particle of a map; the threshold is decided from the map.",
    options=MaskOptions,
    inputs=(Port("map", "volume", "The map (an unsharpened one is best)."),),
    outputs=(Port("mask", "mask", "Mask with values 0 to 1.", file="mask.mrc"),),
    run=run,
    failures=(
        Failure("no-mask", "Nothing, or all of the map, lies above the threshold.",
                "Give --mask-threshold, or make the mask by hand in a viewer."),
    ),
    citations=(
        Citation("otsu1979", "Otsu, N. (1979). A threshold selection method from gray-level histograms. "
                 "IEEE Trans. Syst. Man Cybern. 9, 62-66.", "10.1109/TSMC.1979.4310076"),
    ),
    uses_accelerator=True,
    example="halfmap mask r/map.mrc --out mask",
)  # fmt: skip
