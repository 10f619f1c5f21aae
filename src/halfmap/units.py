"""The unit suffixes that names carry, and conversions between a file's units and ours.

Inside halfmap lengths are in Å, angles in rad and frequencies in 1/Å. A name says so:
``pixel_size_A``, ``defocus_u_A``, ``tilt_rad``, ``dose_e_per_A2``.
"""

from __future__ import annotations

import math
from typing import Final

DEG: Final = math.pi / 180.0
"""Radians in one degree: ``angle_deg * DEG`` is in rad, ``angle_rad / DEG`` in degrees."""

A_PER_UM: Final = 1.0e4
A_PER_MM: Final = 1.0e7

UNIT_OF_SUFFIX: Final[dict[str, str]] = {
    "_e_per_A2": "e/Å²",
    "_e_per_px": "e/px",
    "_per_A": "1/Å",
    "_A2": "Å²",
    "_A": "Å",
    "_px": "px",
    "_deg": "degrees",
    "_rad": "rad",
    "_kV": "kV",
    "_mm": "mm",
    "_um": "µm",
    "_s": "s",
    "_GB": "GB",
    "_frac": "fraction",
}
"""Suffix of a name -> unit shown to people; longer suffixes first."""


def split_unit(name: str) -> tuple[str, str]:
    """Split a declared name into its bare name and its unit ("" if it has none).

    >>> split_unit("pixel_size_A")
    ('pixel_size', 'Å')
    >>> split_unit("dose_per_frame_e_per_A2")
    ('dose_per_frame', 'e/Å²')
    >>> split_unit("classes")
    ('classes', '')
    """
    for suffix, unit in UNIT_OF_SUFFIX.items():
        if name.endswith(suffix):
            return name[: -len(suffix)], unit
    return name, ""
