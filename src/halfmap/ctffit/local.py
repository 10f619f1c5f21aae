"""How defocus changes over a micrograph, beside the CTF of the whole."""

from __future__ import annotations

from dataclasses import replace

from halfmap.ctffit.estimate import CtfEstimate, FitSettings
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.surface import LocalDefocus, fit_surface
from halfmap.ctffit.tiles import large_enough, tiles_of
from halfmap.typing import FloatArray


def local_defocus(
    micrograph: FloatArray, pixel_size_A: float, microscope: Microscope, settings: FitSettings, estimate: CtfEstimate
) -> LocalDefocus | None:
    """Surface of defocus of a micrograph ``[y, x]``; None if it is too small for tiles, or has no rings."""
    shape = micrograph.shape[0], micrograph.shape[1]
    if not estimate.has_rings or not large_enough(shape):
        return None
    tiles = tiles_of(micrograph, pixel_size_A, settings.min_resolution_A, settings.max_resolution_A)
    return fit_surface(tiles, microscope, estimate.parameters, (float(shape[1] // 2), float(shape[0] // 2)))


def centred(estimate: CtfEstimate, local: LocalDefocus | None) -> CtfEstimate:
    """The estimate with the defocus that a surface has at the centre, if there is one that is not level."""
    if local is None or local.kind == "level":
        return estimate
    shift_A = local.mean_defocus_A - float(estimate.parameters[0])
    return replace(
        estimate,
        defocus_u_A=estimate.defocus_u_A + shift_A,
        defocus_v_A=estimate.defocus_v_A + shift_A,
        defocus_error_A=local.defocus_error_A,
    )
