"""Names of files in tables: where they are found, and how outputs are called after inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from halfmap.errors import BadInputError, HalfmapError

if TYPE_CHECKING:
    from halfmap.data.records import ImageSet

FILE_COLUMNS = (
    "movie_name", "micrograph_name", "image_name", "original_image_name", "micrograph_metadata",
    "micrograph_unweighted_name", "micrograph_odd_name", "micrograph_even_name", "power_spectrum_name",
    "ctf_image_name", "gain_name",
)  # fmt: skip


def located(images: ImageSet, star: Path) -> ImageSet:
    """Rewrite the names of files so that they open from the current folder.

    A name is looked for as RELION does, from the current folder, then below the folder of the STAR
    file and each folder above it. A name that is found nowhere stays: the step reports the item.
    """
    from halfmap.io.paths import resolve_path

    found: dict[str, str] = {}

    def locate(name: str) -> str:
        slot, at, file = name.rpartition("@")
        if file not in found:
            try:
                found[file] = str(resolve_path(file, star)) if file not in ("", "None") else file
            except BadInputError as error:
                if not str(error.found).startswith("not there"):
                    raise
                found[file] = file
        return f"{slot}{at}{found[file]}"

    columns = {c: [locate(n) for n in images.rows[c].tolist()] for c in FILE_COLUMNS if c in images.rows}
    return images.with_columns(**columns)


def output_stems(names: Sequence[str]) -> list[str]:
    """File stems for the outputs of each input file: distinct, and short where possible.

    >>> output_stems(["raw/a.tif", "raw/b.tif"]), output_stems(["day1/a.tif", "day2/a.tif"])
    (['a', 'b'], ['day1_a', 'day2_a'])
    """
    paths = [Path(name.removesuffix(".gz").removesuffix(".bz2")) for name in names]
    for depth in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        stems = ["_".join([*path.parts[-depth:-1], path.stem]).replace("/", "") for path in paths]
        if len(set(stems)) == len(stems):
            return stems
    repeated = [name for name, count in Counter(names).items() if count > 1]
    raise HalfmapError(f"inputs would have the same output names: {repeated or names}.", remedy="Give each file once.")
