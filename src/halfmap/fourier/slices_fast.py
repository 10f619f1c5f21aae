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


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _extract(volume: Array, rot: Array, kx: Array, ky: Array, out: Array) -> None:
    edge = volume.shape[0]
    one = rot.dtype.type(1.0)
    for i in range(rot.shape[0]):
        xx, xy, xz = rot[i, 0, 0], rot[i, 0, 1], rot[i, 0, 2]
        yx, yy, yz = rot[i, 1, 0], rot[i, 1, 1], rot[i, 1, 2]
        for p in range(kx.shape[0]):
            x = kx[p] * xx + ky[p] * yx
            y = kx[p] * xy + ky[p] * yy
            z = kx[p] * xz + ky[p] * yz
            mirrored = x < 0
            if mirrored:
                x, y, z = -x, -y, -z
            floor_y, floor_z = math.floor(y), math.floor(z)
            x0, y0, z0 = np.int64(x), np.int64(floor_y), np.int64(floor_z)
            fx, fy, fz = x - rot.dtype.type(x0), y - rot.dtype.type(y0), z - rot.dtype.type(z0)
            y1, z1 = y0 + 1, z0 + 1
            if y0 < 0:
                y0 += edge
                if y1 < 0:
                    y1 += edge
            if z0 < 0:
                z0 += edge
                if z1 < 0:
                    z1 += edge
            gx, gy, gz = one - fx, one - fy, one - fz
            real, imaginary = rot.dtype.type(0.0), rot.dtype.type(0.0)
            for yc, zc, w in ((y0, z0, gy * gz), (y1, z0, fy * gz), (y0, z1, gy * fz), (y1, z1, fy * fz)):
                real += w * (gx * volume[zc, yc, x0, 0] + fx * volume[zc, yc, x0 + 1, 0])
                imaginary += w * (gx * volume[zc, yc, x0, 1] + fx * volume[zc, yc, x0 + 1, 1])
            out[i, p, 0] = real
            out[i, p, 1] = -imaginary if mirrored else imaginary


@numba.njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _insert(
    values: Array, weights: Array, share: Array, rot: Array, kx: Array, ky: Array, numerator: Array, denominator: Array
) -> None:
    edge = numerator.shape[0]
    one = rot.dtype.type(1.0)
    for i in range(rot.shape[0]):
        xx, xy, xz = rot[i, 0, 0], rot[i, 0, 1], rot[i, 0, 2]
        yx, yy, yz = rot[i, 1, 0], rot[i, 1, 1], rot[i, 1, 2]
        for p in range(kx.shape[0]):
            real, imaginary = values[i, p, 0] * share[p], values[i, p, 1] * share[p]
            weight = weights[i, p] * share[p]
            x = kx[p] * xx + ky[p] * yx
            y = kx[p] * xy + ky[p] * yy
            z = kx[p] * xz + ky[p] * yz
            if x < 0:
                x, y, z = -x, -y, -z
                imaginary = -imaginary
            floor_y, floor_z = math.floor(y), math.floor(z)
            x0, y0, z0 = np.int64(x), np.int64(floor_y), np.int64(floor_z)
            fx, fy, fz = x - rot.dtype.type(x0), y - rot.dtype.type(y0), z - rot.dtype.type(z0)
            y1, z1 = y0 + 1, z0 + 1
            if y0 < 0:
                y0 += edge
                if y1 < 0:
                    y1 += edge
            if z0 < 0:
                z0 += edge
                if z1 < 0:
                    z1 += edge
            gx, gy, gz = one - fx, one - fy, one - fz
            for yc, zc, w in ((y0, z0, gy * gz), (y1, z0, fy * gz), (y0, z1, gy * fz), (y1, z1, fy * fz)):
                near, far = w * gx, w * fx
                numerator[zc, yc, x0, 0] += real * near
                numerator[zc, yc, x0, 1] += imaginary * near
                numerator[zc, yc, x0 + 1, 0] += real * far
                numerator[zc, yc, x0 + 1, 1] += imaginary * far
                denominator[zc, yc, x0] += weight * near
                denominator[zc, yc, x0 + 1] += weight * far


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
