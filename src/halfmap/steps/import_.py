"""Files of this and other programs to one table that every later step reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from halfmap.jobs.step import Failure, Port, Step
from halfmap.optics.options import OpticsOptions
from halfmap.options import option

if TYPE_CHECKING:
    from halfmap.data.columns import Kind
    from halfmap.data.records import ImageSet
    from halfmap.jobs.context import JobContext


class ImportOptions(OpticsOptions):
    """What is imported, and the optics of files that do not state them."""

    kind: Literal["auto", "movies", "micrographs", "coordinates", "particles"] = option(
        "auto", help="What the files hold; auto looks."
    )


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: ImportOptions) -> Mapping[str, Any]:
    """Join tables or files, look at every file that they name, and write one table."""
    import numpy as np

    from halfmap.data.columns import NAME_COLUMN
    from halfmap.io.check import check_image_file
    from halfmap.io.relion import write_image_set

    images = _read(inputs["files"], options, job.seed)
    names = [name.rpartition("@")[2] for name in images[NAME_COLUMN[images.kind]].tolist()]
    files = list(dict.fromkeys(names))
    check = partial(check_image_file, kind=images.kind)
    bad = {result.item for result in job.each("look at files", files, check, key=str) if not result.ok}
    kept = images.select(np.array([name not in bad for name in names], dtype=bool))
    if not len(kept):
        job.fail("nothing", f"none of {len(images)} {images.kind} can be read.")
    write_image_set(job.folder / f"{images.kind}.star", kept)
    return {"items_in": len(images), "items_out": len(kept), "files": len(files), "kind": images.kind}


def _read(paths: Sequence[Path], options: ImportOptions, seed: int) -> ImageSet:
    from halfmap.data.join import join_image_sets
    from halfmap.io.cryosparc import read_cs
    from halfmap.io.relion import read_image_set
    from halfmap.steps.inputs import image_set_from

    if paths[0].suffix == ".cs":
        return read_cs(paths[0], paths[1:])
    if paths[0].suffix != ".star":
        kind: Kind = _kind_of_files(paths[0]) if options.kind == "auto" else options.kind
        return image_set_from(paths, kind, options, seed=seed)
    kind = read_image_set(paths[0]).kind if options.kind == "auto" else options.kind
    return join_image_sets([image_set_from([path], kind, options, seed=seed) for path in paths])


def _kind_of_files(path: Path) -> Kind:
    """More than one section is a movie."""
    from halfmap.io.files import format_suffix
    from halfmap.io.movies import open_movie

    return "movies" if format_suffix(path) == ".eer" or open_movie(path).n_frames > 1 else "micrographs"


STEP = Step(
    name="import",
    summary="Read movies, micrographs, coordinates or particles of any program into one checked table.",
    options=ImportOptions,
    inputs=(Port("files", "table", "Image files, STAR files to join, or one .cs with its passthrough", many=True),),
    outputs=tuple(
        Port(kind, kind, f"{kind.capitalize()} with their optics", file=f"{kind}.star", optional=True)
        for kind in ("movies", "micrographs", "coordinates", "particles")
    ),
    run=run,
    failures=(Failure("nothing", "Not one file can be read.", "Check the names and see failures.json."),),
    example="halfmap import 'raw/*.tif' --pixel-size 1.1 --voltage 300 --cs 2.7 --out movies",
)
