"""Maps from slices: weighted insertion, Wiener filter, correction of the interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.slices import empty_volume_ft, finish_volume
from halfmap.fourier.slicing import insert_pixels
from halfmap.geometry.lattice_symmetry import turned_half_layout
from halfmap.geometry.symmetry import symmetrise_poses
from halfmap.refine.images.lattice import Lattice, MapGrid

PADDING = 2.0
FLOOR = 1e-3
"""Weights are kept above this share of their shell's mean: what was hardly seen is not blown up."""


@dataclass(eq=False)
class Accumulator:
    """Sum of inserted slices and of their weights, up to a radius, padded.

    Attributes
    ----------
    grid
        Sampling of the map.
    radius_px
        Shells that are inserted.
    numerator, denominator
        In the layout of ``fourier.slices.empty_volume_ft``.
    """

    grid: MapGrid
    radius_px: int
    numerator: Complex[Tensor, "edge edge half"]
    denominator: Float[Tensor, "edge edge half"]

    @classmethod
    def empty(cls, grid: MapGrid, radius_px: int, device: torch.device | str = "cpu") -> Accumulator:
        """Nothing inserted yet."""
        reach = float(radius_px + 1)
        return cls(
            grid,
            radius_px,
            empty_volume_ft(reach, PADDING, torch.complex64, device),
            empty_volume_ft(reach, PADDING, torch.float32, device),
        )

    def insert(
        self,
        lattice: Lattice,
        weighted: Complex[Tensor, "n p"],
        weights: Float[Tensor, "n p"],
        rot_img_from_map: Float[Tensor, "n 3 3"],
        operators: Float[Tensor, "operators 3 3"],
    ) -> None:
        """Add centred slices at their poses and at all that are equivalent under the symmetry."""
        every = symmetrise_poses(rot_img_from_map, operators)
        for copy in range(every.shape[1]):
            insert_pixels(weighted, weights, every[:, copy], lattice.pixels, self.numerator, self.denominator, PADDING)

    def symmetrised(self, chain: Sequence[Float[Tensor, "_ 3 3"]]) -> Accumulator:
        """Sum over the elements of a group whose rotations take the axes to axes: the same as inserting them all.

        Such rotations take voxels to voxels, and the weights of the trilinear interpolation with them.

        Parameters
        ----------
        chain
            Representatives of each subgroup's cosets in the next one, from ``geometry.lattice_symmetry.chain_of``.
        """
        numerator, denominator = self.numerator, self.denominator
        for representatives in chain:
            before = numerator, denominator
            for rotation in representatives:
                numerator = numerator + turned_half_layout(before[0], rotation)
                denominator = denominator + turned_half_layout(before[1], rotation)
        return Accumulator(self.grid, self.radius_px, numerator, denominator)

    def shells(self) -> Tensor:
        """Distance from the origin of each voxel in shells of the map."""
        edge = self.numerator.shape[0]
        axis = torch.fft.fftfreq(edge, 1 / edge, dtype=torch.float64, device=self.denominator.device)
        x = torch.arange(edge // 2 + 1, dtype=torch.float64, device=axis.device)
        radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + x**2).sqrt() / PADDING
        return torch.floor(radius + 0.5).long()

    def joined_below(self, other: Accumulator, shell: float) -> tuple[Accumulator, Accumulator]:
        """Both halves with the same mean content up to a shell, so that their frames stay together."""
        inside = self.shells() <= shell
        pairs = []
        for name in ("numerator", "denominator"):
            a, b = getattr(self, name), getattr(other, name)
            mean = (a + b) / 2
            pairs.append((torch.where(inside, mean, a), torch.where(inside, mean, b)))
        (num1, num2), (den1, den2) = pairs
        return (
            Accumulator(self.grid, self.radius_px, num1, den1),
            Accumulator(self.grid, self.radius_px, num2, den2),
        )

    def plus(self, other: Accumulator, weight: float = 1.0) -> Accumulator:
        """The data of both, the other's at a weight."""
        return Accumulator(
            self.grid,
            self.radius_px,
            self.numerator + weight * other.numerator,
            self.denominator + weight * other.denominator,
        )

    def mean_weight(self) -> Float[Tensor, " shells"]:
        """Mean weight of the voxels of each shell, 0 to ``radius_px``, float64."""
        shell = self.shells().reshape(-1).clamp(max=self.radius_px + 1)
        twice = torch.full((self.denominator.shape[2],), 2.0, dtype=torch.float64, device=shell.device)
        twice[0] = 1.0
        share = twice.expand(self.denominator.shape).reshape(-1)
        total = torch.bincount(shell, self.denominator.double().reshape(-1) * share, minlength=self.radius_px + 2)
        count = torch.bincount(shell, share, minlength=self.radius_px + 2)
        return (total / count)[: self.radius_px + 1]

    def volume(self, ssnr: Float[Tensor, " shells"] | None = None, box_px: int | None = None) -> Float[Tensor, "n n n"]:
        """The map: weighted mean of what was inserted, filtered by Wiener's rule if the SSNR is given.

        With the noise of each voxel ``1 / weight`` and the signal's variance in a shell
        ``tau2 = SSNR / mean weight``, the filter is ``weight / (weight + 1 / tau2)``
        (Scheres 2012, J. Mol. Biol. 415, 406).

        Parameters
        ----------
        ssnr
            Of the map that these data give, shells from 0; shells past its end, and those where it is zero,
            come out empty.
        box_px
            Voxels along the edge of the same box; those of the grid if not given. The transform is the same, so
            grey values on a coarser grid are larger by the ratio of the voxels' volumes.
        """
        mean = self.mean_weight()
        floor = FLOOR * mean
        if ssnr is None:
            regulariser = torch.zeros_like(mean)
        else:
            profile = torch.zeros_like(mean)
            known = min(len(profile), len(ssnr))
            profile[:known] = ssnr[:known].to(profile)
            regulariser = torch.where(profile > 0, mean / profile.clamp(min=1e-12), torch.inf)
        shell = self.shells()
        beyond = torch.tensor([torch.inf], dtype=torch.float64, device=mean.device)
        index = shell.clamp(max=self.radius_px + 1)
        weight = torch.maximum(self.denominator, torch.cat([floor, beyond])[index].float())
        weight = weight + torch.cat([regulariser, beyond])[index].float()
        filtered = torch.where(weight > 0, self.numerator / weight.clamp(min=1e-30), 0)
        return finish_volume(filtered, box_px or self.grid.box_px, PADDING)
