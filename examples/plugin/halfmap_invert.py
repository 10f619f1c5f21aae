"""A step in one file: it becomes `halfmap invert`, with help, checks, record, continuing and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.atomic import atomic_path
from halfmap.jobs.step import Failure, Port, Step
from halfmap.options import Options, option

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


class InvertOptions(Options):
    """Declared once: command line, schema, documentation and bad-value tests follow."""

    scale: float = option(1.0, help="Factor that the inverted density is multiplied with.", gt=0, le=1000)


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: InvertOptions) -> Mapping[str, Any]:
    """Read the map, invert it, write it; the science is imported here, so that the help stays fast."""
    from halfmap.data.records import Volume
    from halfmap.io.mrc import read_volume, write_volume

    volume = read_volume(inputs["map"][0])
    if volume.data.min() >= 0:
        job.fail("bright", f"{inputs['map'][0]} has nothing below zero.")
    inverted = Volume(-options.scale * volume.data, volume.pixel_size_A, volume.origin_A)
    with atomic_path(job.folder / "map.mrc") as part:
        write_volume(part, inverted)
    return {"items_in": 1, "items_out": 1, "largest": float(inverted.data.max())}


STEP = Step(
    name="invert",
    summary="Turn dark density bright and bright density dark.",
    options=InvertOptions,
    inputs=(Port("map", "volume", "Map to invert"),),
    outputs=(Port("map", "volume", "Inverted map", file="map.mrc"),),
    run=run,
    failures=(Failure("bright", "The map has no dark density.", "Give a map with values below zero."),),
    example="halfmap invert map.mrc --scale 2 --out inverted",
)
