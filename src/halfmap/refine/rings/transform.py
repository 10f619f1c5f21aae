"""Global search by rings: all in-plane angles of many directions at once, as matrix products.

A real image's Fourier transform is expanded on rings of radius ``r`` into angular orders ``m``,

    P(k) = sum_r a_r(|k|) (1/M) sum_m P_m(r) exp(i m angle(k)),

where ``a_r`` interpolates between rings of unit spacing. A *reference* (class average, slice of a
map) is smooth in Fourier space, because the particle is smaller than the box, so that it is the
reference that is interpolated; an *image* meets the rings through the adjoint,

    X_m(r) = sum_k a_r(|k|) X(k) exp(-i m angle(k)),

and no noise is interpolated: the score below is the pixel-wise likelihood itself, up to the
interpolation error of the reference. With ``X = CTF image / sigma2`` and ``W = CTF^2 / sigma2``
the log-likelihood of direction ``d``, in-plane angle ``psi`` and shift ``s`` relative to an empty
image is, with ``sigma2(k) = E|noise(k)|^2``,

    L(psi) = sum_k conj(X_s) P(psi) - 1/2 sum_k W |P(psi)|^2      (k over the full plane)
           = (1/M) sum_m exp(i m psi) sum_r [ conj(X_m(r)) P_m(r) - 1/2 conj(W_m(r)) Q_m(r) ],

with ``Q = |P|^2`` (twice as wide in real space, hence on rings of half the spacing): for every
order ``m`` a product of an (images x shifts) x rings matrix with a rings x directions matrix, then
a short transform over ``m``. ``psi`` is the third Euler angle of ``rot_img_from_map``: the image of
a reference at ``psi`` is ``P(angle + psi)``.

Of the Friedel pair ``k, -k`` only one pixel is given; even orders depend on its real part alone
and odd orders on its imaginary part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.typing import Array, FloatArray

N_TAPS = 6
"""Rings between which a reference is interpolated; the error is measured in the tests."""
ORDER_BLOCK = 8
"""Angular orders multiplied at once; inner rings that carry none of them are left out."""


@dataclass(frozen=True)
class RingGrid:
    """Rings of radius 0 .. n_rings-1 Fourier pixels with ``n_angles`` angles each.

    Attributes
    ----------
    n_rings
        Number of rings, the one at radius 0 included.
    n_angles
        Angles on a full ring, which is also the number of in-plane angles searched; a multiple of 4.
    object_radius_frac
        Radius of the references in real space as a fraction of the box (at most 0.5); it limits
        the angular orders of a ring and shapes the interpolation between rings.
    """

    n_rings: int
    n_angles: int
    object_radius_frac: float

    def __post_init__(self) -> None:
        if self.n_rings < N_TAPS:
            raise HalfmapError(f"a search by rings needs {N_TAPS} rings or more, found {self.n_rings}")
        if self.n_angles % 4 or self.n_angles < 8:
            raise HalfmapError(f"the number of angles must be a multiple of 4, found {self.n_angles}")
        if not 0 < self.object_radius_frac <= 0.5:
            raise HalfmapError(f"the object's radius must be up to half the box, found {self.object_radius_frac}")

    @property
    def n_orders(self) -> int:
        """Angular orders m = 0 .. n_orders-1 that are kept."""
        return self.n_angles // 2

    @property
    def psi_rad(self) -> FloatArray:
        """In-plane angles of the search."""
        return 2 * np.pi * np.arange(self.n_angles) / self.n_angles

    def pixels_per_point(self, device: torch.device) -> Float[Tensor, " r"]:
        """Fourier pixels that one point of each ring stands for (a disc of radius 1/2 at the centre), float64."""
        radius = torch.arange(self.n_rings, dtype=torch.float64, device=device)
        return torch.where(radius == 0, math.pi / 4, 2 * math.pi * radius) / self.n_angles

    def for_power(self) -> RingGrid:
        """Rings of half the spacing, on which ``|P|^2`` and ``CTF^2`` meet."""
        return RingGrid(2 * self.n_rings - 1, self.n_angles, self.object_radius_frac)

    def orders_of_ring(self, ring: int) -> int:
        """Number of orders that an object of this radius has on a ring (the Debye tail included)."""
        return min(self.n_orders, _orders_of_argument(2 * math.pi * ring * self.object_radius_frac))

    def first_ring_of_order(self, order: int) -> int:
        """Innermost ring that carries an order."""
        for ring in range(self.n_rings):
            if self.orders_of_ring(ring) > order:
                return ring
        return self.n_rings - 1


def _orders_of_argument(argument: float) -> int:
    """Orders m for which the Bessel function J_m(argument) is not negligible (below about 1e-3)."""
    if argument == 0:
        return 1
    return math.ceil(argument + 1.9 * math.cbrt(argument)) + 1


def ring_grid(max_radius_px: float | int, object_radius_frac: float) -> RingGrid:
    """Grid that holds Fourier pixels up to a radius, with as many angles as the object's band limit asks for."""
    n_rings = max(N_TAPS, math.floor(max_radius_px) + 2)
    outermost = _orders_of_argument(2 * math.pi * (n_rings - 1) * object_radius_frac)
    return RingGrid(n_rings, 8 * math.ceil(2 * outermost / 8), object_radius_frac)


