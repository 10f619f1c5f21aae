"""Defocus of thick specimens: a search that knows that rings vanish at a node and come back inverted."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from halfmap.ctffit.estimate import Alternative, CtfEstimate, FitSettings, found_by, search_range
from halfmap.ctffit.fit import refine
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.search import Candidate, CandidateSearch
from halfmap.ctffit.spectrum import Spectrum, rings_of
from halfmap.ctffit.thickness import CLEARLY

TRIED_A: Final = (1500.0, 2000.0, 2500.0, 3000.0, 4000.0)
"""Thicknesses that are searched with; the first one is near enough to all to tell whether there is any node."""
NO_NODE_A: Final = 3.5
"""Rings that are followed as far as this have no node that could mislead a search."""
N_REFINED: Final = 4


def estimate_of_thick_specimen(
    estimate: CtfEstimate, spectrum: Spectrum, microscope: Microscope, settings: FitSettings
) -> CtfEstimate:
    """The estimate, or another whose rings have nodes and explain clearly more.

    A specimen of thickness t multiplies rings with ``sinc(λ t s²)`` (:mod:`halfmap.ctffit.thickness`). At small defocus
    few rings lie before the node, and a search without nodes prefers a wrong defocus, whose rings run into the inverted
    ones. So the search is made again on the spectrum times that factor, if the fit ends early and the factor makes the
    best correlation larger.
    """
    if not estimate.has_rings or estimate.fit_resolution_A <= NO_NODE_A:
        return estimate
    rings = rings_of(spectrum, settings.min_resolution_A, settings.max_resolution_A)
    search = CandidateSearch(rings, microscope, search_range(settings))

    def candidates(thickness_A: float) -> list[tuple[float, Candidate]]:
        nodes = np.sinc(microscope.wavelength_A * thickness_A * rings.frequency_squared)
        return [(thickness_A, each) for each in search.best(rings.value * nodes, 2)]

    tried = candidates(TRIED_A[0])
    if tried[0][1].score <= estimate.candidates[0].score:
        return estimate
    tried += [each for thickness_A in TRIED_A[1:] for each in candidates(thickness_A)]
    tried.sort(key=lambda each: -each[1].score)
    fits = [
        refine(rings, microscope, candidate, fit_phase_shift=settings.phase_shift, thickness_A=thickness_A)
        for thickness_A, candidate in tried[:N_REFINED]
    ]
    best = max(fits, key=lambda fit: fit.evidence)
    if best.evidence < estimate.evidence + CLEARLY:
        return estimate
    before = Alternative(
        estimate.defocus_u_A,
        estimate.defocus_v_A,
        estimate.defocus_angle_rad,
        estimate.phase_shift_rad,
        estimate.evidence,
    )
    found = found_by(best, spectrum, microscope, settings)
    return replace(found, candidates=estimate.candidates, alternatives=(before, *estimate.alternatives))
