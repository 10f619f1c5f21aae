"""One micrograph from file to files: its CTF, a picture of the fit, and the curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.ctffit.estimate import CtfEstimate, FitSettings, estimate_ctf, estimate_with_nodes, refined_estimate
from halfmap.ctffit.ice import ice_signal
from halfmap.ctffit.local import local_defocus, with_surface
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.record import estimate_values, ice_values, surface_values, write_fit
from halfmap.ctffit.spectrum import Spectrum, micrograph_power, spectrum_of_power
from halfmap.ctffit.thick import estimate_of_thick_specimen
from halfmap.ctffit.thickness import CLEARLY, NO_NODES, Thickness, thickness_from_nodes
from halfmap.errors import BadInputError
from halfmap.fourier.periodogram import FINEST_PIXEL_A, power_of_picture
from halfmap.io.mrc import read_image, write_image
from halfmap.typing import FloatArray

SMALLEST_PX = 128
SEEN = 0.75
"""Rings can be seen whose lag is at most this share of the box that the grid belongs to; they alias at 1."""
RESOLVED = 0.3
"""Up to this share, rings lose no more than a tenth of their height to the grid."""
WELL_RESOLVED = 0.25
LARGEST_GRID_PX = 2048


@dataclass(frozen=True)
class MicrographFiles:
    """One micrograph, its stored spectrum if there is one, and the stem of what is made of it."""

    micrograph: Path
    power_spectrum: Path | None
    stem: Path
    """Path of the outputs without their endings."""
    pixel_size_A: float
    microscope: Microscope
    settings: FitSettings
    local: bool
    """Whether to fit how defocus changes over the micrograph."""


def process_micrograph(files: MicrographFiles) -> dict[str, Any]:
    """Fit one micrograph and write ``<stem>_ctf.mrc`` and ``<stem>_ctf.star``.

    Returns
    -------
    dict
        JSON-able figures, under names of ``data.columns`` where there are any.
    """
    micrograph = _micrograph(files.micrograph) if files.local or files.power_spectrum is None else None
    spectrum, power = _spectrum(files, micrograph)
    estimate = estimate_ctf(spectrum, files.microscope, files.settings)
    if micrograph is not None:
        image = torch.from_numpy(micrograph)
        spectrum, estimate = on_finer_grid(
            image, files.pixel_size_A, spectrum, estimate, files.microscope, files.settings, power
        )
    estimate = estimate_of_thick_specimen(estimate, spectrum, files.microscope, files.settings)
    seen = thickness_of(estimate, files.microscope)
    if seen.improvement >= CLEARLY:
        estimate = estimate_with_nodes(estimate, spectrum, files.microscope, files.settings, seen.thickness_A)
    local = None
    if files.local and micrograph is not None:
        local = local_defocus(micrograph, files.pixel_size_A, files.microscope, files.settings, estimate)
    if local is not None and micrograph is not None:
        estimate = with_surface(estimate, local, micrograph, files.pixel_size_A, files.microscope, files.settings)
    picture = f"{files.stem}_ctf.mrc"
    write_image(picture, estimate.picture, spectrum.pixel_size_A)
    ice = ice_signal(spectrum, files.microscope, estimate.parameters)
    thickness = thickness_of(estimate, files.microscope)
    values = {
        **estimate_values(estimate),
        **surface_values(local),
        **ice_values(ice, thickness),
        "ctf_image_name": picture,
    }
    write_fit(f"{files.stem}_ctf.star", files.micrograph, values, estimate)
    return values


def thickness_of(estimate: CtfEstimate, microscope: Microscope) -> Thickness:
    """Thickness by the nodes of an estimate's curve; not a number where there are no rings or no nodes."""
    return thickness_from_nodes(estimate.curve, microscope) if estimate.has_rings else NO_NODES


