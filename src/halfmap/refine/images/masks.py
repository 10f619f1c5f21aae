"""Masks as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.errors import BadInputError
from halfmap.io.mrc import read_volume
from halfmap.refine.images.lattice import MapGrid


def read_mask(path: Path, grid: MapGrid, whose: str = "particles") -> Float[Tensor, "z y x"]:
    """A mask between 0 and 1 on a grid, which is that of the particles or of what ``whose`` names.

    Raises
    ------
    BadInputError
        If box, pixel size or values do not fit.
    """
    volume = read_volume(path)
    box = volume.data.shape
    if box != (grid.box_px,) * 3:
        raise BadInputError(path, "box", found=str(box), expected=f"{grid.box_px} in each direction, as the {whose}",
                            remedy=f"Make the mask on the grid of the {whose}.")  # fmt: skip
    if abs(volume.pixel_size_A / grid.pixel_size_A - 1) > PIXEL_SIZE_TOLERANCE:
        ratio = volume.pixel_size_A / grid.pixel_size_A
        raise BadInputError(path, "pixel size", found=f"{volume.pixel_size_A:g} Å",
                            expected=f"{grid.pixel_size_A:g} Å as the {whose} (ratio {ratio:.4f})",
                            remedy=f"Make the mask on the grid of the {whose}.")  # fmt: skip
    low, high = float(np.min(volume.data)), float(np.max(volume.data))
    if not (low >= -1e-3 and high <= 1 + 1e-3 and high > 0.5):
        raise BadInputError(path, "values", found=f"{low:g} to {high:g}", expected="0 to 1",
                            remedy="Give a soft mask.")  # fmt: skip
    return torch.as_tensor(np.array(volume.data, dtype=np.float32)).clamp(0.0, 1.0)
