"""The section on a gain reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmap.report.html import Report


def gain_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """The gain, where it is bad, and how it lies."""
    import numpy as np

    from halfmap.io.mrc import read_image
    from halfmap.io.star import read_star
    from halfmap.report.pictures import montage_picture

    page.section("Gain reference", "What frames are multiplied with; bad pixels are black in the first picture.")
    page.facts({name.replace("_", " "): value for name, value in figures.items() if isinstance(value, int | float)})
    gain, _ = read_image(folder / "gain.mrc")
    rows, columns = gain.shape
    bad = np.zeros_like(gain, np.float32)
    defects = read_star(folder / "defects.star")["defects"]
    x, y = (np.asarray(defects[name], np.float64).astype(int) for name in ("rlnCoordinateX", "rlnCoordinateY"))
    # Single pixels would not be seen.
    for dy in range(-3, 4):
        for dx in range(-3, 4):
            bad[np.clip(y + dy, 0, rows - 1), np.clip(x + dx, 0, columns - 1)] = 1.0
    page.figure(montage_picture([gain, bad], ["gain", "bad pixels, enlarged"], columns=2), "Row 0 is at the top.")
    if (folder / "orientations.star").is_file():
        block = read_star(folder / "orientations.star")["orientations"]
        ways, hows = block["rlnHalfmapOrientation"], block["rlnHalfmapFramesAre"]
        page.table(
            [
                {"reference": way, "frames are": how, "correlation": float(value)}
                for way, how, value in zip(ways, hows, block["rlnHalfmapCorrelation"], strict=True)
            ]
        )
