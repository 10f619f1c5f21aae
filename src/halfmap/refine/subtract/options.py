"""Options of signal subtraction."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from halfmap.options import Options, option

Storage = Literal["float32", "float16"]


class SubtractOptions(Options):
    """What is taken out of the images, and how they are written."""

    map: Path = option(..., help="The map that the poses belong to, filtered but not sharpened: map.mrc of refine.")
    mask: Path = option(..., help="Soft mask of the part to keep, on the grid of the map.")
    diameter_A: float | None = option(
        None, help="Diameter of the whole particle; the one in the table, or three quarters of the box, if not given.",
        gt=0,
    )  # fmt: skip
    recentre: bool = option(False, help="Put the middle of the mask into the middle of the new boxes and of the map.")
    box_px: int | None = option(
        None, help="Edge of the new boxes in pixels of the map; images of other pixels get the same length. "
        "The box as it is if not given.", ge=16, le=4096, multiple_of=2,
    )  # fmt: skip
    storage: Storage = option("float32", help="Number format of the new stacks; float16 takes half the space.")
