"""A map against a reference map or an atomic model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.postprocess.options import CompareOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: CompareOptions) -> Mapping[str, Any]:
    """Align the map with the reference, correlate them, and say which hand it has."""
    import math

    from halfmap.data.records import Volume
    from halfmap.errors import HalfmapError
    from halfmap.io.mrc import read_volume, write_volume
    from halfmap.io.star import write_star
    from halfmap.postprocess.compare import compare_maps, reference_on_grid
    from halfmap.postprocess.files import reference_fsc_block

    volume = read_volume(inputs["map"][0])
    reference = reference_on_grid(inputs["reference"][0], volume.data.shape[0], volume.pixel_size_A)
    try:
        found = compare_maps(volume, reference, options)
    except HalfmapError as error:
        if error.code != "no-mask":
            raise
        job.fail("no-mask", error.message)
    for name, data in (("map.mrc", found.aligned), ("reference.mrc", found.reference), ("mask.mrc", found.mask)):
        write_volume(job.folder / name, Volume(data.numpy(), volume.pixel_size_A))
    write_star(job.folder / "fsc.star", {"fsc": reference_fsc_block(found, volume.pixel_size_A)})
    alignment = found.alignment
    hand = "the other hand" if alignment.mirrored else "the same hand"
    job.log(f"FSC with the reference falls to 0.5 at {found.resolution_A:.2f} Å; correlation {found.correlation:.3f}")
    if found.finest_A < 0.9 * found.resolution_A:
        job.log(f"the curve dips there and recovers: it is above 0.5 as far as {found.finest_A:.2f} Å")
    job.log(f"{hand}: correlation {alignment.correlation:.3f}, mirrored {alignment.other_correlation:.3f}")
    other = alignment.other_correlation
    return {
        "items_in": 1,
        "items_out": 1,
        "resolution_reference_A": found.resolution_A if math.isfinite(found.resolution_A) else None,
        "resolution_reference_finest_A": found.finest_A if math.isfinite(found.finest_A) else None,
        "correlation": found.correlation,
        "mirrored": alignment.mirrored,
        "correlation_at_alignment": alignment.correlation,
        "correlation_of_other_hand": other if math.isfinite(other) else None,
    }


STEP = Step(
    name="compare",
    summary="Bring a map onto a reference map or an atomic model, and tell hand, correlation and FSC.",
    options=CompareOptions,
    inputs=(
        Port("map", "volume", "The map."),
        Port("reference", "volume", "What it is compared with: a map, or an atomic model (PDB, mmCIF)."),
    ),
    outputs=(
        Port("map", "volume", "The map in the frame of the reference.", file="map.mrc"),
        Port("reference", "volume", "The reference on the grid of the map.", file="reference.mrc"),
        Port("mask", "mask", "Mask made from the reference.", file="mask.mrc"),
        Port("fsc", "table", "FSC with the reference, masked and not.", file="fsc.star"),
    ),
    run=run,
    failures=(
        Failure("no-mask", "No mask can be made from the reference: nothing, or everything, stands out.",
                "Give --mask-threshold, or another reference."),
    ),
    citations=(
        Citation("rosenthal2003", "Rosenthal, P. B. & Henderson, R. (2003). Optimal determination of particle "
                 "orientation, absolute hand, and contrast loss in single-particle electron cryomicroscopy. "
                 "J. Mol. Biol. 333, 721-745.", "10.1016/j.jmb.2003.07.013"),
    ),
    example="halfmap compare session/map.mrc 6z6u.pdb --symmetry O --out truth",
)  # fmt: skip