def interpolation_taps(offset: FloatArray, n_taps: int, object_radius_frac: float) -> FloatArray:
    """Weights of ``n_taps`` unit-spaced samples for a value at ``offset`` from the first of them.

    Least squares over all objects within the radius: minimises the integral over |t| < radius of
    ``|sum_j a_j exp(2 pi i t j) - exp(2 pi i t offset)|^2`` (t in boxes).

    Parameters
    ----------
    offset
        Shape [n], in samples.
    n_taps
        Number of samples.
    object_radius_frac
        Radius of the objects, in boxes.

    Returns
    -------
    FloatArray
        Shape [n, n_taps], float64.
    """
    taps = np.arange(n_taps)
    width = 2 * object_radius_frac
    gram = np.sinc(width * (taps[:, None] - taps[None, :])) + 1e-9 * np.eye(n_taps)
    target = np.sinc(width * (taps[None, :] - np.asarray(offset)[:, None]))
    return np.asarray(np.linalg.solve(gram, target.T).T)


@dataclass(frozen=True)
class _Ring:
    """What one ring takes from the pixels: a range of them, and matrices to even and odd orders."""

    ring: int
    start: int
    stop: int
    even: Tensor  # [pixels, even orders * 2]
    odd: Tensor  # [pixels, odd orders * 2]


