"""Sums of numbers by index whose bits repeat, on every device.

On CUDA ``index_add_`` and ``bincount`` with weights add in an order that changes from run to run. ``index_put_`` with
``accumulate`` sorts by index first, and adds in the order of the input.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Inexact, Int
from torch import Tensor


def add_at(target: Inexact[Tensor, " m"], index: Int[Tensor, " n"], values: Inexact[Tensor, " n"]) -> None:
    """Add values, of the target's type, to the elements of the target that the indices name; in place."""
    if target.device.type == "cpu":
        target.index_add_(0, index, values)
    else:
        target.index_put_((index,), values, accumulate=True)


def sums_by_index(index: Int[Tensor, " n"], values: Float[Tensor, " n"], length: int) -> Float[Tensor, " m"]:
    """Sum of the values of each index from 0; all indices are below ``length``."""
    if values.device.type == "cpu":
        return torch.bincount(index, values, minlength=length)
    sums = torch.zeros(length, dtype=values.dtype, device=values.device)
    add_at(sums, index, values)
    return sums
