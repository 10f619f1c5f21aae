"""Options of making a mask and of post-processing."""

from __future__ import annotations

from pathlib import Path

from halfmap.geometry.options import SymmetryOptions
from halfmap.options import option
from halfmap.validation.options import MaskOptions


class PostprocessOptions(MaskOptions):
    """How two half-maps become one sharpened map."""

    mask: Path | None = option(None, help="Mask with values 0 to 1; made from the half-maps if not given.")
    b_factor_A2: float | None = option(
        None, help="B factor to sharpen by (positive sharpens); from the Guinier plot if not given.", ge=-2000, le=2000
    )
    b_factor_fit_from_A: float = option(
        10.0, help="Resolution from which on the Guinier plot is fitted.", advanced=True, gt=1, le=100
    )
    low_pass_A: float | None = option(
        None, help="Resolution of the final low-pass filter; the map's own if not given.", advanced=True, gt=0, le=200
    )


class CompareOptions(SymmetryOptions, MaskOptions):
    """How a map is compared with a reference."""

    either_hand: bool = option(True, help="Try the mirrored map too, and say which hand fits.")
    align_resolution_A: float = option(
        25.0, help="Resolution at which all rotations are tried.", advanced=True, gt=2, le=200
    )
