"""The part of a point group that takes the axes to axes, and so the voxels of a grid to voxels."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from halfmap.geometry.symmetry import coset_representatives

MultiplicationTable = tuple[tuple[int, ...], ...]
"""Number of the element ``g h`` in row ``g`` and column ``h``."""

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


def chain_of(aligned: Float[Tensor, "aligned 3 3"]) -> list[Float[Tensor, "_ 3 3"]]:
    """A group as products along a chain of subgroups: representatives of each one's cosets in the next one.

    The sum over all elements takes as many turns as these are: five for the 24 elements of the octahedral group.
    """
    elements = sorted(aligned, key=lambda h: h.flatten().tolist())
    products = _multiplication_table(torch.stack(elements))
    return [torch.stack([elements[number] for number in step]) for step in _chain(products)]


@lru_cache(maxsize=32)
def _chain(products: MultiplicationTable) -> list[list[int]]:
    """Numbers of the representatives of each subgroup's cosets in the next one."""
    identity = next(number for number, row in enumerate(products) if row == tuple(range(len(products))))
    reached = {identity}
    chain = []
    while len(reached) < len(products):
        others = (number for number in range(len(products)) if number not in reached)
        grown = min((_generated(reached | {other}, products) for other in others), key=len)
        representatives: list[int] = []
        covered = set(reached)
        for number in sorted(grown):
            if number not in covered:
                representatives.append(number)
                covered |= {products[member][number] for member in reached}
        chain.append(representatives)
        reached = grown
    return chain


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


def _multiplication_table(elements: Float[Tensor, "n 3 3"]) -> MultiplicationTable:
    products = elements[:, None] @ elements[None]
    same = (products[:, :, None] == elements).all(dim=-1).all(dim=-1)
    return tuple(tuple(row) for row in same.long().argmax(dim=-1).tolist())


def _generated(generators: set[int], products: MultiplicationTable) -> set[int]:
    """The smallest group that holds some elements, all by number."""
    group = set(generators)
    while True:
        larger = group | {products[g][h] for g in group for h in generators}
        if larger == group:
            return group
        group = larger