class RingTransform:
    """The map from Fourier pixels of one geometry to ring coefficients.

    Parameters
    ----------
    grid
        The rings.
    kx_px, ky_px
        Fourier pixels, shape [p], in units of the rings' spacing (not necessarily integers: optics
        groups with other box sizes share the rings). One of each Friedel pair; no zero frequency.
    device
        Where the matrices live.
    """

    def __init__(self, grid: RingGrid, kx_px: FloatArray, ky_px: FloatArray, device: torch.device) -> None:
        radius = np.hypot(kx_px, ky_px).astype(np.float64)
        if radius.size == 0 or radius.min() <= 0 or radius.max() > grid.n_rings - 1:
            raise HalfmapError(f"Fourier pixels must lie between the rings 0 and {grid.n_rings - 1}")
        self.grid = grid
        self.n_pixels = int(radius.size)
        order = np.argsort(radius, kind="stable")
        self._order = torch.as_tensor(order, device=device)
        radius, angle = radius[order], np.arctan2(ky_px, kx_px).astype(np.float64)[order]
        turns = np.exp(-1j * angle[:, None] * np.arange(grid.n_orders)).astype(np.complex64)
        self._rings = _rings(grid, radius, turns, device)
        self._power_rings = _rings(grid.for_power(), 2 * radius, turns, device)
        self._normal = torch.as_tensor(_normal_bands(grid, radius), dtype=torch.float32, device=device)

    def images(self, weighted: Complex[Tensor, "n p"]) -> Float[Tensor, "m n r 2"]:
        """Ring coefficients ``X_m(r)`` of weighted images (CTF image / sigma2), real and imaginary part last."""
        weighted = weighted[:, self._order]
        return self._coefficients(self._rings, weighted.real.contiguous(), weighted.imag.contiguous())

    def power(self, weights: Float[Tensor, "n p"]) -> Float[Tensor, "e n h 2"]:
        """Coefficients ``W_m`` of real weights (CTF^2 / sigma2) on rings of half the spacing.

        Orders 0, 2, 4 ... only, the others are zero.
        """
        return self._coefficients(self._power_rings, weights[:, self._order], None)[0::2].contiguous()

    def normal(self, weights: Float[Tensor, "n p"]) -> Float[Tensor, "n b r 2"]:
        """What real weights (CTF^2 / sigma2) add to the normal equations of an average.

        The matrices ``N(r, r + b) = sum_k a_r W a_{r+b}`` of the even and odd orders (last axis),
        over the full plane, averaged over angles; symmetric and banded, ``b = 0 .. N_TAPS - 1``.
        """
        bands = weights[:, self._order] @ self._normal.flatten(1)
        return bands.reshape(-1, *self._normal.shape[1:])

    def _coefficients(
        self, rings: list[_Ring], real: Float[Tensor, "n p"], imag: Float[Tensor, "n p"] | None
    ) -> Float[Tensor, "m n r 2"]:
        n = real.shape[0]
        result = real.new_zeros(self.grid.n_orders, n, len(rings), 2)
        for ring in rings:
            pixels = slice(ring.start, ring.stop)
            even = (real[:, pixels] @ ring.even).reshape(n, -1, 2)
            result[0 : 2 * even.shape[1] : 2, :, ring.ring] = even.transpose(0, 1)
            if imag is not None and ring.odd.shape[1]:
                odd = (imag[:, pixels] @ ring.odd).reshape(n, -1, 2)
                result[1 : 2 * odd.shape[1] : 2, :, ring.ring] = odd.transpose(0, 1)
        return result


def _normal_bands(grid: RingGrid, radius: FloatArray) -> FloatArray:
    """Products of the interpolation weights of rings r and r + b, ``[p, b, r, 2]`` for even and odd orders."""
    same, mirrored = interpolation_matrices(grid, radius)
    bands = np.zeros((len(radius), N_TAPS, grid.n_rings, 2))
    for parity, sign in enumerate((1.0, -1.0)):
        both = same + sign * mirrored
        for band in range(N_TAPS):
            bands[:, band, : grid.n_rings - band, parity] = 2 * both[:, : grid.n_rings - band] * both[:, band:]
    return bands


