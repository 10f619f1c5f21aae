"""The numba twin of ``lattice_symmetry.symmetrise_plainly`` for the CPU.

Frequencies that the group takes into each other are summed up once and written to all of their places, so that each
voxel is read once and written once. Complex numbers are handled as pairs.
"""

from __future__ import annotations

from typing import Any

import numba

from halfmap.typing import Array

_COMPILE: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}


@numba.njit(inline="always", **_COMPILE)  # type: ignore[untyped-decorator]
def _frequency(index: int, edge: int) -> int:
    return index if 2 * index < edge else index - edge


@numba.njit(inline="always", **_COMPILE)  # type: ignore[untyped-decorator]
def _place(x: int, y: int, z: int, edge: int) -> int:
    """Flat index of a frequency with ``x >= 0``."""
    iy = y if y >= 0 else y + edge
    iz = z if z >= 0 else z + edge
    return (iz * edge + iy) * (edge // 2 + 1) + x


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _is_first(place: int, x: int, y: int, z: int, turns: Array, edge: int) -> bool:
    """Whether no frequency of the orbit, nor the mate of one, has a lower index."""
    for t in range(turns.shape[0]):
        u = turns[t, 0, 0] * x + turns[t, 0, 1] * y + turns[t, 0, 2] * z
        v = turns[t, 1, 0] * x + turns[t, 1, 1] * y + turns[t, 1, 2] * z
        w = turns[t, 2, 0] * x + turns[t, 2, 1] * y + turns[t, 2, 2] * z
        if u >= 0 and _place(u, v, w, edge) < place:
            return False
        if u <= 0 and _place(-u, -v, -w, edge) < place:
            return False
    return True


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _sum_orbit(values: Array, x: int, y: int, z: int, turns: Array, edge: int) -> None:
    """Sum over one orbit, written to each of its places and of their mates."""
    is_complex = values.shape[1] == 2
    real, imaginary = 0.0, 0.0
    for writing in range(2):
        for t in range(turns.shape[0]):
            u = turns[t, 0, 0] * x + turns[t, 0, 1] * y + turns[t, 0, 2] * z
            v = turns[t, 1, 0] * x + turns[t, 1, 1] * y + turns[t, 1, 2] * z
            w = turns[t, 2, 0] * x + turns[t, 2, 1] * y + turns[t, 2, 2] * z
            if not writing:
                place = _place(u, v, w, edge) if u >= 0 else _place(-u, -v, -w, edge)
                real += values[place, 0]
                if is_complex:
                    imaginary += values[place, 1] if u >= 0 else -values[place, 1]
                continue
            if u >= 0:
                place = _place(u, v, w, edge)
                values[place, 0] = real
                if is_complex:
                    values[place, 1] = imaginary
            if u <= 0:
                place = _place(-u, -v, -w, edge)
                values[place, 0] = real
                if is_complex:
                    values[place, 1] = -imaginary


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def sum_over_orbits(values: Array, turns: Array, edge: int) -> None:
    """Replace each value by the sum over its orbit, in place.

    Parameters
    ----------
    values
        ``[voxels, parts]`` of a half layout ``[z, y, x]``, Hermitian, empty at and beyond ``edge // 2``; one part of
        real numbers or two of complex ones.
    turns
        ``[h, 3, 3]`` int64, all elements of a group of signed permutations of (x, y, z).
    edge
        Of the half layout, even.
    """
    half = edge // 2
    for iz in range(edge):
        z = _frequency(iz, edge)
        for iy in range(edge):
            y = _frequency(iy, edge)
            if y == -half or z == -half or y * y + z * z >= half * half:
                continue
            for x in range(half):
                if x * x + y * y + z * z >= half * half:
                    break
                if _is_first((iz * edge + iy) * (half + 1) + x, x, y, z, turns, edge):
                    _sum_orbit(values, x, y, z, turns, edge)


def as_parts(values: Array) -> Array:
    """``[voxels, parts]`` of a contiguous array, real or complex, in the same memory."""
    return values.reshape(-1).view(values.real.dtype).reshape(values.size, -1)
