"""The section on a gain reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from halfmap.report.html import Report


def gain_section(page: Report, folder: Path, figures: dict[str, Any]) -> None:
    """The gain, where it is bad, and how it lies."""
    import numpy as np
    from scipy.ndimage import maximum_filter

    from halfmap.io.mrc import read_image
    from halfmap.io.star import read_star
    from halfmap.report.pictures import montage_picture

    page.section("Gain reference", "What frames are multiplied with; bad pixels are black in the first picture.")
    page.facts({name.replace("_", " "): value for name, value in figures.items() if isinstance(value, int | float)})
    gain, _ = read_image(folder / "gain.mrc")
    bad = np.zeros_like(gain, bool)
    defects = read_star(folder / "defects.star")["defects"]
    x, y = (np.asarray(defects[name], np.float64).astype(int) for name in ("rlnCoordinateX", "rlnCoordinateY"))
    bad[y, x] = True
    # Single pixels would not be seen.
    enlarged = maximum_filter(bad, size=7).astype(np.float32)
    page.figure(montage_picture([gain, enlarged], ["gain", "bad pixels, enlarged"], columns=2), "Row 0 is at the top.")
    if (folder / "orientations.star").is_file():
        block = read_star(folder / "orientations.star")["orientations"]
        ways, hows = block["rlnHalfmapOrientation"], block["rlnHalfmapFramesAre"]
        page.table(
            [
                {"reference": way, "frames are": how, "correlation": float(value)}
                for way, how, value in zip(ways, hows, block["rlnHalfmapCorrelation"], strict=True)
            ]
        )
