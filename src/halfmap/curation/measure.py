"""What of a micrograph only its pixels tell."""

from __future__ import annotations

import numpy as np

from halfmap.io.files import check_pixels
from halfmap.io.mrc import read_image


def measure_micrograph(name: str) -> dict[str, float]:
    """Mean and standard deviation of the grey values of a micrograph.

    Raises
    ------
    BadInputError
        The file cannot be read, or holds no image.
    """
    image, _ = read_image(name)
    check_pixels(image, name, "pixels")
    return {"mean": float(np.mean(image, dtype=np.float64)), "spread": float(np.std(image, dtype=np.float64))}
