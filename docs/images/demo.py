"""Draw docs/images/demo.png from the session of the demo: `.venv/bin/python docs/images/demo.py demo/session`."""

import sys
from pathlib import Path

import numpy as np
from matplotlib.collections import EllipseCollection
from scipy.ndimage import gaussian_filter

from halfmap.io.mrc import open_stack, read_image, read_volume
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.report.pictures import grey_limits, object_reach, show
from halfmap.report.plots import COLOURS, new_figure
from halfmap.steps.files import located


def draw_picks(axis, session: Path) -> None:
    star = next(session.glob("*_pick")) / "particles.star"
    picks = located(read_image_set(star, "coordinates"), star)
    name = sorted(set(picks["micrograph_name"].tolist()))[0]
    mine = picks.select(picks["micrograph_name"] == name)
    image = gaussian_filter(read_image(name)[0], 2.0)
    show(axis, image, "picks in one micrograph", grey_limits(image))
    centres = np.stack([mine["coordinate_x_px"], mine["coordinate_y_px"]], axis=1)
    size = np.full(len(mine), mine["particle_diameter_A"][0] / mine.pixel_size_A()[0])
    axis.add_collection(
        EllipseCollection(size, size, 0 * size, units="xy", offsets=centres, offset_transform=axis.transData,
                          facecolors="none", edgecolors="#33b5ff", linewidths=0.8)
    )  # fmt: skip


def draw_classes(axis, session: Path) -> None:
    stack = open_stack(next(session.glob("*_class2d")) / "classes.mrcs")
    quarter = stack.shape[0] // 4
    images = [stack[i][quarter:-quarter, quarter:-quarter] for i in range(min(6, len(stack)))]
    scaled = [(image - image.min()) / max(1e-9, float(np.ptp(image))) for image in images]
    show(axis, np.concatenate([np.concatenate(scaled[i : i + 2], axis=1) for i in (0, 2, 4)]), "class averages")


def draw_map(axis, session: Path) -> None:
    volume = read_volume(session / "map.mrc").data
    reach, middle = object_reach(volume), volume.shape[0] // 2
    inner = volume[middle - reach : middle + reach, middle - reach : middle + reach, middle - reach : middle + reach]
    panels = [inner[reach], inner[reach + reach // 4], inner[reach - reach // 2], inner.sum(axis=0)]
    scaled = [np.clip((p - np.percentile(p, 5)) / (np.percentile(p, 99.7) - np.percentile(p, 5)), 0, 1) for p in panels]
    rows = [np.concatenate(scaled[:2], axis=1), np.concatenate(scaled[2:], axis=1)]
    show(axis, np.concatenate(rows), "slices of the map, and its projection")


def draw_fsc(axis, session: Path) -> None:
    table = read_star(session / "fsc.star")["fsc"]
    frequency = table["rlnResolution"].astype(float)
    for colour, (name, label) in zip(
        COLOURS,
        (
            ("masked, corrected", "rlnFourierShellCorrelationCorrected"),
            ("unmasked", "rlnFourierShellCorrelationUnmaskedMaps"),
            ("phases randomised", "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps"),
        ),
        strict=False,
    ):
        axis.plot(frequency, table[label].astype(float), color=colour, label=name)
    axis.axhline(0.143, color="#888", linestyle="--", linewidth=0.8)
    axis.set(
        xlim=(0, frequency[-1]), ylim=(-0.1, 1.05), xlabel="frequency (1/Å)", title="FSC of two independent halves"
    )
    axis.title.set_fontsize(8)
    axis.legend(frameon=False, fontsize=8)


def main() -> None:
    session = Path(sys.argv[1])
    figure, axes = new_figure(12, 3.1, 1, 4, width_ratios=(1, 0.68, 1, 1.15))
    for axis, draw in zip(axes, (draw_picks, draw_classes, draw_map, draw_fsc), strict=True):
        draw(axis, session)
    figure.savefig(Path(__file__).with_suffix(".png"), dpi=90)


if __name__ == "__main__":
    main()