def interpolation_matrices(grid: RingGrid, radius: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Weights ``[p, rings]`` of the rings at each radius, and those of the same rings seen beyond the centre."""
    first = np.minimum(np.floor(radius).astype(np.int64) - N_TAPS // 2 + 1, grid.n_rings - N_TAPS)
    taps = interpolation_taps(radius - first, N_TAPS, grid.object_radius_frac)
    same = np.zeros((len(radius), grid.n_rings))
    mirrored = np.zeros_like(same)
    rows = np.arange(len(radius))
    for tap in range(N_TAPS):
        ring = first + tap
        inside = ring >= 0
        same[rows[inside], ring[inside]] += taps[inside, tap]
        mirrored[rows[~inside], -ring[~inside]] += taps[~inside, tap]
    return same, mirrored


def _rings(grid: RingGrid, radius: FloatArray, turns: Array, device: torch.device) -> list[_Ring]:
    """Matrices of all rings for pixels sorted by radius, from their ``exp(-i m angle)`` ``[p, m]``."""
    same, mirrored = (weights.astype(np.float32) for weights in interpolation_matrices(grid, radius))
    return [_ring(grid, ring, same[:, ring], mirrored[:, ring], turns, device) for ring in range(grid.n_rings)]


def _ring(grid: RingGrid, ring: int, same: Array, mirrored: Array, turns: Array, device: torch.device) -> _Ring:
    """Matrices of one ring; seen beyond the centre its odd orders change sign."""
    used = np.flatnonzero((same != 0) | (mirrored != 0))
    start, stop = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 0)
    near, far = same[start:stop, None], mirrored[start:stop, None]
    orders = grid.orders_of_ring(ring)
    even = 2 * (near + far) * turns[start:stop, 0:orders:2]
    # An imaginary part is met by the imaginary unit, which makes sines of cosines.
    odd = 2j * (near - far) * turns[start:stop, 1:orders:2]

    def on_device(matrix: Array) -> Tensor:
        return torch.as_tensor(matrix.view(np.float32), device=device)

    return _Ring(ring, start, stop, on_device(even), on_device(odd.astype(np.complex64)))


@dataclass(frozen=True)
class RingReferences:
    """References in the form that the products need.

    Attributes
    ----------
    grid
        The rings.
    real, imag
        ``[m, 2 rings, d]``: columns that give the real and the imaginary part of the product.
    power_real, power_imag
        ``[e, 2 half-spaced rings, d]``: the same of ``|P|^2 / 2``, even orders only.
    """

    grid: RingGrid
    real: Tensor
    imag: Tensor
    power_real: Tensor
    power_imag: Tensor

    def __len__(self) -> int:
        return int(self.real.shape[2])


def ring_references(grid: RingGrid, polar: Complex[Tensor, "d r t"]) -> RingReferences:
    """Prepare references given on half rings.

    Parameters
    ----------
    grid
        The rings.
    polar
        Fourier transforms (without CTF) of centred real images at radius ``r`` and angles
        ``pi j / t``, t = n_angles / 2; the other half of each ring is the complex conjugate.
    """
    coefficients = angular_coefficients(grid, polar)
    half_power = (_at_half_spacing(grid, polar).abs().square() / 2).to(polar.dtype)
    power = angular_coefficients(grid, half_power)[0::2]
    return RingReferences(grid, *_columns(coefficients), *_columns(power))


def _at_half_spacing(grid: RingGrid, polar: Complex[Tensor, "d r t"]) -> Complex[Tensor, "d h t"]:
    """Interpolate rings of half the spacing; beyond the centre lies the conjugate of the same ring."""
    same, mirrored = interpolation_matrices(grid, np.arange(2 * grid.n_rings - 1) / 2)
    direct = torch.as_tensor(same, dtype=polar.dtype, device=polar.device) @ polar
    beyond = torch.as_tensor(mirrored, dtype=polar.dtype, device=polar.device) @ polar.conj()
    return torch.add(direct, beyond)


def _columns(coefficients: Complex[Tensor, "m d r"]) -> tuple[Tensor, Tensor]:
    by_ring = coefficients.transpose(1, 2)  # m, r, d
    real = torch.stack([by_ring.real, by_ring.imag], dim=2).flatten(1, 2).contiguous()
    imag = torch.stack([by_ring.imag, -by_ring.real], dim=2).flatten(1, 2).contiguous()
    return real, imag


def angular_coefficients(grid: RingGrid, polar: Complex[Tensor, "d r t"]) -> Complex[Tensor, "m d r"]:
    """Angular Fourier coefficients, m = 0 .. n_orders-1, of Friedel-symmetric full rings given by their halves."""
    full = torch.cat([polar, polar.conj()], dim=-1)
    coefficients: Tensor = torch.fft.fft(full, dim=-1)[..., : grid.n_orders]
    return coefficients.movedim(-1, 0).contiguous()


def from_angular_coefficients(grid: RingGrid, coefficients: Complex[Tensor, "m d r"]) -> Complex[Tensor, "d r t"]:
    """Half rings of the values that have these coefficients (and their Friedel mates of negative order)."""
    # Order -m has the coefficient (-1)^m conj(P_m), because P(angle + pi) = conj(P(angle)).
    full = coefficients.new_zeros(*coefficients.shape[1:], grid.n_angles)
    full[..., : grid.n_orders] = coefficients.movedim(0, -1)
    orders = torch.arange(1, grid.n_orders, device=coefficients.device)
    sign = 1.0 - 2.0 * (orders % 2)
    full[..., grid.n_angles - orders] = sign * coefficients[1:].conj().movedim(0, -1)
    values: Tensor = torch.fft.ifft(full, dim=-1)
    return values[..., : grid.n_angles // 2].contiguous()


def shift_phases(
    kx_px: Shaped[Tensor, " p"], ky_px: Shaped[Tensor, " p"], shifts: Float[Tensor, "s 2"], box: float | int
) -> Complex[Tensor, "s p"]:
    """Factors that shift images by (x, y): ``exp(-2 pi i k . shift / box)``, shift and box in one unit."""
    cycles = (shifts[:, :1].double() * kx_px.double() + shifts[:, 1:].double() * ky_px.double()) / box
    angle = (-2 * math.pi * (cycles - torch.round(cycles))).float()
    return torch.polar(torch.ones_like(angle), angle)


def log_likelihoods(
    references: RingReferences, images: Float[Tensor, "m ns r 2"], power: Float[Tensor, "e n h 2"]
) -> Float[Tensor, "n psi s d"]:
    """Log-likelihood, relative to an empty image, of all in-plane angles, shifts and directions.

    Parameters
    ----------
    references
        Directions or classes.
    images
        Coefficients of ``n`` images at ``s`` shifts each (image major), from ``RingTransform.images``.
    power
        Coefficients of ``CTF^2 / sigma2`` of the images, from ``RingTransform.power``.
    """
    grid = references.grid
    n, n_directions = power.shape[1], len(references)
    n_shifts = images.shape[1] // n
    product_real, product_imag = _ring_products(grid, images, references.real, references.imag, step=1)
    norm_real, norm_imag = _ring_products(grid.for_power(), power, references.power_real, references.power_imag, step=2)
    cosine, sine = angular_transform(grid, images)

    def half_turn(start: int, real: Tensor, imag: Tensor) -> Tensor:
        real, imag = (part.view(part.shape[0], n, -1).transpose(0, 1) for part in (real, imag))
        result = cosine[:, start::2].expand(n, -1, -1) @ real
        return torch.baddbmm(result, sine[:, start::2].expand(n, -1, -1), imag)

    n_half = grid.n_angles // 2
    even = half_turn(0, product_real[0::2], product_imag[0::2]).view(n, n_half, n_shifts, n_directions)
    even -= half_turn(0, norm_real, norm_imag).view(n, n_half, 1, n_directions)
    odd = half_turn(1, product_real[1::2], product_imag[1::2]).view_as(even)
    result = torch.empty((n, grid.n_angles, n_shifts, n_directions), dtype=even.dtype, device=even.device)
    torch.add(even, odd, out=result[:, :n_half])
    torch.sub(even, odd, out=result[:, n_half:])
    return result


def _ring_products(
    grid: RingGrid, left: Float[Tensor, "m a r 2"], real: Tensor, imag: Tensor, step: int
) -> tuple[Tensor, Tensor]:
    """Sum over rings of conj(left) times the references, for every order; ``[m, a, d]`` real and imaginary."""
    shape = (left.shape[0], left.shape[1], real.shape[2])
    out_real, out_imag = left.new_empty(shape), left.new_empty(shape)
    for start in range(0, left.shape[0], ORDER_BLOCK):
        block = slice(start, min(start + ORDER_BLOCK, left.shape[0]))
        inner = grid.first_ring_of_order(start * step)
        rows = left[block, :, inner:].flatten(2)
        torch.bmm(rows, real[block, 2 * inner :], out=out_real[block])
        torch.bmm(rows, imag[block, 2 * inner :], out=out_imag[block])
    return out_real, out_imag


def angular_transform(grid: RingGrid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine matrices [half the angles, orders] of the real inverse transform over orders."""
    psi = np.pi * np.arange(grid.n_angles // 2) / (grid.n_angles // 2)
    orders = np.arange(grid.n_orders)
    scale = np.where(orders == 0, 1.0, 2.0) / grid.n_angles
    phase = psi[:, None] * orders[None, :]
    cosine = torch.as_tensor(scale * np.cos(phase), dtype=like.dtype, device=like.device)
    sine = torch.as_tensor(-scale * np.sin(phase), dtype=like.dtype, device=like.device)
    return cosine, sine
