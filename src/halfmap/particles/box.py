"""The box of a particle: what the CTF spread out must be in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from halfmap.errors import HalfmapError
from halfmap.optics.electron import wavelength_A

FINEST_RESOLUTION_A = 3.0
PRIMES = (2, 3, 5)


@dataclass(frozen=True)
class BoxPlan:
    """Cut ``cut_px`` pixels of the micrograph, and resample them to ``box_px``."""

    cut_px: int
    box_px: int
    micrograph_pixel_size_A: float

    @property
    def pixel_size_A(self) -> float:
        """Pixel size of the particle images."""
        return self.micrograph_pixel_size_A * self.cut_px / self.box_px

    @property
    def description(self) -> str:
        """The box in words."""
        cut = "" if self.cut_px == self.box_px else f", from {self.cut_px} px of the micrograph"
        return f"{self.box_px} px of {self.pixel_size_A:.4g} Å{cut}"


def spread_A(defocus_A: float, resolution_A: float, voltage_kV: float) -> float:
    """How far from its place the CTF carries detail of a resolution: λ Δf / d, to each side.

    >>> round(spread_A(20000.0, 4.0, 300.0), 1)
    98.4
    """
    return float(wavelength_A(voltage_kV)) * abs(defocus_A) / resolution_A


def fast_even(n: int) -> int:
    """The smallest even number from ``n`` on whose prime factors are 2, 3 and 5.

    >>> [fast_even(n) for n in (1, 97, 254, 257)]
    [2, 100, 256, 270]
    """
    candidate = max(2, n + n % 2)
    while _rest(candidate) != 1:
        candidate += 2
    return candidate


def _rest(n: int) -> int:
    for prime in PRIMES:
        while n % prime == 0:
            n //= prime
    return n


def plan_box(
    *,
    diameter_A: float,
    defocus_A: float,
    pixel_size_A: float,
    voltage_kV: float,
    resolution_A: float | None = None,
    cut_px: int | None = None,
    binned_pixel_size_A: float | None = None,
    binned_box_px: int | None = None,
) -> BoxPlan:
    """Choose box and binning for one optics group.

    The box is D + 2 λ Δf / d (Rosenthal & Henderson 2003, J. Mol. Biol. 333, 721), rounded up to an
    even number with small prime factors.

    Parameters
    ----------
    diameter_A
        Longest diameter D of the particle.
    defocus_A
        Typical defocus Δf; 0 where none is known.
    pixel_size_A
        Pixel size of the micrographs.
    voltage_kV
        Acceleration voltage, for the wavelength λ.
    resolution_A
        Finest detail d to be kept; by default 3 Å, or the Nyquist limit where that is coarser.
    cut_px
        Box in micrograph pixels, in place of the formula.
    binned_pixel_size_A, binned_box_px
        Pixel size (kept to about a percent) or box to bin to; at most one of them.

    Raises
    ------
    HalfmapError
        The box is smaller than the particle, or the binning would make pixels finer.
    """
    if binned_pixel_size_A is not None and binned_box_px is not None:
        raise HalfmapError("a binned pixel size and a binned box were given.", remedy="Give one of the two.")
    if binned_pixel_size_A is not None and binned_pixel_size_A < pixel_size_A * 0.999:
        raise HalfmapError(
            f"binning to {binned_pixel_size_A:g} Å would be finer than the micrograph's {pixel_size_A:g} Å.",
            remedy="Give a larger --binned-pixel-size, or none.",
        )
    if cut_px is None:
        finest_A = resolution_A or max(FINEST_RESOLUTION_A, 2.0 * (binned_pixel_size_A or pixel_size_A))
        extent_A = diameter_A + 2.0 * spread_A(defocus_A, finest_A, voltage_kV)
        cut_px = fast_even(math.ceil(extent_A / pixel_size_A))
    if cut_px * pixel_size_A < diameter_A:
        raise HalfmapError(
            f"a box of {cut_px} px is {cut_px * pixel_size_A:.0f} Å, less than the diameter of {diameter_A:.0f} Å.",
            remedy="Give a larger --box.",
        )
    if binned_pixel_size_A is not None:
        binned_box_px = fast_even(math.ceil(cut_px * pixel_size_A / binned_pixel_size_A - 1e-6))
        cut_px = max(binned_box_px, 2 * round(binned_box_px * binned_pixel_size_A / pixel_size_A / 2.0))
    if binned_box_px is not None and binned_box_px > cut_px:
        raise HalfmapError(
            f"binning a box of {cut_px} px to {binned_box_px} px would make pixels finer.",
            remedy="Give a smaller --binned-box, or a larger --box.",
        )
    return BoxPlan(cut_px, binned_box_px or cut_px, pixel_size_A)
