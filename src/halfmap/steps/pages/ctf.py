"""The section on the CTF: fits, what else the spectra might mean, tilt, ice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.report.html import Report
from halfmap.steps.pages.micrographs import LISTED_MICROGRAPHS, SHOWN_MICROGRAPHS, evenly, micrographs_of
from halfmap.typing import Array
from halfmap.units import DEG

if TYPE_CHECKING:
    from halfmap.data.records import ImageSet

_FACTS: Sequence[tuple[str, str]] = (
    ("median fit (Å)", "median_fit_resolution_A"),
    ("without rings", "without_rings"),
    ("two CTFs not told apart", "ambiguous"),
    ("tilted", "surface_plane"),
    ("curved", "surface_curved"),
    ("level", "surface_level"),
)
_PANELS: Sequence[tuple[str, str, float]] = (
    ("fit resolution (Å)", "ctf_fit_resolution_A", 1.0),
    ("astigmatism (Å)", "astigmatism_A", 1.0),
    ("tilt (degrees)", "specimen_tilt_rad", DEG),
    ("ice, relative", "relative_ice_thickness", 1.0),
)


def ctf_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Spectra with fits, and what was found over the session."""
    import numpy as np

    from halfmap.report.plots import histogram_plot

    micrographs = micrographs_of(folder)
    page.section("CTF", "Defocus and astigmatism fitted to the rings of each power spectrum.")
    facts = {name: figures[key] for name, key in _FACTS if key in figures}
    if facts:
        page.facts(facts)
    mean_um = (micrographs["defocus_u_A"] + micrographs["defocus_v_A"]) / 2e4
    panels = {"defocus (µm)": mean_um}
    panels |= {label: micrographs[name] / unit for label, name, unit in _PANELS if name in micrographs}
    page.figure(histogram_plot({k: v for k, v in panels.items() if np.isfinite(v).any()}), _caption(len(micrographs)))
    for row in _worth_showing(micrographs):
        _one_fit(page, micrographs, row)
    page.table([_facts_of(micrographs, row) for row in evenly(len(micrographs), LISTED_MICROGRAPHS)])


def _caption(count: int) -> str:
    return (
        f"Fits of {count} micrographs. Ice is the height of the diffuse ring of water near 3.7 Å over the background: "
        "it compares micrographs of one session, and is no thickness in Å."
    )


def _worth_showing(micrographs: ImageSet) -> list[int]:
    """A few spread over the session, and the one whose candidates are closest to each other."""
    import numpy as np

    shown = evenly(len(micrographs), SHOWN_MICROGRAPHS)
    if "ctf_margin" in micrographs and len(micrographs):
        closest = int(np.argmin(micrographs["ctf_margin"] / np.maximum(micrographs["ctf_evidence"], 1.0)))
        shown = sorted({*shown, closest})
    return shown


def _one_fit(page: Report, micrographs: ImageSet, row: int) -> None:
    import numpy as np

    from halfmap.io.mrc import read_image
    from halfmap.io.star import read_star
    from halfmap.report.pictures import spectrum_picture
    from halfmap.report.plots import ctf_plot

    picture = Path(micrographs["ctf_image_name"][row])
    resolution_A = float(micrographs["ctf_fit_resolution_A"][row])
    mean_um = float(micrographs["defocus_u_A"][row] + micrographs["defocus_v_A"][row]) / 2e4
    title = f"{picture.stem.removesuffix('_ctf')}: {mean_um:.2f} µm, fits to {resolution_A:.1f} Å"
    page.figure(
        spectrum_picture(read_image(picture)[0], title),
        _PICTURE,
    )
    star = read_star(picture.with_suffix(".star"))
    labels = (("spectrum", "halfmapSpectrum"), ("fit", "halfmapFit"), ("agreement", "halfmapCorrelation"))
    curves = {name: np.asarray(star["ctf_curve"][label], dtype=np.float64) for name, label in labels}
    curves["spectrum"] = _on_scale_of(curves["spectrum"], curves["fit"])
    frequency = np.asarray(star["ctf_curve"]["halfmapFrequency"], dtype=np.float64)
    page.figure(ctf_plot(frequency, curves, resolution_A), "Averaged along the rings; dashed: where the fit ends.")
    others = star["ctf_alternatives"]
    rows = [
        {
            "candidate": number,
            "defocus U (Å)": round(float(u)),
            "defocus V (Å)": round(float(v)),
            "angle (degrees)": round(float(angle)),
            "phase shift (degrees)": round(float(shift)),
            "evidence (χ²)": round(float(evidence)),
        }
        for number, (u, v, angle, shift, evidence) in enumerate(
            zip(*(others[label] for label in _ALTERNATIVE_LABELS), strict=True), start=1
        )
    ]
    page.table(
        rows, "Minima of the fit, best first. Evidence: by how much rings explain the spectrum better than none."
    )


_PICTURE = "Measured spectrum (lower left: averaged along lines of equal phase) beside the fitted rings."
_ALTERNATIVE_LABELS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "halfmapEvidence")


def _facts_of(micrographs: ImageSet, row: int) -> dict[str, Any]:
    """One line of the table of micrographs."""
    import numpy as np

    facts: dict[str, Any] = {
        "micrograph": Path(micrographs["micrograph_name"][row]).name,
        "defocus U (Å)": round(float(micrographs["defocus_u_A"][row])),
        "defocus V (Å)": round(float(micrographs["defocus_v_A"][row])),
        "fits to (Å)": round(float(micrographs["ctf_fit_resolution_A"][row]), 2),
    }
    if "ctf_margin" in micrographs:
        facts["evidence"] = round(float(micrographs["ctf_evidence"][row]))
        facts["over the next"] = round(float(micrographs["ctf_margin"][row]))
    if "specimen_tilt_rad" in micrographs:
        tilt, error = (float(micrographs[f"specimen_tilt{part}_rad"][row]) / DEG for part in ("", "_error"))
        facts["tilt (degrees)"] = f"{tilt:.1f} ± {error:.1f}" if np.isfinite(tilt) else "not fitted"
    for label, name in (("ice ring at 3.67 Å", "ice_ring_density"), ("ice, relative", "relative_ice_thickness")):
        if name in micrographs and np.isfinite(micrographs[name][row]):
            facts[label] = round(float(micrographs[name][row]), 3)
    if "sample_thickness_A" in micrographs and np.isfinite(micrographs["sample_thickness_A"]).any():
        facts["thickness from nodes (Å)"] = float(micrographs["sample_thickness_A"][row])
    return facts


def _on_scale_of(values: Array, target: Array) -> Array:
    """Values times the factor that makes their spread that of the target; the rings' depth has no unit."""
    spread = float(values.std())
    return values * (float(target.std()) / spread) if spread > 0 else values
