"""How defocus changes over a micrograph, beside the CTF of the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from halfmap.ctffit.estimate import CtfEstimate, FitSettings
from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.quality import FEWEST_IN_BIN, Curve, fit_resolution_A, same_phase_squared, windowed_correlation
from halfmap.ctffit.surface import LocalDefocus, fit_surface
from halfmap.ctffit.tiles import Tiles, large_enough, tile_length_A, tiles_of
from halfmap.fourier.periodogram import FINEST_PIXEL_A
from halfmap.optics.defocus_surface import surface_terms
from halfmap.typing import FloatArray

FINEST_A: Final = 2.0 * FINEST_PIXEL_A
BINS_PER_EDGE: Final = 1.5
"""Bins of the curve of all tiles, in steps of the frequency of one tile."""


def local_defocus(
    micrograph: FloatArray, pixel_size_A: float, microscope: Microscope, settings: FitSettings, estimate: CtfEstimate
) -> LocalDefocus | None:
    """Surface of defocus of a micrograph ``[y, x]``; None if it is too small for tiles, or has no rings."""
    shape = micrograph.shape[0], micrograph.shape[1]
    if not estimate.has_rings or not large_enough(shape):
        return None
    length_A = tile_length_A(microscope, float(estimate.parameters[0]))
    tiles = tiles_of(micrograph, pixel_size_A, settings.min_resolution_A, settings.max_resolution_A, length_A)
    return fit_surface(tiles, microscope, estimate.parameters, (float(shape[1] // 2), float(shape[0] // 2)))


def with_surface(
    estimate: CtfEstimate,
    local: LocalDefocus,
    micrograph: FloatArray,
    pixel_size_A: float,
    microscope: Microscope,
    settings: FitSettings,
) -> CtfEstimate:
    """The estimate with the defocus at the centre of a surface, and rings that follow the surface.

    A level surface changes nothing. On a tilted specimen the rings of the whole micrograph blur, and the
    fit seems to end early; the curve of all tiles, each at its own defocus, is taken where it
    reaches farther.
    """
    if local.kind == "level":
        return estimate
    shift_A = local.mean_defocus_A - float(estimate.parameters[0])
    moved = replace(
        estimate,
        defocus_u_A=estimate.defocus_u_A + shift_A,
        defocus_v_A=estimate.defocus_v_A + shift_A,
        defocus_error_A=local.defocus_error_A,
    )
    length_A = tile_length_A(microscope, float(moved.parameters[0]))
    tiles = tiles_of(micrograph, pixel_size_A, settings.min_resolution_A, FINEST_A, length_A)
    curve = surface_curve(tiles, microscope, moved.parameters, local)
    reached_A = fit_resolution_A(curve)
    if reached_A >= estimate.fit_resolution_A:
        return moved
    return replace(moved, curve=curve, fit_resolution_A=reached_A)


def surface_curve(tiles: Tiles, microscope: Microscope, parameters: FloatArray, local: LocalDefocus) -> Curve:
    """Spectrum and rings of all tiles along lines of equal phase, each tile at the defocus of the surface."""
    mean, shift = float(parameters[0]), float(parameters[3])
    at_tile = mean + surface_terms(tiles.x_A, tiles.y_A) @ np.array(local.surface.coefficients)
    along = parameters[1] * np.cos(2 * tiles.direction_rad) + parameters[2] * np.sin(2 * tiles.direction_rad)
    defocus = at_tile[:, None, None] + along[None, :, None]
    squared = np.broadcast_to(tiles.frequency_squared, tiles.value.shape)
    frequency = np.sqrt(same_phase_squared(squared, defocus, mean, microscope))
    weight = np.broadcast_to(tiles.count, tiles.value.shape)
    number = np.rint(frequency * (BINS_PER_EDGE * tiles.edge_A)).astype(np.int64)
    place = np.unique(number.ravel(), return_inverse=True)[1]
    count = np.bincount(place, weight.ravel())
    enough = count >= FEWEST_IN_BIN * len(tiles)
    safe = np.maximum(count, 1.0)
    spectrum = (np.bincount(place, (weight * tiles.value).ravel()) / safe)[enough]
    centre = (np.bincount(place, (weight * frequency).ravel()) / safe)[enough]
    lag = microscope.lag_A(centre**2, mean)
    fit = -np.cos(2.0 * microscope.phase_rad(centre**2, mean, shift)) * fading(lag, 0.0, tiles.edge_A)
    for slope in local.surface.coefficients[:2]:
        fit = fit * np.sinc(microscope.wavelength_A * centre**2 * slope * tiles.edge_A)
    return Curve(centre, spectrum, fit, windowed_correlation(centre, spectrum, fit, lag, count[enough]))
