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
from halfmap.fourier.windows import even_fast_size, soft_ball
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.images.observations import EDGE_A

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
    box_px, length_A
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
        self.box_px = min(even_fast_size(wanted_px), self._n_plane)
        self.length_A = self.box_px * pixel_A
        whole = self.box_px == self._n_plane
        # Cutting in real space spreads each pixel a little: one more shell keeps what goes outwards.
        reach = radius_px if whole else (radius_px * self.box_px) // self._n_plane + 1
        self.lattice = Lattice.of(self.length_A, reach, device)
        mask_px = (diameter_A + 2 * slack_A) / pixel_A
        self._mask = soft_ball((self.box_px,) * 2, mask_px, EDGE_A / pixel_A, device)

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
        images = pad_2d(lattice.images_of(values, self._n_plane), self.box_px) * window
        return self.lattice.values_of(images) * (self._n_plane / self.box_px) ** 2

    def map_in_box(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "v v v"]:
        """The map, on any sampling of its box, in this one; its slices meet the pixels and values of the statistics."""
        scale = (volume.shape[-1] / self._n_plane) ** 3
        return pad_3d(resample_3d(volume, self._n_plane), self.box_px) * scale
