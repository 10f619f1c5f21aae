"""One micrograph from file to files: its CTF, a picture of the fit, and the curve."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfmap.ctffit.estimate import CtfEstimate, FitSettings, estimate_ctf
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import Spectrum, micrograph_spectrum
from halfmap.errors import BadInputError
from halfmap.fourier.periodogram import power_of_picture
from halfmap.io.mrc import read_image, write_image
from halfmap.io.star import StarBlock, write_star
from halfmap.typing import PathLike
from halfmap.units import DEG

SMALLEST_PX = 128


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


def process_micrograph(files: MicrographFiles, *, device: str) -> dict[str, Any]:
    """Fit one micrograph and write ``<stem>_ctf.mrc`` and ``<stem>_ctf.star``.

    Returns
    -------
    dict
        JSON-able figures, under names of ``data.columns`` where there are any.
    """
    spectrum = _spectrum(files, device)
    estimate = estimate_ctf(spectrum, files.microscope, files.settings)
    picture = f"{files.stem}_ctf.mrc"
    write_image(picture, estimate.picture, spectrum.pixel_size_A)
    write_curve(f"{files.stem}_ctf.star", files.micrograph, estimate)
    return {
        "defocus_u_A": estimate.defocus_u_A,
        "defocus_v_A": estimate.defocus_v_A,
        "defocus_angle_rad": estimate.defocus_angle_rad,
        "phase_shift_rad": estimate.phase_shift_rad,
        "ctf_figure_of_merit": estimate.figure_of_merit,
        "ctf_fit_resolution_A": estimate.fit_resolution_A,
        "ctf_image_name": picture,
        "evidence": estimate.evidence,
        "defocus_error_A": estimate.defocus_error_A,
        "astigmatism_error_A": estimate.astigmatism_error_A,
    }


def _spectrum(files: MicrographFiles, device: str) -> Spectrum:
    if files.power_spectrum is not None:
        amplitude, pixel_size_A = read_image(files.power_spectrum)
        if amplitude.shape[0] != amplitude.shape[1] or pixel_size_A is None:
            raise BadInputError(
                files.power_spectrum, "shape and pixel size", found=f"{amplitude.shape}, {pixel_size_A} Å",
                expected="a square picture with a pixel size",
                remedy="Fit the micrographs themselves with --no-power-spectra.",
            )  # fmt: skip
        return Spectrum(power_of_picture(amplitude), float(pixel_size_A))
    image, _ = read_image(files.micrograph)
    if min(image.shape) < SMALLEST_PX:
        raise BadInputError(
            files.micrograph, "shape (rows, columns)", found=image.shape, expected=f"at least {SMALLEST_PX} px each",
            remedy="Give a whole micrograph.",
        )  # fmt: skip
    micrograph = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32)).to(device)
    return micrograph_spectrum(micrograph, files.pixel_size_A)


def write_curve(path: PathLike, micrograph: Path, estimate: CtfEstimate) -> None:
    """Write a fit with its errors, the curve of spectrum and fit, and the other candidates."""
    curve = estimate.curve
    write_star(
        path,
        {
            "ctf_fit": StarBlock.pairs(
                rlnMicrographName=str(micrograph),
                rlnDefocusU=estimate.defocus_u_A,
                rlnDefocusV=estimate.defocus_v_A,
                rlnDefocusAngle=estimate.defocus_angle_rad / DEG,
                rlnPhaseShift=estimate.phase_shift_rad / DEG,
                rlnCtfFigureOfMerit=estimate.figure_of_merit,
                rlnCtfMaxResolution=estimate.fit_resolution_A,
                halfmapEvidence=estimate.evidence,
                halfmapDefocusError=estimate.defocus_error_A,
                halfmapAstigmatismError=estimate.astigmatism_error_A,
                halfmapPhaseShiftError=estimate.phase_shift_error_rad / DEG,
            ),
            "ctf_curve": {
                "halfmapFrequency": curve.frequency_per_A,
                "halfmapSpectrum": curve.spectrum,
                "halfmapFit": curve.fit,
                "halfmapCorrelation": curve.correlation,
            },
            "ctf_candidates": {
                "halfmapDefocus": [c.defocus_A for c in estimate.candidates],
                "halfmapAstigmatismX": [c.astigmatism_x_A for c in estimate.candidates],
                "halfmapAstigmatismY": [c.astigmatism_y_A for c in estimate.candidates],
                "rlnPhaseShift": [c.phase_shift_rad / DEG for c in estimate.candidates],
                "halfmapScore": [c.score for c in estimate.candidates],
            },
        },
    )
