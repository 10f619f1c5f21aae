"""Precision and recall of picks against a list of coordinates, such as manual ones.

    python benchmarks/compare_picks.py pick/particles.star manual_picks.star --diameter 122 --pixel-size 1.5

A pick counts as right if it has a listed particle of its own within a third of the diameter. Listed
particles whose circle reaches beyond the micrograph are left out, as picking leaves them out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from halfmap.io.mrc import open_stack
from halfmap.io.relion import read_image_set
from halfmap.picking.compare import Comparison, compare_points


def main() -> None:
    """Print a line a micrograph and one for all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picks", type=Path)
    parser.add_argument("listed", type=Path)
    parser.add_argument("--diameter", type=float, required=True, help="Å")
    parser.add_argument("--pixel-size", type=float, required=True, help="Å")
    given = parser.parse_args()
    optics = {"micrograph_pixel_size_A": given.pixel_size, "voltage_kV": 300.0, "cs_mm": 2.7, "amplitude_contrast": 0.1}
    picks = read_image_set(given.picks, "coordinates")
    listed = read_image_set(given.listed, "coordinates", defaults=optics)
    listed_stems = np.array([Path(name).stem for name in listed["micrograph_name"]])
    total = Comparison(0, 0, 0)
    for name in sorted(set(picks["micrograph_name"])):
        shape = np.array(open_stack(name).shape)
        points = _points(picks.select(picks["micrograph_name"] == name))
        expected = _points(listed.select(listed_stems == Path(name).stem))
        radius_px = given.diameter / 2.0 / given.pixel_size
        whole = ((expected >= radius_px - 0.5) & (expected <= shape - 0.5 - radius_px)).all(axis=1)
        one = compare_points(points, expected[whole], given.diameter / 3.0 / given.pixel_size)
        total = total + one
        _say(Path(name).name, one)
    _say("all", total)


def _points(coordinates: object) -> np.ndarray:
    return np.stack((coordinates["coordinate_y_px"], coordinates["coordinate_x_px"]), axis=1)  # type: ignore[index]


def _say(name: str, found: Comparison) -> None:
    print(
        f"{name:28s} picked {found.picked:5d}  listed {found.expected:5d}  right {found.matched:5d}  "
        f"precision {found.precision:.3f}  recall {found.recall:.3f}"
    )


if __name__ == "__main__":
    main()
