"""From the sums of two halves to the references of the next search: filtered by what the halves say of each other."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.refine3d.solvent import Solvent
from halfmap.refine.session import Session
from halfmap.refine.volume.local_filter import LocalFilter, bank_of, fit_local_filter, unshrunk
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.refine.volume.regularise import last_trusted_shell, ssnr_of_half

COARSEST_CUTOFF = 1.5
"""What is coarser than this many times the starting resolution is not filtered locally."""


class Regulariser:
    """Filters of references: of shells by their FSC, or of every place by cross-validation as well.

    Parameters
    ----------
    grid
        Sampling of the final maps.
    solvent
        The mask.
    options
        Declared options.
    initial_resolution_A
        What the starting map was low-passed to.
    session
        Whoever runs this.
    """

    def __init__(
        self, grid: MapGrid, solvent: Solvent, options: RefineOptions, initial_resolution_A: float, session: Session
    ) -> None:
        self.grid, self.solvent, self.options, self.session = grid, solvent, options, session
        start = grid.length_A / (COARSEST_CUTOFF * initial_resolution_A)
        join_A = options.join_below_A
        self._coarsest_px = max(start, grid.shell_of_resolution(join_A)) if join_A else start

    @property
    def is_local(self) -> bool:
        """Whether places are filtered each by itself."""
        return self.options.regularisation == "local"

    def references(
        self, sums: tuple[Accumulator, Accumulator], trusted_curve: Float[Tensor, " shells"], box_px: int
    ) -> list[Float[Tensor, "z y x"]]:
        """Maps of both halves for the next search, on a sampling of the box, within the mask."""
        ssnr, mask = ssnr_of_half(trusted_curve), self.solvent.on(box_px)
        halves = [half.volume(ssnr, box_px) for half in sums]
        if self.is_local:
            halves = [unshrunk(half, ssnr) for half in halves]
            chosen = self._fitted(halves[0], halves[1], trusted_curve)
            halves = [chosen.applied(half) for half in halves]
        return [half * mask for half in halves]

    def cutoff_A(
        self, sums: tuple[Accumulator, Accumulator], trusted_curve: Float[Tensor, " shells"]
    ) -> Float[Tensor, "z y x"]:
        """The cut-off of each voxel on the final grid, chosen as for references."""
        ssnr = ssnr_of_half(trusted_curve)
        half1, half2 = (unshrunk(half.volume(ssnr), ssnr) for half in sums)
        return self.grid.length_A / self._fitted(half1, half2, trusted_curve).cutoff_px()

    def _fitted(
        self, half1: Float[Tensor, "z y x"], half2: Float[Tensor, "z y x"], trusted_curve: Float[Tensor, " shells"]
    ) -> LocalFilter:
        """Local filters between the starting resolution, or where the halves are joined, and the last trusted shell."""
        mask = self.solvent.on(half1.shape[0])
        bank = bank_of(self._coarsest_px, last_trusted_shell(trusted_curve) + 1.0)
        chosen = fit_local_filter(half1, half2, mask, bank)
        cutoffs_A = (self.grid.length_A / chosen.cutoff_px())[mask > 0.5].cpu().numpy()
        low, middle, high = np.percentile(cutoffs_A, (10, 50, 90))
        self.session.log(f"local filters: {middle:.1f} Å (median), {low:.1f} to {high:.1f} Å for most of the mask")
        return chosen
