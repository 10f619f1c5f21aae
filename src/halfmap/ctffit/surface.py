"""Defocus over a micrograph: level, plane or curved, fitted to the spectra of all tiles at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.stats import f as f_distribution

from halfmap.ctffit.fit import N_ENVELOPE
from halfmap.ctffit.model import Microscope, fading
from halfmap.ctffit.search import ENVELOPE_A2
from halfmap.ctffit.spectrum import radial_basis
from halfmap.ctffit.tiles import N_SECTORS, Tiles
from halfmap.optics.defocus_surface import DefocusSurface, surface_terms
from halfmap.typing import Array, FloatArray
from halfmap.units import DEG

STEP_A: Final = 40.0
MARGIN_A: Final = 1500.0
"""How far the defocus at the centre may lie from that of the whole micrograph."""
SMALLEST_DEFOCUS_A: Final = 200.0
STEEPEST_RAD: Final = 65.0 * DEG
COARSE_A: Final = 160.0
"""Planes of the search differ by this much at the farthest tile."""
FOLDS: Final = 4
BY_CHANCE: Final = 3e-4
"""A surface with more terms is taken if noise makes them as large with less than this probability."""
ROUGH: Final = 0.02
"""Tiles scatter by more than their noise if that noise would make them do so with less than this probability."""
MAX_STEPS: Final = 30
SETTLED_A: Final = 0.1
N_TERMS: Final = {"level": 1, "plane": 3, "curved": 6}
"""Free numbers of each kind of surface; the first is the defocus at the centre."""


@dataclass(frozen=True, eq=False)
class LocalDefocus:
    """What the tiles say of the shape of the specimen."""

    kind: str
    """``level``, ``plane`` or ``curved``: the simplest that the tiles do not contradict."""
    surface: DefocusSurface
    """Of that kind."""
    mean_defocus_A: float
    """At the centre of the micrograph."""
    defocus_error_A: float
    plane_slope: tuple[float, float]
    """Slopes of the best plane, whichever kind was chosen."""
    slope_covariance: FloatArray
    """``[2, 2]`` of those slopes."""
    chance: dict[str, float]
    """Probability that noise alone tilts the best ``plane``, or bends the best ``curved`` surface, as much."""

    @property
    def tilt_error_rad(self) -> float:
        """Standard error of the tilt of the plane, along its slope (along the worse direction where it has none)."""
        slope = np.array(self.plane_slope)
        steep = float(np.hypot(*slope))
        variance = np.linalg.eigvalsh(self.slope_covariance)[-1]
        if self.kind != "level" and steep > 0:
            variance = slope @ self.slope_covariance @ slope / steep**2
        return float(np.sqrt(max(float(variance), 0.0)) / (1.0 + steep**2))


@dataclass(frozen=True, eq=False)
class _Table:
    """Score of every tile at every defocus: correlation of its rings with those of the defocus."""

    defocus_A: FloatArray
    score: FloatArray
    """``[tile, defocus]``."""
    shared: float
    noise: FloatArray
    """``[tile]`` variance of the slope of the score by noise alone (``_slope_noise``)."""

    @cached_property
    def curves(self) -> CubicSpline:
        return CubicSpline(self.defocus_A, self.score, axis=1)

    def at(self, defocus_A: FloatArray, order: int = 0) -> FloatArray:
        """Score of each tile, or a derivative of it, at a defocus of its own; beyond the table that of its end."""
        place = np.clip(defocus_A, self.defocus_A[0], self.defocus_A[-1])
        step = np.clip(np.searchsorted(self.defocus_A, place, side="right") - 1, 0, len(self.defocus_A) - 2)
        c = self.curves.c[:, step, np.arange(len(place))]
        t = place - self.defocus_A[step]
        if order == 0:
            return np.asarray(((c[0] * t + c[1]) * t + c[2]) * t + c[3])
        if order == 1:
            return np.asarray((3.0 * c[0] * t + 2.0 * c[1]) * t + c[2])
        return np.asarray(6.0 * c[0] * t + 2.0 * c[1])

    def of(self, tiles: Array) -> _Table:
        """The same of some tiles."""
        return _Table(self.defocus_A, self.score[tiles], self.shared, self.noise[tiles])


@dataclass(frozen=True, eq=False)
class _Fit:
    coefficients: FloatArray
    """Of the scaled terms, in Å."""
    gradient: FloatArray
    """``[tile, term]`` slope of the score of each tile at the fit."""
    terms: FloatArray
    """``[tile, term]``."""
    sharpness: FloatArray
    """``[tile]`` minus the second derivative of the score of each tile by its defocus."""
    shared: float
    """How many times the tiles count the same pixels (``Tiles.shared``)."""
    noise: FloatArray
    """``[tile]`` variance of the slope of the score by noise alone."""

    @cached_property
    def inverse(self) -> FloatArray:
        """Inverse of the curvature of the score."""
        return np.asarray(np.linalg.pinv(self.terms.T @ (self.sharpness[:, None] * self.terms)))

    @cached_property
    def scatter(self) -> FloatArray:
        """``[tile]`` slope of each tile's score, had the tile not taken part (HC3; MacKinnon & White 1985)."""
        leverage = self.sharpness * np.einsum("ti,ij,tj->t", self.terms, self.inverse, self.terms)
        return np.asarray(self.gradient[:, 0] / np.clip(1.0 - leverage, 0.1, 2.0))

    @cached_property
    def excess(self) -> float:
        """Scatter of the tiles' slopes over what noise makes of them."""
        return float((self.scatter**2 / self.noise).mean())

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the scatter among tiles."""
        n, k = self.terms.shape
        return max(float(n / self.shared - k), 1.0)

    @property
    def noise_degrees(self) -> float:
        """Degrees of freedom of the noise, to which all sectors of all tiles contribute."""
        return float((N_SECTORS - 1) * len(self.terms) / self.shared)

    @property
    def rough(self) -> bool:
        """Whether the tiles scatter by more than their noise: the specimen is not as smooth as the surface."""
        return bool(f_distribution.sf(self.excess, self.degrees, self.noise_degrees) < ROUGH)

    def covariance(self) -> FloatArray:
        """Curvature on either side of the variance of the tiles' gradients; what overlapping tiles share counts once.

        The variance is that of the noise, known from the sectors, but not less than the scatter among tiles. On a rough
        specimen it is that scatter alone, term by term (sandwich estimate).
        """
        if self.rough:
            spread = self.scatter[:, None] * self.terms
            middle = spread.T @ spread
        else:
            middle = max(1.0, self.excess) * (self.terms.T @ (self.noise[:, None] * self.terms))
        return np.asarray(self.inverse @ middle @ self.inverse * self.shared)

    def chance(self, n_extra: int) -> float:
        """Probability that noise alone makes the last ``n_extra`` coefficients as large as these (Wald, F)."""
        extra = self.coefficients[-n_extra:]
        covariance = self.covariance()[-n_extra:, -n_extra:]
        statistic = float(extra @ np.linalg.pinv(covariance) @ extra) / n_extra
        return float(f_distribution.sf(statistic, n_extra, self.degrees if self.rough else self.noise_degrees))


def fit_surface(
    tiles: Tiles, microscope: Microscope, parameters: FloatArray, centre_px: tuple[float, float]
) -> LocalDefocus:
    """Fit planes and curved surfaces of defocus to all tiles jointly, and choose among them.

    For each tile the correlation of its spectrum with the rings of every defocus is tabulated once,
    astigmatism included. The score of a surface is the sum over tiles of their correlations at the
    defocus that it gives them, which up to constants is the log-likelihood; no tile is fitted by
    itself. Planes are searched through up to 65 degrees, then refined by Newton's method. A surface
    with more terms is taken only where noise alone would hardly make them as large (Wald test), and
    where tiles that did not take part in its fit prefer it. Errors come from the scatter among the
    sectors of each tile, or among the tiles if that is larger, not from an assumed noise.

    Parameters
    ----------
    tiles
        Spectra of the tiles.
    microscope
        Constants of the CTF.
    parameters
        Mean defocus, astigmatism vector x and y (Å), phase shift (rad), of the whole micrograph.
    centre_px
        Pixel (x, y) that the tiles' positions are counted from.
    """
    extent = float(max(np.hypot(tiles.x_A, tiles.y_A).max(), 1.0))
    terms = _scaled_terms(tiles, extent)
    wide = table = _score_table(tiles, microscope, parameters, extent)
    start = _coarse_plane(wide, terms, extent, float(parameters[0]))
    for _ in range(2):
        start = _refined(table, terms[:, :3], start).coefficients
        table = _score_table(tiles, microscope, parameters, extent, start)
    table = replace(table, noise=_slope_noise(tiles, microscope, parameters, extent, start))
    fits = _fits(table, terms, start)

    def held_out() -> dict[str, float]:
        """Score of the tiles of each fold by surfaces that were searched for and fitted in the others."""
        total = dict.fromkeys(N_TERMS, 0.0)
        for fold in range(FOLDS):
            out = _folds(tiles) == fold
            plane = _coarse_plane(wide.of(~out), terms[~out], extent, float(parameters[0]))
            for kind, fit in _fits(table.of(~out), terms[~out], plane).items():
                total[kind] += float(table.of(out).at(terms[out, : N_TERMS[kind]] @ fit.coefficients).sum())
        return total

    chance = {"plane": fits["plane"].chance(2), "curved": fits["curved"].chance(3)}
    kind = "level"
    if min(chance.values()) < BY_CHANCE:
        score = held_out()
        for more in ("plane", "curved"):
            if chance[more] < BY_CHANCE and score[more] > score[kind]:
                kind = more
    return _result(kind, fits, chance, extent, centre_px)


def _fits(table: _Table, terms: FloatArray, plane: FloatArray) -> dict[str, _Fit]:
    """Each kind of surface, the plane from a start, the curved one from the plane."""
    level = np.array([table.defocus_A[np.argmax(table.score.sum(axis=0))]])
    fits = {"level": _refined(table, terms[:, :1], level), "plane": _refined(table, terms[:, :3], plane)}
    fits["curved"] = _refined(table, terms, np.append(fits["plane"].coefficients, np.zeros(3)))
    return fits


def _scaled_terms(tiles: Tiles, extent: float) -> FloatArray:
    """``[tile, 6]`` constant, x, y, x², xy, y² with positions in units of the extent."""
    terms = surface_terms(tiles.x_A / extent, tiles.y_A / extent)
    return np.concatenate([np.ones((len(tiles), 1)), terms], axis=1)


def _score_table(
    tiles: Tiles,
    microscope: Microscope,
    parameters: FloatArray,
    extent: float,
    plane: FloatArray | None = None,
) -> _Table:
    """Correlate each tile with the rings of each defocus; a ``plane`` tells the envelope and the blur in a tile."""
    reach = np.tan(STEEPEST_RAD) * extent if plane is None else float(np.abs(plane[1:]).sum())
    middle = float(parameters[0]) if plane is None else float(plane[0])
    low = max(middle - reach - MARGIN_A, SMALLEST_DEFOCUS_A)
    defocus = np.arange(low, middle + reach + MARGIN_A, STEP_A)
    if plane is None:
        envelope = np.exp(-0.5 * ENVELOPE_A2 * tiles.frequency_squared)
    else:
        envelope = _plane_envelope(tiles, microscope, parameters, extent, plane)
    score, power = np.zeros((len(tiles), len(defocus))), np.zeros(len(defocus))
    for sector, rings in enumerate(_rings(tiles, microscope, parameters, defocus, envelope)):
        weighted = rings * tiles.count[sector][:, None]
        score += (tiles.weight[:, None] * tiles.value[:, sector]) @ weighted
        power += np.einsum("ij,ij->j", weighted, rings)
    return _Table(defocus, score / np.sqrt(np.maximum(power, 1e-30)), tiles.shared, np.ones(len(tiles)))


def _slope_noise(
    tiles: Tiles, microscope: Microscope, parameters: FloatArray, extent: float, plane: FloatArray
) -> FloatArray:
    """Variance by noise of the slope ``[tile]`` of each tile's score by defocus, at a plane.

    At the right defocus no sector of direction asks for another: how much the sectors of a tile differ in what they ask
    for is noise. Neighbours are a little alike, and their covariance counts. All tiles together tell the variance, each
    by its share of independent pixels.
    """
    place = _scaled_terms(tiles, extent)[:, :3] @ plane
    envelope = _plane_envelope(tiles, microscope, parameters, extent, plane)
    at, lower, higher = (_rings(tiles, microscope, parameters, place + d, envelope) for d in (0.0, -STEP_A, STEP_A))
    slope, power = np.zeros((N_SECTORS, len(tiles))), np.zeros(len(tiles))
    for sector, (rings, below, above) in enumerate(zip(at, lower, higher, strict=True)):
        count = tiles.count[sector][:, None]
        slope[sector] = np.einsum("ts,st->t", tiles.value[:, sector], count * (above - below) / (2.0 * STEP_A))
        power += (count * rings**2).sum(axis=0)
    slope *= np.sqrt(tiles.weight / np.maximum(power, 1e-30))
    slope -= slope.mean(axis=0)
    variance = float((slope**2).sum(axis=0).mean())
    neighbours = float((slope * np.roll(slope, 1, axis=0)).sum(axis=0).mean())
    alike = max(2.0 * neighbours, 0.0)
    return np.asarray((variance + alike) * N_SECTORS / (N_SECTORS - 1.0) * tiles.weight)


def _plane_envelope(
    tiles: Tiles, microscope: Microscope, parameters: FloatArray, extent: float, plane: FloatArray
) -> FloatArray:
    """Height of the rings against frequency for tiles on a plane, with the blur that its slope makes in each."""
    envelope = _envelope(tiles, microscope, parameters, _scaled_terms(tiles, extent)[:, :3] @ plane)
    for slope in plane[1:] / extent:
        envelope = envelope * np.sinc(microscope.wavelength_A * tiles.frequency_squared * slope * tiles.edge_A)
    return envelope


def _rings(
    tiles: Tiles, microscope: Microscope, parameters: FloatArray, defocus_A: FloatArray, envelope: FloatArray
) -> Iterator[FloatArray]:
    """Rings ``-cos 2γ`` of each sector as ``[step, defocus]``, less the smooth curve that fits them best.

    They fade with the size of a tile. A wrong baseline of a tile scores nothing with them. The cosine
    is taken once: what astigmatism adds to a sector's phase goes by the addition theorem.
    """
    squared = tiles.frequency_squared
    phase = 2.0 * microscope.phase_rad(squared[:, None], defocus_A[None, :], float(parameters[3]))
    fade = fading(microscope.lag_A(squared[:, None], defocus_A[None, :]), 0.0, tiles.edge_A) * envelope[:, None]
    even, odd = -np.cos(phase) * fade, np.sin(phase) * fade
    root = np.sqrt(tiles.count.sum(axis=0))[:, None]
    orthonormal = np.linalg.qr(radial_basis(np.sqrt(squared)) * root)[0]
    smooth = orthonormal / np.where(root > 0, root, 1.0)
    weighted = orthonormal * root
    for direction in tiles.direction_rad:
        astigmatism = parameters[1] * np.cos(2.0 * direction) + parameters[2] * np.sin(2.0 * direction)
        more = (2.0 * np.pi * microscope.wavelength_A * astigmatism) * squared[:, None]
        rings = np.cos(more) * even + np.sin(more) * odd
        yield rings - smooth @ (weighted.T @ rings)


def _envelope(tiles: Tiles, microscope: Microscope, parameters: FloatArray, at_tile_A: FloatArray) -> FloatArray:
    """Height of the rings against frequency: one smooth curve that fits all tiles at the defocus of each."""
    squared = tiles.frequency_squared
    basis = radial_basis(np.sqrt(squared), N_ENVELOPE)
    along, power = np.zeros((2, len(squared)))
    for sector, rings in enumerate(_rings(tiles, microscope, parameters, at_tile_A, np.ones(len(squared)))):
        along += tiles.count[sector] * np.einsum("ti,it->i", tiles.value[:, sector], rings)
        power += tiles.count[sector] * np.einsum("it,it->i", rings, rings)
    normal = basis.T @ (power[:, None] * basis)
    normal += 1e-6 * np.trace(normal) / len(normal) * np.eye(len(normal))
    return np.maximum(basis @ np.linalg.solve(normal, basis.T @ along), 0.0)


def _coarse_plane(table: _Table, terms: FloatArray, extent: float, middle_A: float) -> FloatArray:
    """The best of all planes on a grid of slopes and of defocus at the centre."""
    reach = np.tan(STEEPEST_RAD) * extent
    along = np.arange(-(reach // COARSE_A), reach // COARSE_A + 1) * COARSE_A
    slopes = np.stack(np.meshgrid(along, along), axis=-1).reshape(-1, 2)
    slopes = slopes[np.hypot(*slopes.T) <= reach + 1.0]
    first = np.rint((middle_A + slopes @ terms[:, 1:3].T - table.defocus_A[0]) / STEP_A).astype(np.int64)
    rows, last = np.arange(len(terms))[None, :], len(table.defocus_A) - 1
    best, found = -np.inf, np.zeros(3)
    for shift in np.arange(-MARGIN_A, MARGIN_A + 1.0, 2.0 * STEP_A):
        total = table.score[rows, np.clip(first + round(shift / STEP_A), 0, last)].sum(axis=1)
        top = int(np.argmax(total))
        if total[top] > best:
            best, found = float(total[top]), np.array([middle_A + shift, *slopes[top]])
    return found


def _refined(table: _Table, terms: FloatArray, start: FloatArray) -> _Fit:
    """Newton's method, damped so that the score never falls."""
    found, damping = start.astype(np.float64), 1e-3
    score = float(table.at(terms @ found).sum())
    for _ in range(MAX_STEPS):
        place = terms @ found
        gradient = terms.T @ table.at(place, 1)
        curvature = terms.T @ (np.maximum(-table.at(place, 2), 0.0)[:, None] * terms)
        scale = np.diag(curvature) + 1e-12 * np.trace(curvature) + 1e-30
        step = np.linalg.solve(curvature + damping * np.diag(scale), gradient)
        trial = float(table.at(terms @ (found + step)).sum())
        if trial > score:
            found, score, damping = found + step, trial, max(0.2 * damping, 1e-6)
            if np.abs(step).max() < SETTLED_A:
                break
        else:
            damping *= 6.0
            if damping > 1e6:
                break
    place = terms @ found
    gradient = table.at(place, 1)[:, None] * terms
    return _Fit(found, gradient, terms, -table.at(place, 2), table.shared, table.noise)


def _folds(tiles: Tiles) -> Array:
    """Number of the fold of each tile: blocks of neighbours, which share pixels, stay together."""
    row, column = (np.unique(place, return_inverse=True)[1] for place in (tiles.y_A, tiles.x_A))
    return np.asarray((column // 2 + 2 * (row // 2)) % FOLDS)


def _result(
    kind: str, fits: dict[str, _Fit], chance: dict[str, float], extent: float, centre_px: tuple[float, float]
) -> LocalDefocus:
    chosen, plane = fits[kind], fits["plane"]
    scaled = np.zeros(6)
    scaled[: len(chosen.coefficients)] = chosen.coefficients
    per_A = scaled[1:] / extent ** np.array([1.0, 1.0, 2.0, 2.0, 2.0])
    return LocalDefocus(
        kind=kind,
        surface=DefocusSurface(tuple(per_A.tolist()), centre_px),
        mean_defocus_A=float(scaled[0]),
        defocus_error_A=float(np.sqrt(chosen.covariance()[0, 0])),
        plane_slope=(float(plane.coefficients[1] / extent), float(plane.coefficients[2] / extent)),
        slope_covariance=plane.covariance()[1:, 1:] / extent**2,
        chance=chance,
    )
