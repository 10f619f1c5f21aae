"""The CTF of a micrograph from its spectrum: search, refinement, and how far to believe it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from halfmap.ctffit.fit import RingFit, RingModel, refine
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.quality import Curve, equal_phase_curve, equal_phase_frequency, fit_resolution_A
from halfmap.ctffit.search import Candidate, CandidateSearch, SearchRange
from halfmap.ctffit.spectrum import Spectrum, rings_of
from halfmap.typing import FloatArray

N_CANDIDATES: Final = 5
N_REFINED: Final = 3
WORTH_REFINING: Final = 0.4
"""Candidates whose score is below this share of the best one's are listed, not refined."""
ENOUGH_EVIDENCE: Final = 80.0
CLEAR_MARGIN: Final = 30.0
CLEAR_SHARE: Final = 0.05
"""Two candidates are told apart if their evidence differs by more than both, number and share of the evidence: noise
alone seldom makes the number, and errors of the model (Cs, pixel size) grow with the evidence."""
SAME_A: Final = 200.0
PHASE_SHIFTS_RAD: Final = tuple(math.pi * i / 18 for i in range(18))


@dataclass(frozen=True)
class FitSettings:
    """Range of resolution, defocus and phase shift."""

    min_resolution_A: float = 30.0
    max_resolution_A: float = 4.0
    min_defocus_A: float = 3000.0
    max_defocus_A: float = 50000.0
    max_astigmatism_A: float = 2000.0
    phase_shift: bool = False


@dataclass(frozen=True)
class Alternative:
    """A refined candidate: another CTF that the same spectrum might have."""

    defocus_u_A: float
    defocus_v_A: float
    defocus_angle_rad: float
    phase_shift_rad: float
    evidence: float
    """In the sense of ``CtfEstimate.evidence``."""


@dataclass(frozen=True, eq=False)
class CtfEstimate:
    """A CTF in the form of ADR-0001, with errors, quality, and the alternatives."""

    defocus_u_A: float
    defocus_v_A: float
    defocus_angle_rad: float
    """From x towards y, in (-π/2, π/2]."""
    phase_shift_rad: float
    defocus_error_A: float
    """Standard error of the mean defocus, from noise alone."""
    astigmatism_error_A: float
    """Standard error of ``defocus_u - defocus_v``."""
    phase_shift_error_rad: float
    figure_of_merit: float
    """Correlation of spectrum and rings over the pixels of the fit (see ``ctffit.fit``)."""
    fit_resolution_A: float
    """Coarsest resolution of the fit where there is no evidence of rings."""
    evidence: float
    """χ² by which rings are better than none; below ``ENOUGH_EVIDENCE`` there may be none."""
    curve: Curve
    candidates: tuple[Candidate, ...]
    alternatives: tuple[Alternative, ...]
    """Refined candidates other than this, best first."""
    picture: FloatArray
    """``[box, box]`` centred: spectrum, and its average along equal phase, on the left; fit on the right."""

    @property
    def has_rings(self) -> bool:
        """Whether rings explain more than noise would let them."""
        return self.evidence > ENOUGH_EVIDENCE

    @property
    def parameters(self) -> FloatArray:
        """Mean defocus, astigmatism vector x and y (half difference) in Å, phase shift in rad."""
        half = 0.5 * (self.defocus_u_A - self.defocus_v_A)
        along, across = half * math.cos(2.0 * self.defocus_angle_rad), half * math.sin(2.0 * self.defocus_angle_rad)
        return np.array([0.5 * (self.defocus_u_A + self.defocus_v_A), along, across, self.phase_shift_rad])

    @property
    def margin(self) -> float:
        """χ² by which this fits better than the next alternative; the whole evidence where there is none."""
        return self.evidence - max((other.evidence for other in self.alternatives), default=0.0)

    @property
    def ambiguous(self) -> bool:
        """Whether the next alternative fits so nearly as well that the two are not told apart."""
        return self.margin < max(CLEAR_MARGIN, CLEAR_SHARE * self.evidence)


