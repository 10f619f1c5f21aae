"""Means of a quantity by optics group and shell."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from halfmap.fourier.ordered_sums import sums_by_index


class ShellSums:
    """Sums by optics group and shell, in float64."""

    def __init__(self, n_groups: int, n_shells: int) -> None:
        self.total = torch.zeros(n_groups, n_shells, dtype=torch.float64)
        self.count = torch.zeros(n_groups, n_shells, dtype=torch.float64)

    def add(
        self,
        group: Int[Tensor, " n"],
        shell: Int[Tensor, " p"],
        values: Float[Tensor, "n p"],
        informed: Bool[Tensor, "n p"],
    ) -> None:
        """Add the values of images at pixels; those that are not informed are left out."""
        n_groups, n_shells = self.total.shape
        index = (group[:, None] * n_shells + shell).reshape(-1)
        known = torch.where(informed, values, 0.0)
        sums = sums_by_index(index, known.double().reshape(-1), n_groups * n_shells)
        counts = sums_by_index(index, informed.double().reshape(-1), n_groups * n_shells)
        self.total += sums.reshape(n_groups, n_shells).cpu()
        self.count += counts.reshape(n_groups, n_shells).cpu()

    def mean(self) -> Float[Tensor, "groups shells"]:
        """Means; interpolated over shells without values, and that of all groups for a group without any."""
        shells = np.arange(self.total.shape[1])
        result = np.ones(self.total.shape)
        for group in range(len(result)):
            some = bool(self.count[group].any())
            total = self.total[group] if some else self.total.sum(dim=0)
            count = self.count[group] if some else self.count.sum(dim=0)
            known = np.flatnonzero(count.numpy())
            if len(known):
                result[group] = np.interp(shells, known, (total / count).numpy()[known])
        return torch.as_tensor(result)
