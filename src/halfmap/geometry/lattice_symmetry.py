"""The part of a point group that takes the axes to axes, and so the voxels of a grid to voxels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from halfmap.geometry import lattice_symmetry_fast
from halfmap.geometry.lattice_symmetry_fast import as_parts
from halfmap.geometry.symmetry import coset_representatives

TOLERANCE = 1e-6
CHUNK_ELEMENTS = 1 << 20
"""Voxels turned at once, which bounds the memory."""


def split(
    operators: Float[Tensor, "operators 3 3"],
) -> tuple[Float[Tensor, "representatives 3 3"], Float[Tensor, "aligned 3 3"]]:
    """A point group as ``{r h}``: its subgroup of signed permutations of the axes ``h``, and one ``r`` of each coset.

    >>> from halfmap.geometry.symmetry import point_group
    >>> [tuple(len(part) for part in split(point_group(name))) for name in ("C1", "C3", "D6", "O", "I2")]
    [(1, 1), (3, 1), (3, 4), (1, 24), (5, 12)]
    """
    whole = operators.round()
    aligned = operators[(operators - whole).abs().amax(dim=(1, 2)) < TOLERANCE].round()
    return coset_representatives(operators, aligned), aligned


def symmetrise(values: Inexact[Tensor, "edge edge half"], aligned: Float[Tensor, "aligned 3 3"]) -> None:
    """Replace a half layout by the sum of its turns over a group of signed permutations, in place.

    Numba on the CPU, plain torch elsewhere. Only frequencies nearer than half an edge may hold anything.
    """
    if len(aligned) == 1:
        return
    if values.device.type != "cpu":
        symmetrise_plainly(values, aligned)
        return
    turns = aligned.round().long().cpu().numpy()
    lattice_symmetry_fast.sum_over_orbits(as_parts(values.numpy()), turns, values.shape[0])


def symmetrise_plainly(values: Inexact[Tensor, "edge edge half"], aligned: Float[Tensor, "aligned 3 3"]) -> None:
    """The plain torch form of :func:`symmetrise`: the reference of the fast one, and the one for CUDA."""
    before = values.clone()
    values.zero_()
    for rotation in aligned:
        for slab, part in turned_slabs(before, rotation):
            values[slab] += part


def turned_half_layout(
    values: Inexact[Tensor, "edge edge half"], rotation: Float[Tensor, "3 3"]
) -> Inexact[Tensor, "edge edge half"]:
    """``F(R k)`` at each frequency ``k`` of a half layout of even edge, for a signed permutation ``R`` of (x, y, z).

    Real arrays are even, complex ones Hermitian: the half that is not stored follows from the other.
    """
    found = torch.empty_like(values)
    for slab, part in turned_slabs(values, rotation):
        found[slab] = part
    return found


def turned_slabs(
    values: Inexact[Tensor, "edge edge half"], rotation: Float[Tensor, "3 3"]
) -> Iterator[tuple[slice, Inexact[Tensor, "planes edge half"]]]:
    """:func:`turned_half_layout` a few planes at a time, so that it need not be held as a whole."""
    edge = values.shape[0]
    axis = torch.fft.fftfreq(edge, 1 / edge, device=values.device).round().long()
    half = torch.arange(edge // 2 + 1, device=values.device)
    planes = max(1, CHUNK_ELEMENTS // (edge * len(half)))
    for begin in range(0, edge, planes):
        slab = slice(begin, min(begin + planes, edge))
        along = (half[None, None, :], axis[None, :, None], axis[slab, None, None])
        x, y, z = (
            sum(value * along[source] for source, value in enumerate(row) if value)
            for row in rotation.round().long().tolist()
        )
        mate = x < 0
        sign = torch.where(mate, -1, 1)
        part = values[(z * sign) % edge, (y * sign) % edge, (x * sign).clamp(max=edge // 2)]
        yield slab, torch.where(mate, part.conj(), part) if values.is_complex() else part
