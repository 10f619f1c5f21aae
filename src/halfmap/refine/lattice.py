"""Fourier pixels of one half of the plane, from the innermost outwards: a lower resolution is a prefix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


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
    kx_px, ky_px
        int32 ``[p]``.
    shell
        Nearest whole radius, ``[p]``.
    """

    length_A: float
    kx_px: Int[Tensor, " p"]
    ky_px: Int[Tensor, " p"]
    shell: Int[Tensor, " p"]

    @classmethod
    def of(cls, length_A: float, radius_px: int, device: torch.device | str = "cpu") -> Lattice:
        """All pixels of shells 1 to ``radius_px``."""
        kx, ky = np.meshgrid(np.arange(radius_px + 1), np.arange(-radius_px, radius_px + 1))
        kx, ky = kx.ravel(), ky.ravel()
        squared = kx**2 + ky**2
        keep = ((kx > 0) | (ky > 0)) & (np.floor(np.sqrt(squared) + 0.5) <= radius_px)
        kx, ky, squared = kx[keep], ky[keep], squared[keep]
        order = np.lexsort((kx, ky, squared))
        shell = np.floor(np.sqrt(squared[order]) + 0.5).astype(np.int64)

        def on_device(values: np.ndarray, dtype: torch.dtype) -> Tensor:
            return torch.as_tensor(np.ascontiguousarray(values), device=device).to(dtype)

        return cls(
            length_A,
            on_device(kx[order], torch.int32),
            on_device(ky[order], torch.int32),
            on_device(shell, torch.int64),
        )

    def __len__(self) -> int:
        return len(self.kx_px)

    @property
    def radius_px(self) -> int:
        """The outermost shell."""
        return int(self.shell[-1])

    def count_within(self, radius_px: int) -> int:
        """How many pixels, from the first, belong to shells up to ``radius_px``."""
        return int(torch.searchsorted(self.shell, torch.tensor(radius_px + 1, device=self.shell.device)))

    def within(self, radius_px: int) -> Lattice:
        """The pixels of the shells up to ``radius_px``."""
        n = self.count_within(radius_px)
        return Lattice(self.length_A, self.kx_px[:n], self.ky_px[:n], self.shell[:n])

    def frequencies_per_A(self) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
        """Frequencies (fx, fy)."""
        return self.kx_px.float() / self.length_A, self.ky_px.float() / self.length_A
