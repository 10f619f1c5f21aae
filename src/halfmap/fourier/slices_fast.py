"""The numba twins of ``slices.extract_pixels`` and ``insert_pixels`` for the CPU.

The loops release the interpreter lock and are run by Python threads: slices are independent, and
insertion gives each thread a private volume; these are added in a fixed order, so that sums repeat.
The compiler may fuse multiplication and addition, but not reorder sums or assume that there are no NaNs.
Complex numbers are handled as pairs: numba would turn real factors into complex ones.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor

from halfmap.fourier.pixels import PixelList
from halfmap.fourier.slices import MirroredPlane, check_reach
from halfmap.typing import Array

_COMPILE: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
BLOCK = 256
"""Pixels whose voxels are fetched together."""


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _locate(r: Array, kx: Array, ky: Array, edge: int, at: Array, share: Array, along: Array, mate: Array) -> None:
    """Where the pixels of a block lie.

    Flat indices ``at [4, q]`` of the first voxel in the four rows around each, the rows' shares ``[4, q]``, the place
    between the two voxels of a row, and whether the Friedel mate is meant.
    """
    half, one = edge // 2 + 1, r.dtype.type(1.0)
    for q in range(kx.size):
        x = kx[q] * r[0, 0] + ky[q] * r[1, 0]
        y = kx[q] * r[0, 1] + ky[q] * r[1, 1]
        z = kx[q] * r[0, 2] + ky[q] * r[1, 2]
        mate[q] = x < 0
        if x < 0:
            x, y, z = -x, -y, -z
        floor_y, floor_z = math.floor(y), math.floor(z)
        x0, y0, z0 = np.int64(x), np.int64(floor_y), np.int64(floor_z)
        fy, fz = y - r.dtype.type(y0), z - r.dtype.type(z0)
        along[q] = x - r.dtype.type(x0)
        y1, z1 = y0 + 1, z0 + 1
        y0, y1 = y0 + edge if y0 < 0 else y0, y1 + edge if y1 < 0 else y1
        z0, z1 = z0 + edge if z0 < 0 else z0, z1 + edge if z1 < 0 else z1
        gy, gz = one - fy, one - fz
        at[0, q], at[1, q] = (z0 * edge + y0) * half + x0, (z0 * edge + y1) * half + x0
        at[2, q], at[3, q] = (z1 * edge + y0) * half + x0, (z1 * edge + y1) * half + x0
        share[0, q], share[1, q], share[2, q], share[3, q] = gy * gz, fy * gz, gy * fz, fy * fz


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _fetch(values: Array, step: int, at: Array, found: Array) -> None:
    """One number of each row: the rows come into the cache, many at once, before they are needed one by one."""
    for q in range(at.shape[1]):
        for row in range(4):
            found[row, q] = values[step * at[row, q]]


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _extract(volume: Array, rot: Array, kx: Array, ky: Array, out: Array) -> None:
    flat, edge, real_type = volume.reshape(-1), volume.shape[0], rot.dtype.type
    at, mate = np.empty((4, BLOCK), np.int64), np.empty(BLOCK, np.bool_)
    share, along, found = np.empty((4, BLOCK), rot.dtype), np.empty(BLOCK, rot.dtype), np.empty((4, BLOCK), rot.dtype)
    for i in range(rot.shape[0]):
        for begin in range(0, kx.size, BLOCK):
            n = min(BLOCK, kx.size - begin)
            _locate(rot[i], kx[begin : begin + n], ky[begin : begin + n], edge, at, share, along, mate)
            _fetch(flat, 2, at[:, :n], found)
            for q in range(n):
                fx = along[q]
                gx = real_type(1.0) - fx
                real, imaginary = real_type(0.0), real_type(0.0)
                for row in range(4):
                    j, w = 2 * at[row, q], share[row, q]
                    real += w * (gx * found[row, q] + fx * flat[j + 2])
                    imaginary += w * (gx * flat[j + 1] + fx * flat[j + 3])
                out[i, begin + q, 0] = real
                out[i, begin + q, 1] = -imaginary if mate[q] else imaginary


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _insert(
    values: Array, weights: Array, share: Array, rot: Array, kx: Array, ky: Array, numerator: Array, denominator: Array
) -> None:
    num, den, edge, one = numerator.reshape(-1), denominator.reshape(-1), numerator.shape[0], rot.dtype.type(1.0)
    at, mate = np.empty((4, BLOCK), np.int64), np.empty(BLOCK, np.bool_)
    of_row, along, found = np.empty((4, BLOCK), rot.dtype), np.empty(BLOCK, rot.dtype), np.empty((4, BLOCK), rot.dtype)
    for i in range(rot.shape[0]):
        for begin in range(0, kx.size, BLOCK):
            n = min(BLOCK, kx.size - begin)
            _locate(rot[i], kx[begin : begin + n], ky[begin : begin + n], edge, at, of_row, along, mate)
            _fetch(num, 2, at[:, :n], found)
            _fetch(den, 1, at[:, :n], found)
            for q in range(n):
                p = begin + q
                real, imaginary = values[i, p, 0] * share[p], values[i, p, 1] * share[p]
                imaginary = -imaginary if mate[q] else imaginary
                weight, fx = weights[i, p] * share[p], along[q]
                for row in range(4):
                    j, w = at[row, q], of_row[row, q]
                    near, far = w * (one - fx), w * fx
                    num[2 * j] += real * near
                    num[2 * j + 1] += imaginary * near
                    num[2 * j + 2] += real * far
                    num[2 * j + 3] += imaginary * far
                    den[j] += weight * near
                    den[j + 1] += weight * far


def _scaled_k(pixels: PixelList, padding: float, real: np.dtype[Any]) -> tuple[Array, Array]:
    return (pixels.kx.numpy() * padding).astype(real), (pixels.ky.numpy() * padding).astype(real)


def _bounds(n: int, parts: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, n, min(max(parts, 1), max(n, 1)) + 1).astype(int)
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def extract_pixels(
    volume_ft: Tensor, rot_img_from_map: Tensor, pixels: PixelList, padding: float = 2.0, *, threads: int = 1
) -> Tensor:
    """Twin of :func:`halfmap.fourier.slices.extract_pixels`; the same bits for any number of threads."""
    check_reach(volume_ft, pixels, padding)
    volume = torch.view_as_real(volume_ft.resolve_conj().contiguous()).numpy()
    rot = np.ascontiguousarray(rot_img_from_map.numpy(), dtype=volume.dtype)
    kx, ky = _scaled_k(pixels, padding, rot.dtype)
    out = np.empty((len(rot), len(kx), 2), dtype=volume.dtype)

    def work(bounds: tuple[int, int]) -> None:
        part = slice(*bounds)
        _extract(volume, rot[part], kx, ky, out[part])

    _run(work, _bounds(len(rot), threads))
    return torch.view_as_complex(torch.from_numpy(out))


def insert_pixels(
    values: Tensor,
    weights: Tensor,
    rot_img_from_map: Tensor,
    pixels: PixelList,
    numerator: Tensor,
    denominator: Tensor,
    padding: float = 2.0,
    *,
    threads: int = 1,
) -> None:
    """Twin of :func:`halfmap.fourier.slices.insert_pixels`.

    Each thread beyond the first needs a volume of its own. The same bits for one number of threads.
    """
    check_reach(numerator, pixels, padding)
    num, den = torch.view_as_real(numerator).numpy(), denominator.numpy()
    rot = np.ascontiguousarray(rot_img_from_map.numpy(), dtype=den.dtype)
    kx, ky = _scaled_k(pixels, padding, rot.dtype)
    share = (pixels.multiplicity.numpy() / 2.0).astype(den.dtype)
    value = np.ascontiguousarray(torch.view_as_real(values.resolve_conj()).numpy(), dtype=num.dtype)
    weight = np.ascontiguousarray(weights.numpy(), dtype=den.dtype)
    parts = _bounds(len(rot), threads)
    with MirroredPlane(numerator), MirroredPlane(denominator):
        own = [(num, den)] + [(np.zeros_like(num), np.zeros_like(den)) for _ in parts[1:]]

        def work(job: tuple[tuple[int, int], tuple[Array, Array]]) -> None:
            part = slice(*job[0])
            _insert(value[part], weight[part], share, rot[part], kx, ky, *job[1])

        _run(work, list(zip(parts, own, strict=True)))
        for private_num, private_den in own[1:]:
            num += private_num
            den += private_den


def _run(work: Any, jobs: list[Any]) -> None:
    if len(jobs) == 1:
        work(jobs[0])
        return
    with ThreadPoolExecutor(len(jobs)) as pool:
        list(pool.map(work, jobs))
