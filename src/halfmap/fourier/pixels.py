"""The compact form of Fourier images: the values at a list of half-plane pixels, ``[n, n_pixels]``.

A real image's transform holds every value twice, at ``k`` and, conjugated, at ``−k`` (Friedel mates).
The list has one of each pair: ``kx > 0``, and ``kx = 0`` with ``ky >= 0``. The Nyquist row and column
of an even size are left out; they have no mate and no phase of their own. Sums over the full plane
are sums over the list with ``multiplicity`` (2; 1 for the origin, which is its own mate).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.errors import HalfmapError


@dataclass(frozen=True, eq=False)
class PixelList:
    """Half-plane pixels of square images up to a radius, one of each pair of Friedel mates.

    Attributes
    ----------
    n
        Edge of the images in pixels.
    max_radius_px
        Radius that the list was made for, in Fourier pixels.
    reach_px
        Largest radius that occurs.
    kx, ky
        Position in Fourier pixels; ``kx >= 0``. Row by row, the origin first.
    index
        Position in the flattened half layout ``[n, n // 2 + 1]`` of ``rfft2``.
    shell
        Nearest whole radius, as in ``fourier.shells``.
    multiplicity
        How often the pixel occurs in the full plane: 2, and 1 for the origin.
    """

    n: int
    max_radius_px: float
    reach_px: float
    kx: Int[Tensor, " pixels"]
    ky: Int[Tensor, " pixels"]
    index: Int[Tensor, " pixels"]
    shell: Int[Tensor, " pixels"]
    multiplicity: Float[Tensor, " pixels"]

    def __len__(self) -> int:
        return len(self.kx)

    def to(self, device: torch.device | str) -> PixelList:
        """The same list on another device."""
        moved = (t.to(device) for t in (self.kx, self.ky, self.index, self.shell, self.multiplicity))
        return PixelList(self.n, self.max_radius_px, self.reach_px, *moved)

    def gather(self, images_ft: Tensor) -> Tensor:
        """Values ``[*batch, pixels]`` of a half layout ``[*batch, n, n // 2 + 1]`` (complex or real) at the pixels."""
        if tuple(images_ft.shape[-2:]) != (self.n, self.n // 2 + 1):
            raise HalfmapError(
                f"images of shape {tuple(images_ft.shape)} do not have the layout of edge {self.n} of the pixel list"
            )
        return images_ft.flatten(-2)[..., self.index]

    def scatter(self, pixels: Complex[Tensor, "*batch pixels"]) -> Complex[Tensor, "*batch y x_half"]:
        """Half layout with the values at the pixels, their mates on ``kx = 0`` filled in, and 0 elsewhere."""
        layout = pixels.new_zeros(*pixels.shape[:-1], self.n * (self.n // 2 + 1))
        layout[..., self.index] = pixels
        on_axis = (self.kx == 0) & (self.ky > 0)
        mate = (self.n - self.ky[on_axis]) * (self.n // 2 + 1)
        layout[..., mate] = pixels[..., on_axis].conj()
        return layout.view(*pixels.shape[:-1], self.n, self.n // 2 + 1)


def pixel_list(n: int, max_radius_px: float, device: torch.device | str = "cpu") -> PixelList:
    """List of the half-plane pixels of images of edge ``n`` with radius up to ``max_radius_px``.

    Radii beyond the Nyquist frequency are allowed: the corners of the plane are listed, Nyquist is not.
    """
    return _pixel_list(n, float(max_radius_px)).to(device)


@lru_cache(maxsize=16)
def _pixel_list(n: int, max_radius_px: float) -> PixelList:
    ky, kx = torch.meshgrid(
        torch.fft.fftfreq(n, 1.0 / n, dtype=torch.float64).round().long(), torch.arange(n // 2 + 1), indexing="ij"
    )
    squared = kx * kx + ky * ky
    keep = (squared <= max_radius_px**2) & ((kx > 0) | (ky >= 0)) & (2 * kx < n) & (2 * ky > -n)
    index = torch.nonzero(keep.flatten())[:, 0]
    squared = squared.flatten()[index]
    shell = torch.floor(squared.double().sqrt() + 0.5).long()
    multiplicity = torch.where(squared == 0, 1.0, 2.0)
    reach_px = float(squared.max()) ** 0.5
    return PixelList(n, max_radius_px, reach_px, kx.flatten()[index], ky.flatten()[index], index, shell, multiplicity)
