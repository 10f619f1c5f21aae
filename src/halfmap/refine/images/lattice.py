"""Fourier pixels of one half of the plane, from the innermost outwards: a lower resolution is a prefix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.fourier.pixels import PixelList, pixel_list
from halfmap.fourier.transform import centred_irfft2, centred_rfft2


@dataclass(frozen=True, eq=False)
class MapGrid:
    """The sampling of a cubic map: what poses, shells and slices refer to."""

    box_px: int
    pixel_size_A: float

    @property
    def length_A(self) -> float:
        """Edge of the box."""
        return self.box_px * self.pixel_size_A

    @property
    def nyquist_px(self) -> int:
        """The last shell that a map of this sampling has in every direction."""
        return (self.box_px - 1) // 2

    def shell_of_resolution(self, resolution_A: float) -> float:
        """Radius in Fourier pixels of a resolution."""
        return self.length_A / resolution_A


@dataclass(frozen=True, eq=False)
class Lattice:
    """Pixels (kx, ky) with kx > 0, or kx = 0 and ky > 0, within a radius, sorted by radius.

    Attributes
    ----------
    length_A
        Edge of the box: a pixel's frequency is ``kx / length_A``.
    pixels
        The list, without the origin, from the innermost outwards; its layout is the smallest that holds it.
    """

    length_A: float
    pixels: PixelList

    @classmethod
    def of(cls, length_A: float, radius_px: int, device: torch.device | str = "cpu") -> Lattice:
        """All pixels of shells 1 to ``radius_px``."""
        rows = pixel_list(2 * (radius_px + 1), radius_px + 0.499)
        order = torch.argsort(rows.kx**2 + rows.ky**2, stable=True)[1:]
        return cls(length_A, _chosen(rows, order, rows.n).to(device))

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def kx_px(self) -> Int[Tensor, " p"]:
        """Position along x in Fourier pixels, from 0."""
        return self.pixels.kx

    @property
    def ky_px(self) -> Int[Tensor, " p"]:
        """Position along y in Fourier pixels."""
        return self.pixels.ky

    @property
    def shell(self) -> Int[Tensor, " p"]:
        """Nearest whole radius."""
        return self.pixels.shell

    @property
    def radius_px(self) -> int:
        """The outermost shell."""
        return int(self.shell[-1])

    def count_within(self, radius_px: int) -> int:
        """How many pixels, from the first, belong to shells up to ``radius_px``."""
        return int(torch.searchsorted(self.shell, torch.tensor(radius_px + 1, device=self.shell.device)))

    def within(self, radius_px: int) -> Lattice:
        """The pixels of the shells up to ``radius_px``, in the layout that just holds them."""
        if radius_px >= self.radius_px:
            return self
        n_layout = 2 * (radius_px + 1)
        inner = torch.arange(self.count_within(radius_px), device=self.shell.device)
        return Lattice(self.length_A, _chosen(self.pixels, inner, n_layout))

    def images_of(self, values: Complex[Tensor, "n p"], n: int) -> Float[Tensor, "n y x"]:
        """Real images of ``n`` pixels (origin ``n // 2``) whose transform is this at the pixels and zero elsewhere."""
        half = n // 2 + 1
        plane = values.new_zeros(len(values), n * half)
        plane[:, (self.ky_px % n) * half + self.kx_px] = values
        axis = (self.kx_px == 0).nonzero()[:, 0]
        plane[:, (n - self.ky_px[axis]) * half] = values[:, axis].conj()
        return centred_irfft2(plane.reshape(-1, n, half), n)

    def values_of(self, images: Float[Tensor, "n y x"]) -> Complex[Tensor, "n p"]:
        """Transforms of square images (origin ``n // 2``) at the pixels."""
        n = images.shape[-1]
        return centred_rfft2(images).flatten(1)[:, (self.ky_px % n) * (n // 2 + 1) + self.kx_px]

    def frequencies_per_A(self) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
        """Frequencies (fx, fy)."""
        return self.kx_px.float() / self.length_A, self.ky_px.float() / self.length_A


def _chosen(pixels: PixelList, rows: Tensor, n: int) -> PixelList:
    """Some pixels of a list, in the layout of edge ``n``."""
    kx, ky, shell = pixels.kx[rows], pixels.ky[rows], pixels.shell[rows]
    index = (ky % n) * (n // 2 + 1) + kx
    reach_px = float((kx * kx + ky * ky).max()) ** 0.5
    return PixelList(n, reach_px, reach_px, kx, ky, index, shell, pixels.multiplicity[rows])
