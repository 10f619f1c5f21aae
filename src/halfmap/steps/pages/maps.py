"""Sections on maps: slices, FSC curves, orientations, iterations."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.report.html import Report

if TYPE_CHECKING:
    from halfmap.io.star import StarBlock

AGAINST_REFERENCE = "against the reference"
FSC_CURVES = (
    ("corrected", "rlnFourierShellCorrelationCorrected"),
    ("masked", "rlnFourierShellCorrelationMaskedMaps"),
    ("unmasked", "rlnFourierShellCorrelationUnmaskedMaps"),
    ("phases randomised", "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps"),
    (AGAINST_REFERENCE, "halfmapFourierShellCorrelationReferenceAveraged"),
    ("the same, single shells", "halfmapFourierShellCorrelationReference"),
)
HALVES_CAPTION = (
    "Agreement of two halves that never saw each other. 'Phases randomised' is what the mask alone makes of noise; the "
    "corrected curve has that taken out."
)
REFERENCE_CAPTION = (
    "Agreement with the reference within its mask. The first curve takes neighbouring shells together as far as the "
    "mask joins them anyway: a hollow particle has shells without power, where noise decides a curve of single shells."
)
READ_AT_CAPTION = (
    "The dotted line is where the resolution is read: a fall that the next shells do not share is passed over."
)


def map_section(page: Report, folder: Path, figures: dict[str, Any], title: str = "Map", file: str = "map.mrc") -> None:
    """Slices through the map."""
    from halfmap.io.mrc import read_volume
    from halfmap.report.pictures import slices_picture

    volume = read_volume(folder / file)
    size = volume.data.shape[0]
    page.section(title, f"{size}³ voxels of {volume.pixel_size_A:.3g} Å.")
    caption = "Above: central slices and projections. Below: slices through the object, in voxels from the centre."
    page.figure(slices_picture(volume.data), caption)


def fsc_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """FSC curves of the file that the job wrote."""
    import numpy as np

    from halfmap.io.star import read_star
    from halfmap.report.plots import fsc_plot

    blocks = read_star(folder / "fsc.star")
    table: StarBlock = blocks["fsc"]
    frequency = np.asarray(table["rlnResolution"], dtype=np.float64)
    curves = {name: np.asarray(table[label], dtype=np.float64) for name, label in FSC_CURVES if label in table}
    page.section("Fourier shell correlation")
    page.facts({key.replace("_A", " (Å)").replace("_", " "): figures[key] for key in figures if "resolution" in key})
    read_at_A = figures.get("resolution_A", figures.get("resolution_reference_A"))
    caption = REFERENCE_CAPTION if AGAINST_REFERENCE in curves else HALVES_CAPTION
    page.figure(fsc_plot(frequency, curves, read_at_A), f"{caption} {READ_AT_CAPTION}")


def orientation_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Which views the particles show."""
    from halfmap.io.relion import read_image_set
    from halfmap.report.plots import orientation_plot

    particles = read_image_set(folder / "particles.star", "particles")
    page.section("Orientations", f"Views of {len(particles)} particles.")
    names = {"orientation_scf": "sampling (SCF*: 1 even, below 0.81 side views missing)", "unseen_frac": "unseen"}
    page.facts({label: figures[name] for name, label in names.items() if name in figures})
    page.figure(
        orientation_plot(particles["rot_rad"], particles["tilt_rad"]),
        "Directions from which the particles are seen, before symmetry is applied.",
    )


def iterations_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """How the refinement went."""
    from halfmap.io.star import read_star

    block = next(iter(read_star(folder / "iterations.star").values()))
    page.section("Iterations")
    names = list(block)
    rows = [{_label(n): _value(block[n][i]) for n in names} for i in range(block.n_rows)]
    page.table(rows)


def _label(name: str) -> str:
    return name.replace("_A", " (Å)").replace("_deg", " (°)").replace("_", " ")


def _value(text: Any) -> Any:
    try:
        return float(text) if "." in str(text) else int(text)
    except ValueError:
        return str(text)


def abinitio_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """A first map; its hand is a toss of a coin."""
    if figures.get("classes", 1) > 1:
        classes_section(page, folder, figures)
    else:
        map_section(page, folder, figures, "Initial map")
    page.text("The hand of a map from projections alone is undetermined; it is decided once helices can be seen.")


def classes_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """The maps of several classes, the largest first."""
    import numpy as np

    from halfmap.io.star import read_star

    block = read_star(folder / "classes.star")["model_classes"]
    shares, resolutions_A, counts = (
        np.asarray(block[label], dtype=np.float64)
        for label in ("rlnClassDistribution", "rlnEstimatedResolution", "rlnHalfmapClassParticles")
    )
    page.section("Classes", "Halves of a class share their poses: where they agree is no resolution to be claimed.")
    rows = enumerate(zip(counts, shares, resolutions_A, strict=True), start=1)
    page.table(
        [
            {"class": number, "particles": int(count), "share (%)": 100 * share, "halves agree to (Å)": reached_A}
            for number, (count, share, reached_A) in rows
        ]
    )
    for number, (share, count) in enumerate(zip(shares, counts, strict=True), start=1):
        title = f"Class {number}: {share:.0%}"
        if count:
            map_section(page, folder, figures, title, f"map_class{number:03d}.mrc")
        else:
            page.section(title, "No particle is in this class, and there is no map of it.")


def refine_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Everything on a refinement."""
    map_section(page, folder, figures, "Refined map")
    fsc_section(page, folder, figures)
    orientation_section(page, folder, figures)
    iterations_section(page, folder, figures)


def postprocess_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """The sharpened map and how far it can be believed."""
    map_section(page, folder, figures, "Sharpened map")
    fsc_section(page, folder, figures)
    guinier_section(page, folder, figures)


def guinier_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """Fall-off of the amplitudes, where the job wrote it."""
    import numpy as np

    from halfmap.io.star import read_star
    from halfmap.report.plots import guinier_plot

    blocks = read_star(folder / "fsc.star")
    block = blocks["guinier"]
    page.section("Guinier plot")
    x = np.asarray(block["rlnResolutionSquared"], dtype=np.float64)
    y = np.asarray(block["rlnLogAmplitudesWeighted"], dtype=np.float64)
    keep = np.isfinite(y) & (y > -99)
    fit = blocks["general"]
    slope, intercept = (
        float(fit[label][0]) if label in fit else None
        for label in ("rlnFittedSlopeGuinierPlot", "rlnFittedInterceptGuinierPlot")
    )
    page.figure(
        guinier_plot(x[keep], y[keep], slope, intercept), "Logarithm of the amplitudes against squared frequency."
    )
