"""Options of picking."""

from __future__ import annotations

from halfmap.optics.options import OpticsOptions
from halfmap.options import option


class PickOptions(OpticsOptions):
    """Options of ``halfmap pick``."""

    diameter_A: float | None = option(
        None, help="Longest diameter of the particle; estimated from the micrographs if absent.", ge=20, le=5000
    )
    min_distance_A: float | None = option(
        None, help="Smallest distance of two picks; three quarters of the diameter if absent.", gt=0, advanced=True
    )
    max_false_frac: float = option(
        0.1, help="Share of the picks that noise of the same spectrum may account for.", gt=0, le=0.5
    )
    threshold: float | None = option(
        None, help="Lowest score in units of the noise, in place of the one chosen from the data.", gt=0, advanced=True
    )
    survey_micrographs: int = option(
        6, help="Micrographs from which contrast, template and diameter are chosen.", ge=1, le=100, advanced=True
    )
    controls: int = option(
        4, help="Signal-free copies of each micrograph that count false picks.", ge=1, le=50, advanced=True
    )
