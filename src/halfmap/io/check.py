"""A first look at image files: whether one opens, and how many images it holds."""

from __future__ import annotations

from halfmap.data.columns import Kind
from halfmap.io.files import existing_file, format_suffix
from halfmap.io.movies import open_movie
from halfmap.io.mrc import open_stack


def check_image_file(name: str, *, kind: Kind) -> dict[str, int]:
    """Open a file (its header, not its pixels) and return its number of images.

    EER movies are looked for only: how many frames they have depends on how they are grouped.

    Raises
    ------
    BadInputError
        If it cannot be opened.
    """
    if format_suffix(name) == ".eer":
        existing_file(name)
        return {"images": 1}
    if kind == "particles":
        return {"images": open_stack(name).n}
    return {"images": open_movie(name).n_frames}
