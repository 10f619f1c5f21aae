"""RELION's picks as a list of one STAR file a micrograph (``data_coordinate_files``), joined into one table."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from halfmap.errors import BadInputError
from halfmap.io.paths import resolve_path
from halfmap.io.star import StarBlock, Types, as_types, read_star

COORDINATE_FILES = "coordinate_files"
_LIST_LABELS = ("rlnMicrographName", "rlnMicrographCoordinates")
_POSITIONS = {"rlnCoordinateX", "rlnCoordinateY"}


def join_coordinate_files(listed: StarBlock, types: Types, path: Path) -> StarBlock:
    """One row a pick, with ``rlnMicrographName``, in the order of the list; files without picks add none.

    Raises
    ------
    BadInputError
        A listed file is missing, holds no coordinates, or has other columns than the ones before it.
    """
    absent = [label for label in _LIST_LABELS if label not in listed]
    if absent:
        raise BadInputError(
            path, f"data_{COORDINATE_FILES}", found=f"without {absent}", expected="micrographs and their files",
            remedy="Give the autopick.star or manualpick.star of a RELION job.",
        )  # fmt: skip
    parts: list[StarBlock] = []
    for micrograph, name in zip(*(listed[label].tolist() for label in _LIST_LABELS), strict=True):
        file = resolve_path(name, path)
        blocks = [block for block in read_star(file).values() if set(block) >= _POSITIONS]
        if len(blocks) != 1:
            raise BadInputError(
                file, "coordinates", found=f"in {len(blocks)} blocks", expected="rlnCoordinateX and Y in one",
                remedy="Pick this micrograph again.",
            )  # fmt: skip
        block = as_types(blocks[0], types, file, "coordinates")
        if block.n_rows == 0:
            continue
        names = np.full(block.n_rows, micrograph, dtype=object)
        parts.append(StarBlock({**block, "rlnMicrographName": names}))
        if set(parts[-1]) != set(parts[0]):
            raise BadInputError(
                file, "columns", found=sorted(parts[-1]), expected=f"{sorted(parts[0])} as in the files before it",
                remedy="Leave the file out of the list, or pick this micrograph again.",
            )  # fmt: skip
    if not parts:
        raise BadInputError(path, "coordinates", found="none", expected="some", remedy="Pick some particles.")
    return StarBlock({label: np.concatenate([part[label] for part in parts]) for label in parts[0]})
