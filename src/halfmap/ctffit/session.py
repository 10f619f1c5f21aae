"""The tables of a session: from micrographs to one task each, and from results to columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from halfmap.ctffit.estimate import FitSettings
from halfmap.ctffit.files import MicrographFiles
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.options import CtfOptions
from halfmap.ctffit.record import NOT_FITTED
from halfmap.data.records import ImageSet
from halfmap.optics.defocus_surface import SURFACE_COLUMNS

RESULT_COLUMNS: Final = (
    "defocus_u_A", "defocus_v_A", "astigmatism_A", "defocus_angle_rad", "ctf_figure_of_merit", "ctf_fit_resolution_A",
    "ctf_evidence", "ctf_margin", "ice_ring_density", "relative_ice_thickness", "sample_thickness_A", "ctf_image_name",
)  # fmt: skip
LOCAL_COLUMNS: Final = (
    *SURFACE_COLUMNS, "specimen_tilt_rad", "specimen_tilt_axis_rad", "specimen_tilt_error_rad",
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
            local=options.local,
        )
        for i, name in enumerate(micrographs["micrograph_name"].tolist())
    ]


def with_ctf(micrographs: ImageSet, done: Sequence[tuple[int, Mapping[str, Any]]], options: CtfOptions) -> ImageSet:
    """The micrographs that were fitted, with the columns of their CTF; all others pass through."""
    fitted = micrographs.select([index for index, _ in done])
    names = RESULT_COLUMNS + ("phase_shift_rad",) * options.phase_shift + LOCAL_COLUMNS * options.local
    return fitted.with_columns(**{name: [value[name] for _, value in done] for name in names})


def figures_of(fits: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a session says in a few numbers."""
    resolutions = sorted(fit["ctf_fit_resolution_A"] for fit in fits)
    figures: dict[str, Any] = {
        "median_fit_resolution_A": resolutions[len(resolutions) // 2],
        "without_rings": sum(not fit["has_rings"] for fit in fits),
        "ambiguous": sum(fit["has_rings"] and fit["ambiguous"] for fit in fits),
    }
    surfaces = Counter(fit["defocus_surface"] for fit in fits)
    for kind in ("plane", "curved", "level", NOT_FITTED):
        figures[f"surface_{kind.replace(' ', '_')}"] = surfaces[kind]
    return figures


def warnings_of(fits: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know before using the fits."""
    figures, warnings = figures_of(fits), []
    if figures["without_rings"]:
        warnings.append(
            f"{figures['without_rings']} of {len(fits)} micrographs show no rings; their defocus means nothing"
        )
    if figures["ambiguous"]:
        warnings.append(
            f"{figures['ambiguous']} of {len(fits)} micrographs fit two CTFs nearly equally well; "
            "look at them, or narrow the range of defocus"
        )
    return warnings