def on_finer_grid(
    micrograph: Float[Tensor, "y x"],
    pixel_size_A: float,
    spectrum: Spectrum,
    estimate: CtfEstimate,
    microscope: Microscope,
    settings: FitSettings,
    power: Float[Tensor, "y half"] | None = None,
) -> tuple[Spectrum, CtfEstimate]:
    """Fit again where the defocus is so large that the grid does not resolve the rings of the fit.

    Where rings at ``max_resolution_A`` cannot be seen, the grid is doubled until they can, or until the micrograph has
    no more to tell, and all is done again. Where they can be seen but are faded, the fit is refined on a finer grid.
    A stored spectrum cannot be refined: then the micrograph's own is taken, if it shows rings further out or leaves
    less error.

    Parameters
    ----------
    micrograph, pixel_size_A
        The image, and its pixel size.
    spectrum, estimate
        What was fitted, and the fit.
    microscope, settings
        Constants and limits of the fit.
    power
        Of the micrograph (``micrograph_power``), if it is known already.

    Returns
    -------
    The spectrum and the fit that reach further.
    """
    lag_A, own_A, box_px = _lag_A(estimate, microscope, settings), spectrum.length_A, spectrum.power.shape[0]
    if lag_A <= RESOLVED * own_A:
        return spectrum, estimate
    power = micrograph_power(micrograph) if power is None else power
    while lag_A > SEEN * own_A and 2 * box_px <= min(LARGEST_GRID_PX, *micrograph.shape):
        own_A, box_px = 2.0 * own_A, 2 * box_px
    if box_px > spectrum.power.shape[0]:
        finer = spectrum_of_power(power, micrograph.shape, pixel_size_A, box_px)
        again = estimate_ctf(finer, microscope, settings)
        if again.fit_resolution_A < estimate.fit_resolution_A:
            spectrum, estimate = finer, again
    cell_A = max(pixel_size_A, FINEST_PIXEL_A)
    wanted_A = min(_lag_A(estimate, microscope, settings) / WELL_RESOLVED, pixel_size_A * min(micrograph.shape))
    box_px = min(2 * int(wanted_A / (2.0 * cell_A)), LARGEST_GRID_PX)
    if not estimate.has_rings or box_px * cell_A <= spectrum.length_A:
        return spectrum, estimate
    finer = spectrum_of_power(power, micrograph.shape, pixel_size_A, box_px)
    return spectrum, refined_estimate(estimate, finer, microscope, settings)


def _lag_A(estimate: CtfEstimate, microscope: Microscope, settings: FitSettings) -> float:
    """Lag of the finest rings of a fit."""
    finest = np.array([1.0 / settings.max_resolution_A])
    return float(microscope.lag_A(finest**2, float(estimate.parameters[0]))[0])


def _micrograph(path: Path) -> FloatArray:
    image, _ = read_image(path)
    if min(image.shape) < SMALLEST_PX:
        raise BadInputError(
            path, "shape (rows, columns)", found=image.shape, expected=f"at least {SMALLEST_PX} px each",
            remedy="Give a whole micrograph.",
        )  # fmt: skip
    return np.ascontiguousarray(image, dtype=np.float32)


def _spectrum(files: MicrographFiles, micrograph: FloatArray | None) -> tuple[Spectrum, Float[Tensor, "y half"] | None]:
    """The stored spectrum, or that of the micrograph with the full power that it was made from."""
    if files.power_spectrum is None:
        image = torch.from_numpy(micrograph)
        power = micrograph_power(image)
        return spectrum_of_power(power, image.shape, files.pixel_size_A), power
    amplitude, pixel_size_A = read_image(files.power_spectrum)
    if amplitude.shape[0] != amplitude.shape[1] or pixel_size_A is None:
        raise BadInputError(
            files.power_spectrum, "shape and pixel size", found=f"{amplitude.shape}, {pixel_size_A} Å",
            expected="a square picture with a pixel size",
            remedy="Fit the micrographs themselves with --no-power-spectra.",
        )  # fmt: skip
    return Spectrum(power_of_picture(amplitude), float(pixel_size_A)), None
