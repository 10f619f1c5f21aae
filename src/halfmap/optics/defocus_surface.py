"""Defocus as a smooth surface over a micrograph: one polynomial, for the fit and for every particle on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from halfmap.typing import Array, FloatArray

SURFACE_COLUMNS: Final = (
    "defocus_slope_x", "defocus_slope_y", "defocus_xx_per_A", "defocus_xy_per_A", "defocus_yy_per_A",
    "surface_centre_x_px", "surface_centre_y_px",
)  # fmt: skip
"""Columns of a micrograph that hold its surface: terms of the polynomial in this order, then its origin."""


def surface_terms(x_A: FloatArray, y_A: FloatArray) -> FloatArray:
    """``[n, 5]`` x, y, x², xy, y²: the terms whose coefficients the columns hold."""
    return np.stack([x_A, y_A, x_A * x_A, x_A * y_A, y_A * y_A], axis=-1)


@dataclass(frozen=True)
class DefocusSurface:
    """Defocus over that at the centre of a micrograph, ``Σ c_i · term_i(x, y)``, underfocus positive.

    A place nearer to the electron source has less underfocus: the height of the specimen above the
    plane through its centre, along an axis towards the source, is minus this offset.
    """

    coefficients: tuple[float, float, float, float, float]
    """Slopes along x and y in Å per Å, and the coefficients of x², xy and y² in 1/Å."""
    centre_px: tuple[float, float]
    """Pixel (x, y) at which the offset is zero."""

    @property
    def tilt_rad(self) -> float:
        """Angle between the specimen at the centre and the image plane."""
        return float(np.arctan(np.hypot(*self.coefficients[:2])))

    @property
    def tilt_axis_rad(self) -> float:
        """Direction of the tilt axis from x to y in [0, π): the line along which defocus stays the same."""
        return float((np.arctan2(self.coefficients[1], self.coefficients[0]) + 0.5 * np.pi) % np.pi)

    def offset_A(self, x_px: FloatArray, y_px: FloatArray, pixel_size_A: FloatArray | float) -> FloatArray:
        """Defocus over that at the centre, at places in px from the first pixel."""
        x_A = (np.asarray(x_px, np.float64) - self.centre_px[0]) * pixel_size_A
        y_A = (np.asarray(y_px, np.float64) - self.centre_px[1]) * pixel_size_A
        return np.asarray(surface_terms(x_A, y_A) @ np.array(self.coefficients))

    def columns(self) -> dict[str, float]:
        """The surface as values of ``SURFACE_COLUMNS``."""
        return dict(zip(SURFACE_COLUMNS, (*self.coefficients, *self.centre_px), strict=True))


def surface_offsets_A(
    columns: Mapping[str, Array], x_px: FloatArray, y_px: FloatArray, pixel_size_A: FloatArray
) -> FloatArray:
    """Offsets ``[n]`` of places each of which has a surface of its own in ``SURFACE_COLUMNS``."""
    values = np.stack([np.asarray(columns[name], np.float64) for name in SURFACE_COLUMNS], axis=-1)
    terms = surface_terms((x_px - values[:, 5]) * pixel_size_A, (y_px - values[:, 6]) * pixel_size_A)
    return np.asarray((terms * values[:, :5]).sum(axis=-1))
