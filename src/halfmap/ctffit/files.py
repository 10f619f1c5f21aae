"""One micrograph from file to files: its CTF, a picture of the fit, and the curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.ctffit.estimate import CtfEstimate, FitSettings, estimate_ctf
from halfmap.ctffit.ice import ice_signal
from halfmap.ctffit.local import local_defocus, with_surface
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.record import estimate_values, ice_values, surface_values, write_fit
from halfmap.ctffit.spectrum import Spectrum, micrograph_spectrum
from halfmap.ctffit.thickness import NO_NODES, thickness_from_nodes
from halfmap.errors import BadInputError
from halfmap.fourier.periodogram import power_of_picture
from halfmap.io.mrc import read_image, write_image
from halfmap.typing import FloatArray

SMALLEST_PX = 128
RESOLVED = 0.75
"""Rings are well resolved whose lag is at most this share of the box that the grid belongs to; they alias at 1."""
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


def process_micrograph(files: MicrographFiles, *, device: str) -> dict[str, Any]:
    """Fit one micrograph and write ``<stem>_ctf.mrc`` and ``<stem>_ctf.star``.

    Returns
    -------
    dict
        JSON-able figures, under names of ``data.columns`` where there are any.
    """
    micrograph = _micrograph(files.micrograph) if files.local or files.power_spectrum is None else None
    spectrum = _spectrum(files, micrograph, device)
    estimate = estimate_ctf(spectrum, files.microscope, files.settings)
    if micrograph is not None:
        image = torch.from_numpy(micrograph).to(device)
        spectrum, estimate = on_finer_grid(
            image, files.pixel_size_A, spectrum, estimate, files.microscope, files.settings
        )
    local = None
    if files.local and micrograph is not None:
        local = local_defocus(micrograph, files.pixel_size_A, files.microscope, files.settings, estimate)
    if local is not None and micrograph is not None:
        estimate = with_surface(estimate, local, micrograph, files.pixel_size_A, files.microscope, files.settings)
    picture = f"{files.stem}_ctf.mrc"
    write_image(picture, estimate.picture, spectrum.pixel_size_A)
    ice = ice_signal(spectrum, files.microscope, estimate.parameters)
    thickness = thickness_from_nodes(estimate.curve, files.microscope) if estimate.has_rings else NO_NODES
    values = {
        **estimate_values(estimate),
        **surface_values(local),
        **ice_values(ice, thickness),
        "ctf_image_name": picture,
    }
    write_fit(f"{files.stem}_ctf.star", files.micrograph, values, estimate)
    return values


def on_finer_grid(
    micrograph: Float[Tensor, "y x"],
    pixel_size_A: float,
    spectrum: Spectrum,
    estimate: CtfEstimate,
    microscope: Microscope,
    settings: FitSettings,
) -> tuple[Spectrum, CtfEstimate]:
    """Fit again where the defocus is so large that the grid does not resolve the rings of the fit.

    The grid is doubled until rings at ``max_resolution_A`` are well resolved, or the micrograph has no more to tell. A
    stored spectrum cannot be refined: then the micrograph's own is taken, if it shows rings further out.

    Parameters
    ----------
    micrograph, pixel_size_A
        The image, and its pixel size.
    spectrum, estimate
        What was fitted, and the fit.
    microscope, settings
        Constants and limits of the fit.

    Returns
    -------
    The spectrum and the fit that reach further.
    """
    finest = np.array([1.0 / settings.max_resolution_A])
    lag_A = float(microscope.lag_A(finest**2, float(estimate.parameters[0]))[0])
    own_A, box_px = spectrum.length_A, spectrum.power.shape[0]
    while lag_A > RESOLVED * own_A and 2 * box_px <= min(LARGEST_GRID_PX, *micrograph.shape):
        own_A, box_px = 2.0 * own_A, 2 * box_px
    if box_px == spectrum.power.shape[0]:
        return spectrum, estimate
    finer = micrograph_spectrum(micrograph, pixel_size_A, box_px)
    again = estimate_ctf(finer, microscope, settings)
    return (finer, again) if again.fit_resolution_A < estimate.fit_resolution_A else (spectrum, estimate)


def _micrograph(path: Path) -> FloatArray:
    image, _ = read_image(path)
    if min(image.shape) < SMALLEST_PX:
        raise BadInputError(
            path, "shape (rows, columns)", found=image.shape, expected=f"at least {SMALLEST_PX} px each",
            remedy="Give a whole micrograph.",
        )  # fmt: skip
    return np.ascontiguousarray(image, dtype=np.float32)


def _spectrum(files: MicrographFiles, micrograph: FloatArray | None, device: str) -> Spectrum:
    if files.power_spectrum is None:
        return micrograph_spectrum(torch.from_numpy(micrograph).to(device), files.pixel_size_A)
    amplitude, pixel_size_A = read_image(files.power_spectrum)
    if amplitude.shape[0] != amplitude.shape[1] or pixel_size_A is None:
        raise BadInputError(
            files.power_spectrum, "shape and pixel size", found=f"{amplitude.shape}, {pixel_size_A} Å",
            expected="a square picture with a pixel size",
            remedy="Fit the micrographs themselves with --no-power-spectra.",
        )  # fmt: skip
    return Spectrum(power_of_picture(amplitude), float(pixel_size_A))
