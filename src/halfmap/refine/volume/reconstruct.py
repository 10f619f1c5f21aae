"""Maps from slices: weighted insertion, Wiener filter, correction of the interpolation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.fourier.grid import slabs
from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.slices import empty_volume_ft, finish_rows
from halfmap.fourier.slicing import insert_pixels
from halfmap.geometry.lattice_symmetry import symmetrise
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

    def symmetrise(self, aligned: Float[Tensor, "aligned 3 3"]) -> None:
        """Sum over the elements of a group whose rotations take the axes to axes: the same as inserting them all.

        Such rotations take voxels to voxels, and the weights of the trilinear interpolation with them.

        Parameters
        ----------
        aligned
            All elements of the group, from ``geometry.lattice_symmetry.split``.
        """
        for sums in (self.numerator, self.denominator):
            symmetrise(sums, aligned)

    def add(self, other: Accumulator) -> None:
        """Take in the data of another one."""
        self.numerator += other.numerator
        self.denominator += other.denominator

    def join_below(self, other: Accumulator, shell: float) -> None:
        """Give both the same mean content up to a shell, so that their frames stay together."""
        reach = min(math.floor(PADDING * (shell + 1)), len(self.numerator) // 2 - 1)
        axis = torch.arange(-reach, reach + 1, device=self.numerator.device)
        places = (axis[:, None, None], axis[:, None], axis[reach:])
        inside = self._shell_of_squared()[_squared_radius(*places)] <= shell
        for name in ("numerator", "denominator"):
            a, b = getattr(self, name), getattr(other, name)
            mean = (a[places] + b[places]) / 2
            a[places], b[places] = torch.where(inside, mean, a[places]), torch.where(inside, mean, b[places])

    def mean_weight(self) -> Float[Tensor, " shells"]:
        """Mean weight of the voxels of each shell, 0 to ``radius_px``, float64."""
        n = self.radius_px + 2
        shells = self._shell_of_squared()
        total = torch.zeros(n, dtype=torch.float64, device=shells.device)
        count = torch.zeros_like(total)
        for rows, squared in self._rows():
            shell = shells[squared]
            share = torch.full(shell.shape, 2.0, dtype=torch.float64, device=shell.device)
            share[..., 0] = 1.0
            weighted = self.denominator[:, rows, : shell.shape[-1]] * share
            total += sums_by_index(shell.flatten(), weighted.flatten(), n)
            count += sums_by_index(shell.flatten(), share.flatten(), n)
        return (total / count)[: self.radius_px + 1]

    def volume(self, ssnr: Float[Tensor, " shells"] | None = None, box_px: int | None = None) -> Float[Tensor, "n n n"]:
        """The map: weighted mean of what was inserted, filtered by Wiener's rule if the SSNR is given.

        With the noise of each voxel ``1 / weight`` and the signal's variance in a shell
        ``tau2 = SSNR / mean weight``, the filter is ``weight / (weight + 1 / tau2)``
        (Scheres 2012, J. Mol. Biol. 415, 406). The filtered transform is made and used a few rows at a time.

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
        beyond = torch.tensor([torch.inf], dtype=torch.float64, device=mean.device)
        shells = self._shell_of_squared()
        least = torch.cat([floor, beyond]).float()[shells]
        added = torch.cat([regulariser, beyond]).float()[shells]

        def filtered(rows: slice) -> Complex[Tensor, "edge rows kx"]:
            squared = self._squared_at(rows)
            numerator, weight = (values[:, rows, : squared.shape[-1]] for values in (self.numerator, self.denominator))
            weight = torch.maximum(weight, least[squared]) + added[squared]
            return torch.where(weight > 0, numerator / weight.clamp(min=1e-30), 0)

        return finish_rows(filtered, len(self.numerator), self.denominator, box_px or self.grid.box_px, PADDING)

    def _shell_of_squared(self) -> Int[Tensor, " squares"]:
        """Shell of the map by the squared distance of a voxel from the origin; one more than the last for all beyond.

        Distances of voxels are roots of whole numbers, so that a table serves for the whole volume.
        """
        squares = torch.arange(3 * (len(self.numerator) // 2) ** 2 + 1, device=self.denominator.device)
        shell = torch.floor(squares.double().sqrt() / PADDING + 0.5).long()
        return shell.clamp(max=self.radius_px + 1)

    def _squared_at(self, rows: slice) -> Int[Tensor, "edge rows kx"]:
        """Squared distance from the origin of voxels at some rows; columns as far as any shell reaches there."""
        edge = len(self.numerator)
        axis = torch.fft.fftfreq(edge, 1 / edge, device=self.denominator.device).round().long()
        nearest = int(axis[rows].abs().min())
        outermost = PADDING * (self.radius_px + 0.5)
        reach = math.floor(math.sqrt(max(outermost**2 - nearest**2, 0.0)))
        columns = torch.arange(min(reach, edge // 2) + 1 if nearest <= outermost else 0, device=axis.device)
        return _squared_radius(axis[:, None, None], axis[rows, None], columns)

    def _rows(self) -> Iterator[tuple[slice, Int[Tensor, "edge rows kx"]]]:
        """All voxels that any shell holds, a few rows at a time: their rows and squared distances."""
        for rows in slabs(len(self.numerator), self.numerator[0].numel()):
            yield rows, self._squared_at(rows)


def _squared_radius(z: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return z * z + y * y + x * x
