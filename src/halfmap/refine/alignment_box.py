"""The statistics of an image on which the likelihood of its pose depends, in a box just around the particle.

The likelihood of a pose meets an image only through ``sum conj(CTF X / sigma2) P`` and
``sum (CTF^2 / sigma2) |P|^2``. The map ``P`` is zero outside the particle's diameter; so the first
sum needs ``CTF X / sigma2`` in real space within that diameter alone. Cutting it there loses nothing,
not even signal that the defocus spreads over the whole box, takes the surroundings out of the
comparison, and makes the Fourier pixels fewer by the square of the ratio of the boxes. ``CTF^2 / sigma2``
is averaged over the coarser pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.crop import pad_2d, pad_3d, resample_3d
from halfmap.fourier.grid import real_space_radius_px
from halfmap.refine.lattice import Lattice, MapGrid
from halfmap.refine.observations import EDGE_A, soft_circle

MARGIN_PX = 2
"""Fourier pixels kept around those in use, so that cutting in real space folds nothing back."""


@dataclass(frozen=True, eq=False)
class Statistics:
    """``CTF image / sigma2`` and ``CTF^2 / sigma2`` of some images at the pixels of an alignment box."""

    weighted: Complex[Tensor, "n p"]
    weights: Float[Tensor, "n p"]


class AlignmentBox:
    """A box around the particle, and the images' and the map's way into it.

    Parameters
    ----------
    grid
        Sampling of the map and of the observations' lattice.
    radius_px
        Shells of the map's lattice that take part.
    diameter_A
        Of the particle.
    slack_A
        Shifts that will be tried, at most.

    Attributes
    ----------
    length_A
        Edge of the box.
    lattice
        Its Fourier pixels.
    """

    def __init__(
        self, grid: MapGrid, radius_px: int, diameter_A: float, slack_A: float, device: torch.device | str = "cpu"
    ) -> None:
        self.grid, self.device = grid, torch.device(device)
        self._n_plane = even_fast_size(2 * (radius_px + 1 + MARGIN_PX))
        pixel_A = grid.length_A / self._n_plane
        wanted_px = math.ceil((diameter_A + 2 * (EDGE_A + slack_A)) / pixel_A)
        self._n_box = min(even_fast_size(wanted_px), self._n_plane)
        self.length_A = self._n_box * pixel_A
        whole = self._n_box == self._n_plane
        # Cutting in real space spreads each pixel a little: one more shell keeps what goes outwards.
        reach = radius_px if whole else (radius_px * self._n_box) // self._n_plane + 1
        self.lattice = Lattice.of(self.length_A, reach, device)
        mask_px = (diameter_A + 2 * slack_A) / pixel_A
        self._mask = soft_circle(self._n_box, mask_px, EDGE_A / pixel_A).to(device)

    def shell_in_box(self, radius_px: int) -> int:
        """A radius of the map's lattice in pixels of this box, at least one shell."""
        shell = math.floor(radius_px * self.length_A / self.grid.length_A)
        return min(max(shell, 1), self.lattice.radius_px)

    def statistics(
        self, lattice: Lattice, weighted: Complex[Tensor, "n q"], weights: Float[Tensor, "n q"]
    ) -> Statistics:
        """Bring centred ``CTF image / sigma2`` and ``CTF^2 / sigma2`` from the map's lattice into the box."""
        cut = self._into_box(lattice, weighted, self._mask)
        # Weights go without a mask: what correlates pixels within the box is kept, the rest averaged.
        averaged = self._into_box(lattice, weights.to(torch.complex64), torch.ones_like(self._mask)).real
        return Statistics(cut, averaged.clamp(min=0.0))

    def _into_box(
        self, lattice: Lattice, values: Complex[Tensor, "n q"], window: Float[Tensor, "y x"]
    ) -> Complex[Tensor, "n p"]:
        n = self._n_plane
        index = (lattice.ky_px % n) * (n // 2 + 1) + lattice.kx_px
        plane = values.new_zeros(values.shape[0], n * (n // 2 + 1))
        plane[:, index] = values
        axis = (lattice.kx_px == 0).nonzero()[:, 0]
        plane[:, (n - lattice.ky_px[axis]) * (n // 2 + 1)] = values[:, axis].conj()
        image = torch.fft.irfft2(plane.reshape(-1, n, n // 2 + 1), s=(n, n))
        image = pad_2d(torch.fft.fftshift(image, dim=(-2, -1)), self._n_box) * window
        b = self._n_box
        box_ft: Tensor = torch.fft.rfft2(torch.fft.ifftshift(image, dim=(-2, -1))) * (n / b) ** 2
        return box_ft.flatten(1)[:, (self.lattice.ky_px % b) * (b // 2 + 1) + self.lattice.kx_px]

    def map_in_box(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "v v v"]:
        """The map in this box, sampled so that its slices meet the statistics' pixels and grey values."""
        scale = (self.grid.box_px / self._n_plane) ** 3
        return pad_3d(resample_3d(volume, self._n_plane), self._n_box) * scale


def even_fast_size(n: int) -> int:
    """Smallest even number of at least ``n`` whose prime factors are 2, 3 and 5.

    >>> even_fast_size(62), even_fast_size(64)
    (64, 64)
    """
    size = max(2, n + n % 2)
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2


def soft_sphere(box_px: int, diameter_px: float, edge_px: float) -> Float[Tensor, "z y x"]:
    """1 within the diameter, a cosine edge outwards, 0 beyond."""
    beyond = (real_space_radius_px((box_px,) * 3) - diameter_px / 2) / edge_px
    return 0.5 + 0.5 * torch.cos(math.pi * beyond.clamp(0.0, 1.0))
