"""The map in two: what the mask keeps, and what is taken out of the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet, Volume
from halfmap.errors import BadInputError
from halfmap.fourier.crop import pad_3d
from halfmap.fourier.windows import soft_ball
from halfmap.io.mrc import read_volume
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.masks import read_mask
from halfmap.refine.images.observations import EDGE_A
from halfmap.refine.images.sources import BOX_FRAC, check_diameter
from halfmap.refine.subtract.options import SubtractOptions


@dataclass(frozen=True, eq=False)
class Parts:
    """A map relative to its solvent, a mask, and the place that becomes the origin.

    Attributes
    ----------
    grid
        Sampling of both.
    whole
        The map, zero outside the particle's diameter.
    mask
        1 where density is kept.
    whole_diameter_A
        Of the particle.
    centre_px
        The new origin relative to the old one, (x, y, z) in whole voxels, so that maps are moved without
        interpolation; None where nothing is moved.
    diameter_A
        Of the sphere about the new origin that holds the mask where it is above one half.
    box_px
        Edge of the new box.
    """

    grid: MapGrid
    whole: Float[Tensor, "z y x"]
    mask: Float[Tensor, "z y x"]
    whole_diameter_A: float
    centre_px: tuple[int, int, int] | None
    diameter_A: float
    box_px: int

    @property
    def kept(self) -> Float[Tensor, "z y x"]:
        """What stays in the images."""
        return self.whole * self.mask

    @property
    def removed(self) -> Float[Tensor, "z y x"]:
        """What is taken out of them."""
        return self.whole * (1 - self.mask)

    @property
    def centre_A(self) -> tuple[float, float, float] | None:
        """The new origin relative to the old one, None where nothing is moved."""
        if self.centre_px is None:
            return None
        x, y, z = (c * self.grid.pixel_size_A for c in self.centre_px)
        return x, y, z

    def in_new_box(self, volume: Float[Tensor, "z y x"]) -> Float[Tensor, "n n n"]:
        """A map with the new origin in the middle of the new box."""
        x, y, z = self.centre_px or (0, 0, 0)
        return pad_3d(torch.roll(volume, (-z, -y, -x), (0, 1, 2)), self.box_px)


def read_parts(images: ImageSet, options: SubtractOptions) -> Parts:
    """Read map and mask, and decide the diameter of the particle and the new origin.

    The map is taken relative to its mean outside the particle's diameter, and set to zero there with a soft edge:
    solvent has a level that means nothing, and noise that would be subtracted from every image.

    Parameters
    ----------
    images
        The particles, whose table may tell the diameter.
    options
        Declared options.

    Raises
    ------
    BadInputError
        If the map is not cubic or too small, map and mask do not fit, the mask keeps everything, or what it keeps does
        not fit into the new box.
    """
    volume = read_volume(options.map)
    n = volume.data.shape[0]
    if len(set(volume.data.shape)) != 1:
        raise BadInputError(options.map, "shape", found=str(volume.data.shape), expected="a cube",
                            remedy="Cut the map to a cube.")  # fmt: skip
    grid = MapGrid(n, volume.pixel_size_A)
    diameter_A = _diameter_A(images, options, grid)
    mask = read_mask(options.mask, grid, whose="map")
    if float(mask.min()) > 0.5:
        raise BadInputError(options.mask, "values", found=f"{float(mask.min()):g} at least",
                            expected="0 where density is to be subtracted",
                            remedy="Give a mask of the part to keep.")  # fmt: skip
    centre = _centre_of_mass_px(mask) if options.recentre else None
    kept_A = _diameter_px(mask, centre) * grid.pixel_size_A
    box_px = options.box_px or n
    if box_px < n and kept_A > box_px * grid.pixel_size_A:
        raise BadInputError(options.mask, "extent about the new origin", found=f"{kept_A:.0f} Å",
                            expected=f"at most the new box, {box_px * grid.pixel_size_A:.0f} Å",
                            remedy="Give a larger --box, or --recentre.")  # fmt: skip
    whole = above_solvent(volume, diameter_A)
    return Parts(grid, whole, mask, diameter_A, centre, min(kept_A, grid.length_A), box_px)


def _diameter_A(images: ImageSet, options: SubtractOptions, grid: MapGrid) -> float:
    """Diameter of the whole particle: as stated by the user, by the table, or three quarters of the box."""
    if options.diameter_A is not None:
        check_diameter(options.map, options.diameter_A, grid)
        return options.diameter_A
    if "particle_diameter_A" in images:
        return min(float(images["particle_diameter_A"].max()), grid.length_A)
    return BOX_FRAC * grid.length_A


def above_solvent(volume: Volume, diameter_A: float) -> Float[Tensor, "z y x"]:
    """A map relative to its mean outside a sphere, and zero outside of it."""
    data = torch.as_tensor(np.array(volume.data, dtype=np.float32))
    sphere = soft_ball(tuple(data.shape), diameter_A / volume.pixel_size_A, EDGE_A / volume.pixel_size_A)
    outside = (1 - sphere).double()
    level = float((data * outside).sum() / outside.sum().clamp(min=1e-9))
    return (data - level) * sphere


def _from_origin_px(n: int) -> Float[Tensor, " n"]:
    return torch.arange(n, dtype=torch.float64) - n // 2


def _centre_of_mass_px(mask: Float[Tensor, "z y x"]) -> tuple[int, int, int]:
    """Centre of mass (x, y, z) from the origin, to the nearest voxel."""
    weight, along = mask.double(), _from_origin_px(mask.shape[0])
    total = weight.sum()
    x, y, z = (round(float((weight.sum(others) * along).sum() / total)) for others in ((0, 1), (0, 2), (1, 2)))
    return x, y, z


def _diameter_px(mask: Float[Tensor, "z y x"], centre: tuple[int, int, int] | None) -> float:
    """Diameter of the sphere about a place (x, y, z) that holds all voxels above one half."""
    inside = torch.nonzero(mask > 0.5).double() - mask.shape[0] // 2
    place = torch.tensor((centre or (0, 0, 0))[::-1], dtype=torch.float64)
    return 2.0 * float((inside - place).norm(dim=1).max()) + 1.0
