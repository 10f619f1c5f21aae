"""Where the particle ends and the solvent begins: the mask of the references and of the FSC."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.crop import resample_3d
from halfmap.fourier.fsc import joined_shells
from halfmap.fourier.windows import even_fast_size, soft_ball
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import EDGE_A
from halfmap.validation.options import MaskOptions
from halfmap.validation.solvent_mask import make_mask

FINEST_OUTLINE_A = 15.0
"""The map is low-passed to this, or to its resolution if that is worse, before its outline is taken."""
OUTLINE_FRAC = 1 / 8
"""Resolution, as a share of the diameter, from which on the map itself says where the particle ends."""
VOXEL_A = 3.0
"""Sampling on which the mask is made: fine enough for that resolution, and cheap."""
EXTEND_A, SOFT_EDGE_A = 6.0, 10.0


class Solvent:
    """The mask of a refinement; both halves share it.

    Parameters
    ----------
    grid
        Sampling of the final maps.
    diameter_A
        Of the particle: the mask is a sphere at first.
    given
        A mask on the grid that is kept as it is, or None.
    tighten
        Whether the sphere is replaced by a mask made from the map once that is good enough.
    device
        Where maps are.
    """

    def __init__(
        self,
        grid: MapGrid,
        diameter_A: float,
        given: Float[Tensor, "z y x"] | None,
        tighten: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self.grid, self.device = grid, device
        self.diameter_A = diameter_A
        self.tightens = tighten and given is None
        self.mask = self._sphere(grid.box_px) if given is None else given.to(device)
        self._sampled = self.mask

    def _sphere(self, box_px: int) -> Float[Tensor, "z y x"]:
        pixel_A = self.grid.length_A / box_px
        return soft_ball((box_px,) * 3, self.diameter_A / pixel_A, EDGE_A / pixel_A, self.device)

    def on(self, box_px: int) -> Float[Tensor, "z y x"]:
        """The mask on a sampling of its box; the last one is kept, because iterations ask for it twice."""
        if box_px == self.mask.shape[0]:
            return self.mask
        if self._sampled.shape[0] != box_px:
            self._sampled = resample_3d(self.mask, box_px).clamp(0.0, 1.0)
        return self._sampled

    def volume_frac(self) -> float:
        """Mean of the mask over the box."""
        return float(self.mask.mean(dtype=torch.float64))

    def joined_shells(self) -> int:
        """Shells to each side that the mask joins with each shell."""
        return joined_shells(self.mask)

    def follow(self, volume: Float[Tensor, "z y x"], resolution_A: float) -> str | None:
        """Draw the mask around a map of all particles.

        Parameters
        ----------
        volume
            On any sampling of the box.
        resolution_A
            Of the map before this one.

        Returns
        -------
        Why the mask stayed as it was although the map is good enough, or None.
        """
        if not self.tightens or resolution_A > max(FINEST_OUTLINE_A, OUTLINE_FRAC * self.diameter_A):
            return None
        options = MaskOptions(
            mask_low_pass_A=max(FINEST_OUTLINE_A, resolution_A), mask_extend_A=EXTEND_A, mask_soft_edge_A=SOFT_EDGE_A
        )
        coarse_px = min(volume.shape[0], even_fast_size(math.ceil(self.grid.length_A / VOXEL_A)))
        coarse = resample_3d(volume, coarse_px) * self._sphere(coarse_px)
        try:
            made = make_mask(coarse, self.grid.length_A / coarse_px, options)
        except HalfmapError as error:
            return f"the mask was left as it was: {error}"
        self.keep(made.mask * self._sphere(coarse_px))
        return None

    def keep(self, mask: Float[Tensor, "z y x"]) -> None:
        """Use a mask, on any sampling of the box."""
        self.mask = self._sampled = mask.to(self.device)
