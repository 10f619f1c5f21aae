"""The tables of a session: from micrographs to one task each, and from results to columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from halfmap.ctffit.estimate import FitSettings
from halfmap.ctffit.files import MicrographFiles
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.options import CtfOptions
from halfmap.data.records import ImageSet

RESULT_COLUMNS: Final = (
    "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "ctf_figure_of_merit", "ctf_fit_resolution_A", "ctf_image_name",
)  # fmt: skip


def micrograph_files(micrographs: ImageSet, stems: Sequence[Path], options: CtfOptions) -> list[MicrographFiles]:
    """One task a micrograph, with the constants of its optics group."""
    pixel = micrographs.pixel_size_A()
    voltage, cs, amplitude = (micrographs[name] for name in ("voltage_kV", "cs_mm", "amplitude_contrast"))
    stored = options.power_spectra and "power_spectrum_name" in micrographs
    spectra = micrographs["power_spectrum_name"].tolist() if stored else ["None"] * len(micrographs)
    settings = FitSettings(
        min_resolution_A=options.min_resolution_A,
        max_resolution_A=options.max_resolution_A,
        min_defocus_A=options.min_defocus_A,
        max_defocus_A=options.max_defocus_A,
        max_astigmatism_A=options.max_astigmatism_A,
        phase_shift=options.phase_shift,
    )
    return [
        MicrographFiles(
            micrograph=Path(name),
            power_spectrum=Path(spectra[i]) if spectra[i] not in ("", "None") else None,
            stem=stems[i],
            pixel_size_A=float(pixel[i]),
            microscope=Microscope(float(voltage[i]), float(cs[i]), float(amplitude[i])),
            settings=settings,
        )
        for i, name in enumerate(micrographs["micrograph_name"].tolist())
    ]


def with_ctf(micrographs: ImageSet, done: Sequence[tuple[int, Mapping[str, Any]]], options: CtfOptions) -> ImageSet:
    """The micrographs that were fitted, with the columns of their CTF; all others pass through."""
    fitted = micrographs.select([index for index, _ in done])
    names = (*RESULT_COLUMNS, "phase_shift_rad") if options.phase_shift else RESULT_COLUMNS
    return fitted.with_columns(**{name: [value[name] for _, value in done] for name in names})
