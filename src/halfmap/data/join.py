"""Joining image sets: rows one after the other, each distinct optics group once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from halfmap.data.columns import NAME_COLUMN
from halfmap.data.records import ImageSet
from halfmap.data.table import Table, concatenate
from halfmap.errors import HalfmapError


def join_image_sets(sets: Sequence[ImageSet]) -> ImageSet:
    """Join image sets of one kind; groups of equal optics become one, others are renumbered.

    Raises
    ------
    HalfmapError
        If kinds or columns differ, or an image or particle occurs twice.
    """
    if len({images.kind for images in sets}) != 1:
        raise HalfmapError(f"image sets of different kinds cannot be joined: {[images.kind for images in sets]}")
    groups: dict[tuple[Any, ...], int] = {}
    optics: list[Table] = []
    rows: list[Table] = []
    for images in sets:
        numbers = []
        for position in range(len(images.optics)):
            group = images.optics.select([position])
            content = group.without(["optics_group", "optics_group_name"])
            key = tuple(
                sorted((name, value[0]) for name, value in (*content.columns.items(), *content.foreign.items()))
            )
            if key not in groups:
                groups[key] = len(groups) + 1
                number = groups[key]
                optics.append(group.with_columns(optics_group=[number], optics_group_name=[f"opticsGroup{number}"]))
            numbers.append(groups[key])
        rows.append(images.rows.with_columns(optics_group=np.array(numbers)[images.optics_index()]))
    joined = concatenate(rows)
    kind = sets[0].kind
    identity = NAME_COLUMN[kind] if kind in ("movies", "micrographs") else "uid"
    if identity in joined and len(set(joined[identity].tolist())) != len(joined):
        raise HalfmapError(f"the same {kind} stand in more than one file.", remedy="Give each of them once.")
    foreign = {name: block for images in sets for name, block in images.foreign_blocks.items()}
    return ImageSet(kind, joined, concatenate(optics), foreign)
