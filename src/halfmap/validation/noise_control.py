"""Verdicts: what the curves do and do not support. Noise in, a warning out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from halfmap.constants import FSC_HALF_MAP_THRESHOLD
from halfmap.validation.directional import DirectionalFsc
from halfmap.validation.fsc_curves import FscCurves
from halfmap.validation.orientations import SIDE_VIEWS_SCF, OrientationCover

MIN_SHELLS = 5
"""Halves that agree in fewer shells share a blob at most."""
_FIRST_TELLING_SHELL = 3
MAX_RANDOMISED = 0.1
"""Correlation that a mask may give to noise where the resolution is read."""
MAX_AT_NYQUIST = 0.05
"""Mean FSC over the last tenth of the shells above which the curve does not fall to zero."""
MAX_RISE_AGAIN = 0.3
"""FSC that a curve must not reach again beyond its resolution."""
BEYOND_REFERENCE = 0.85
"""A resolution must be finer than this share of the common reference's to be the data's own."""
MIN_AREA_RATIO = 0.5
"""Of directional FSC."""
MIN_PIXELS_OF_CONE = 30.0
"""Independent Fourier pixels that a cone must hold at the resolution for a verdict on directions."""


@dataclass(frozen=True)
class Verdict:
    """One finding: a stable code, and a sentence for people."""

    code: str
    message: str


def judge(
    curves: FscCurves,
    *,
    shared_reference_A: float | None = None,
    directional: DirectionalFsc | None = None,
    orientations: OrientationCover | None = None,
) -> list[Verdict]:
    """Everything about two half-maps that a careful reader would object to; empty if nothing.

    Parameters
    ----------
    curves
        FSC of the half-maps.
    shared_reference_A
        Resolution to which both halves started from the same reference, which agreement up to there
        may come from.
    directional, orientations
        Further evidence, if at hand.
    """
    verdicts = _on_agreement(curves, shared_reference_A) + _on_curves(curves)
    if directional is not None and directional.area_ratio < MIN_AREA_RATIO and cones_tell(curves, directional):
        worst, best = _extremes(directional.resolution_A)
        verdicts.append(
            Verdict(
                "anisotropic",
                f"Resolution differs with direction, {best:.1f} to {worst:.1f} Å (area ratio of directional FSC "
                f"{directional.area_ratio:.2f}, below {MIN_AREA_RATIO}): the map is smeared along some direction.",
            )
        )
    if orientations is not None:
        verdicts += judge_orientations(orientations)
    return verdicts


def judge_orientations(orientations: OrientationCover) -> list[Verdict]:
    """Whether the views leave parts of Fourier space without data."""
    if orientations.scf_star >= SIDE_VIEWS_SCF - 0.01:
        return []
    return [
        Verdict(
            "preferred-orientation",
            f"Views are unevenly spread (SCF* {orientations.scf_star:.2f}, below {SIDE_VIEWS_SCF:.2f}; "
            f"{orientations.unsampled_frac:.0%} of Fourier space unseen).",
        )
    ]


def is_noise(verdicts: list[Verdict]) -> bool:
    """Whether the verdicts say that the halves share no signal of their own."""
    return any(v.code in ("no-common-signal", "no-better-than-reference") for v in verdicts)


def cones_tell(curves: FscCurves, directional: DirectionalFsc) -> bool:
    """Whether cones hold enough at the resolution for their differences to be more than chance.

    A shell has 2π s² pairs of Fourier mates, of which a cone holds its share; a mask that fills a
    fraction of the box leaves that fraction of them independent.
    """
    shell = curves.resolution_shell()
    return 2.0 * math.pi * shell**2 * directional.cone_frac * curves.mask_fraction >= MIN_PIXELS_OF_CONE


def significant_shells(curves: FscCurves) -> int:
    """Number of shells, from the centre on, in which the unmasked FSC stays above chance.

    Chance is three standard deviations of noise, ``3 / sqrt(2π s²)``, and at least 0.143. (A shell has 2π s²
    pairs of mates; half the full number of degrees of freedom is counted, as a particle does not fill its box.)
    Shells 1 and 2 have too few pixels to say anything and count with shell 3.
    """
    shell = np.arange(_FIRST_TELLING_SHELL, len(curves.unmasked))
    chance = np.maximum(FSC_HALF_MAP_THRESHOLD, 3.0 / np.sqrt(2.0 * math.pi * shell**2))
    below = shell[curves.unmasked[_FIRST_TELLING_SHELL:] < chance]
    last = int(below[0]) - 1 if len(below) else len(curves.unmasked) - 1
    return last if last >= _FIRST_TELLING_SHELL else 0


def _on_agreement(curves: FscCurves, shared_reference_A: float | None) -> list[Verdict]:
    resolution = curves.resolution_A()
    if significant_shells(curves) < MIN_SHELLS or not math.isfinite(resolution):
        return [
            Verdict(
                "no-common-signal",
                "The two halves have nothing in common that goes beyond chance: this map is noise, "
                "whatever it looks like.",
            )
        ]
    if shared_reference_A is not None and resolution > BEYOND_REFERENCE * shared_reference_A:
        return [
            Verdict(
                "no-better-than-reference",
                f"The halves agree to {resolution:.1f} Å, hardly further than the reference that both started from "
                f"({shared_reference_A:.1f} Å): nothing shows that the agreement comes from the data.",
            )
        ]
    return []


def _on_curves(curves: FscCurves) -> list[Verdict]:
    verdicts = []
    shells = len(curves.corrected) - 1
    crossing = curves.resolution_shell()
    at = min(math.ceil(crossing), shells)
    randomised = float(curves.phase_randomised[at])
    if curves.has_mask and at >= curves.randomised_from_shell and randomised > MAX_RANDOMISED:
        verdicts.append(
            Verdict(
                "mask-correlates",
                f"The mask alone makes noise correlate by {randomised:.2f} at the resolution: it is too tight or its "
                "edge too sharp. Trust the corrected curve only, and use a wider, softer mask.",
            )
        )
    last = max(2, shells // 10)
    tail = float(curves.unmasked[-last:].mean())
    if tail > MAX_AT_NYQUIST:
        verdicts.append(
            Verdict(
                "not-zero-at-nyquist",
                f"The unmasked FSC does not fall to zero at Nyquist (mean {tail:.2f}): either the pixels are too "
                "coarse for this map, or the halves are not independent (duplicates, common noise).",
            )
        )
    beyond = curves.corrected[at + 2 : shells]
    if crossing < shells and len(beyond) and float(beyond.max()) > MAX_RISE_AGAIN:
        verdicts.append(
            Verdict(
                "rises-again",
                f"The FSC rises again to {float(beyond.max()):.2f} beyond the resolution: look for wrong CTF, "
                "wrong pixel size, or artefacts at fixed places.",
            )
        )
    return verdicts


def _extremes(resolution_A: np.ndarray) -> tuple[float, float]:
    finite = resolution_A[np.isfinite(resolution_A)]
    if not len(finite):
        return math.inf, math.inf
    return (float(finite.max()) if len(finite) == len(resolution_A) else math.inf), float(finite.min())