def estimate_ctf(spectrum: Spectrum, microscope: Microscope, settings: FitSettings) -> CtfEstimate:
    """Find defocus, astigmatism and, if wanted, phase shift of a micrograph.

    All defoci, astigmatisms and phase shifts within the limits are tried on a polar picture of
    the spectrum (``ctffit.search``); the best candidates are refined on its pixels
    (``ctffit.fit``) and the one that leaves least is taken. Nothing is refused for lack of
    signal: the figure of merit and the fit resolution tell.

    Raises
    ------
    HalfmapError
        If the resolution range holds too few pixels.
    """
    rings = rings_of(spectrum, settings.min_resolution_A, settings.max_resolution_A)
    candidates = CandidateSearch(rings, microscope, search_range(settings)).best(rings.value, N_CANDIDATES)
    threshold = WORTH_REFINING * candidates[0].score
    worth = [c for c in candidates[:N_REFINED] if c.score >= threshold]
    fits = [refine(rings, microscope, c, fit_phase_shift=settings.phase_shift) for c in worth or candidates[:1]]
    fits.sort(key=lambda fit: fit.cost)
    found = found_by(fits[0], spectrum, microscope, settings)
    return replace(found, candidates=tuple(candidates), alternatives=_alternatives(fits))


def search_range(settings: FitSettings) -> SearchRange:
    """The CTFs that the settings allow."""
    return SearchRange(
        settings.min_defocus_A,
        settings.max_defocus_A,
        settings.max_astigmatism_A,
        PHASE_SHIFTS_RAD if settings.phase_shift else (0.0,),
    )


def found_by(fit: RingFit, spectrum: Spectrum, microscope: Microscope, settings: FitSettings) -> CtfEstimate:
    """The estimate that one fit makes, without candidates and alternatives."""
    whole = rings_of(spectrum, settings.min_resolution_A, 0.0)
    curve = equal_phase_curve(whole, microscope, fit.parameters)
    return CtfEstimate(
        **_ctf_and_errors(fit),
        figure_of_merit=max(fit.correlation, 0.0),
        fit_resolution_A=fit_resolution_A(curve) if fit.evidence > ENOUGH_EVIDENCE else settings.min_resolution_A,
        evidence=fit.evidence,
        curve=curve,
        candidates=(),
        alternatives=(),
        picture=_picture(spectrum, microscope, fit, curve, settings),
    )


def refined_estimate(
    estimate: CtfEstimate, spectrum: Spectrum, microscope: Microscope, settings: FitSettings
) -> CtfEstimate:
    """The same estimate, its CTF refined on another spectrum of the same micrograph if that leaves less error.

    Evidence, figure of merit, resolution, curve and picture stay those of the first spectrum: they depend on its grid.
    """
    rings = rings_of(spectrum, settings.min_resolution_A, settings.max_resolution_A)
    mean, along, across, shift = estimate.parameters.tolist()
    start = Candidate(mean, along, across, shift, estimate.figure_of_merit)
    fit = refine(rings, microscope, start, fit_phase_shift=settings.phase_shift)
    values = _ctf_and_errors(fit)
    if _apart(fit.parameters, estimate.parameters) or values["defocus_error_A"] >= estimate.defocus_error_A:
        return estimate
    return replace(estimate, **values)


def estimate_with_nodes(
    estimate: CtfEstimate, spectrum: Spectrum, microscope: Microscope, settings: FitSettings, thickness_A: float
) -> CtfEstimate:
    """The estimate refined with rings that come back inverted beyond the nodes of a thickness, if that explains more.

    Without nodes a fit of thick ice ends at the first one, and has few rings to tell the astigmatism by; so it starts
    from none as well. The curve is drawn anew along lines of equal phase. The fit resolution stays: particles at one
    depth have no nodes, and what is beyond them is not seen as rings of one sign.
    """
    rings = rings_of(spectrum, settings.min_resolution_A, settings.max_resolution_A)
    mean, along, across, shift = estimate.parameters.tolist()
    fits = [
        refine(
            rings,
            microscope,
            Candidate(mean, share * along, share * across, shift, estimate.figure_of_merit),
            fit_phase_shift=settings.phase_shift,
            thickness_A=thickness_A,
        )
        for share in (1.0, 0.0)
    ]
    best = min(fits, key=lambda fit: fit.cost)
    if best.evidence <= estimate.evidence:
        return estimate
    curve = equal_phase_curve(rings_of(spectrum, settings.min_resolution_A, 0.0), microscope, best.parameters)
    return replace(estimate, **_ctf_and_errors(best), evidence=best.evidence, curve=curve)


