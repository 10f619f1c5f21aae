"""What is written about the fit of one micrograph: values of the table, and a STAR file with everything else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from halfmap.ctffit.estimate import CtfEstimate
from halfmap.ctffit.ice import IceSignal
from halfmap.ctffit.surface import LocalDefocus
from halfmap.ctffit.thickness import Thickness
from halfmap.io.star import StarBlock, write_star
from halfmap.optics.defocus_surface import SURFACE_COLUMNS
from halfmap.typing import PathLike
from halfmap.units import DEG

NOT_FITTED: Final = "not fitted"


def estimate_values(estimate: CtfEstimate) -> dict[str, Any]:
    """The CTF of the whole micrograph, JSON-able."""
    return {
        "defocus_u_A": estimate.defocus_u_A,
        "defocus_v_A": estimate.defocus_v_A,
        "astigmatism_A": estimate.defocus_u_A - estimate.defocus_v_A,
        "defocus_angle_rad": estimate.defocus_angle_rad,
        "phase_shift_rad": estimate.phase_shift_rad,
        "ctf_figure_of_merit": estimate.figure_of_merit,
        "ctf_fit_resolution_A": estimate.fit_resolution_A,
        "ctf_evidence": estimate.evidence,
        "ctf_margin": estimate.margin,
        "ambiguous": estimate.ambiguous,
        "has_rings": estimate.has_rings,
        "defocus_error_A": estimate.defocus_error_A,
        "astigmatism_error_A": estimate.astigmatism_error_A,
        "phase_shift_error_rad": estimate.phase_shift_error_rad,
    }


def surface_values(local: LocalDefocus | None) -> dict[str, Any]:
    """The surface of defocus, JSON-able; one that was not fitted is level, and its tilt not a number."""
    unknown = float("nan")
    if local is None:
        return {
            "defocus_surface": NOT_FITTED,
            **dict.fromkeys(SURFACE_COLUMNS, 0.0),
            "specimen_tilt_rad": unknown,
            "specimen_tilt_axis_rad": unknown,
            "specimen_tilt_error_rad": unknown,
        }
    return {
        "defocus_surface": local.kind,
        **local.surface.columns(),
        "specimen_tilt_rad": local.surface.tilt_rad,
        "specimen_tilt_axis_rad": local.surface.tilt_axis_rad if local.kind != "level" else unknown,
        "specimen_tilt_error_rad": local.tilt_error_rad,
    }


def ice_values(ice: IceSignal, thickness: Thickness) -> dict[str, Any]:
    """Ice and thickness, JSON-able; what cannot be told is not a number."""
    return {
        "ice_ring_density": ice.ring_density,
        "ice_ring_density_error": ice.ring_density_error,
        "relative_ice_thickness": ice.relative_thickness,
        "relative_ice_thickness_error": ice.relative_thickness_error,
        "sample_thickness_A": thickness.thickness_A,
        "sample_thickness_error_A": thickness.error_A,
    }


def write_fit(path: PathLike, micrograph: Path, values: Mapping[str, Any], estimate: CtfEstimate) -> None:
    """Write a fit with its errors, its surface, the curve of spectrum and fit, and the other candidates."""
    curve, others = estimate.curve, estimate.alternatives
    write_star(
        path,
        {
            "ctf_fit": StarBlock.pairs(
                rlnMicrographName=str(micrograph),
                rlnDefocusU=values["defocus_u_A"],
                rlnDefocusV=values["defocus_v_A"],
                rlnDefocusAngle=values["defocus_angle_rad"] / DEG,
                rlnPhaseShift=values["phase_shift_rad"] / DEG,
                rlnCtfFigureOfMerit=values["ctf_figure_of_merit"],
                rlnCtfMaxResolution=values["ctf_fit_resolution_A"],
                halfmapEvidence=values["ctf_evidence"],
                halfmapMargin=values["ctf_margin"],
                halfmapDefocusError=values["defocus_error_A"],
                halfmapAstigmatismError=values["astigmatism_error_A"],
                halfmapPhaseShiftError=values["phase_shift_error_rad"] / DEG,
                halfmapDefocusSurface=values["defocus_surface"],
                halfmapSpecimenTilt=values["specimen_tilt_rad"] / DEG,
                halfmapSpecimenTiltAxis=values["specimen_tilt_axis_rad"] / DEG,
                halfmapSpecimenTiltError=values["specimen_tilt_error_rad"] / DEG,
                rlnCtfIceRingDensity=values["ice_ring_density"],
                halfmapIceRingDensityError=values["ice_ring_density_error"],
                halfmapRelativeIceThickness=values["relative_ice_thickness"],
                halfmapRelativeIceThicknessError=values["relative_ice_thickness_error"],
                halfmapSampleThickness=values["sample_thickness_A"],
                halfmapSampleThicknessError=values["sample_thickness_error_A"],
            ),
            "ctf_curve": {
                "halfmapFrequency": curve.frequency_per_A,
                "halfmapSpectrum": curve.spectrum,
                "halfmapFit": curve.fit,
                "halfmapCorrelation": curve.correlation,
            },
            "ctf_alternatives": {
                "rlnDefocusU": [estimate.defocus_u_A, *(other.defocus_u_A for other in others)],
                "rlnDefocusV": [estimate.defocus_v_A, *(other.defocus_v_A for other in others)],
                "rlnDefocusAngle": [
                    a / DEG for a in (estimate.defocus_angle_rad, *(o.defocus_angle_rad for o in others))
                ],
                "rlnPhaseShift": [p / DEG for p in (estimate.phase_shift_rad, *(o.phase_shift_rad for o in others))],
                "halfmapEvidence": [estimate.evidence, *(other.evidence for other in others)],
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