def _ctf_and_errors(fit: RingFit) -> dict[str, Any]:
    """The fields of an estimate that a fit gives directly."""
    u, v, angle = defocus_of(fit.parameters)
    error = np.sqrt(np.diag(fit.covariance))
    return {
        "defocus_u_A": u,
        "defocus_v_A": v,
        "defocus_angle_rad": angle,
        "phase_shift_rad": float(fit.parameters[3] % math.pi),
        "defocus_error_A": float(error[0]),
        "astigmatism_error_A": float(2.0 * math.hypot(error[1], error[2]) / math.sqrt(2.0)),
        "phase_shift_error_rad": float(error[3]),
    }


def _alternatives(fits: list[RingFit]) -> tuple[Alternative, ...]:
    """Fits after the first that are not the same as a better one."""
    different: list[RingFit] = []
    for fit in fits:
        if all(_apart(fit.parameters, other.parameters) for other in different):
            different.append(fit)
    return tuple(
        Alternative(*defocus_of(fit.parameters), float(fit.parameters[3] % math.pi), fit.evidence)
        for fit in different[1:]
    )


def _apart(a: FloatArray, b: FloatArray) -> bool:
    """Whether the parameters of two fits are different minima: other defocus, or other astigmatism or phase shift."""
    return bool(np.abs(a[:3] - b[:3]).max() > SAME_A or abs(math.sin(a[3] - b[3])) > 0.3)


def defocus_of(parameters: FloatArray) -> tuple[float, float, float]:
    """``defocus_u >= defocus_v`` and the direction of u, from mean and astigmatism vector.

    >>> [round(x, 3) for x in defocus_of(np.array([10000.0, 0.0, 100.0, 0.0]))]
    [10100.0, 9900.0, 0.785]
    """
    half = math.hypot(parameters[1], parameters[2])
    angle = 0.5 * math.atan2(parameters[2], parameters[1])
    return float(parameters[0] + half), float(parameters[0] - half), angle


def _picture(
    spectrum: Spectrum, microscope: Microscope, fit: RingFit, curve: Curve, settings: FitSettings
) -> FloatArray:
    """Spectrum above its baseline (left) beside the rings of the fit (right half), both about -1 to 1.

    The upper left quarter is the spectrum itself, the lower left its average along lines of equal phase.
    """
    rings = rings_of(spectrum, settings.min_resolution_A, 0.0)
    box, half = rings.on_grid.shape
    model, _ = RingModel(rings, microscope, float(fit.parameters[0])).rings_and_slope(fit.parameters)
    average = np.interp(equal_phase_frequency(rings, microscope, fit.parameters), curve.frequency_per_A, curve.spectrum)
    single, along, right = np.zeros((3, box, half), np.float32)
    single[rings.on_grid] = rings.value / (2.0 * rings.value.std() + 1e-12)
    along[rings.on_grid] = average / (2.0 * average.std() + 1e-12)
    right[rings.on_grid] = model
    single, along, right = (np.fft.fftshift(part, axes=0) for part in (single, along, right))
    picture = np.zeros((box, box), np.float32)
    # The left half of the plane holds the conjugates: (-fy, -fx) for every (fy, fx).
    for part, rows in ((single, slice(0, box // 2)), (along, slice(box // 2, box))):
        mirrored = np.roll(part[::-1], 1 - box % 2, axis=0)[:, ::-1]
        picture[rows, : box // 2] = mirrored[rows, -1 - box // 2 : -1]
    picture[:, box // 2 :] = right[:, : box - box // 2]
    return picture
