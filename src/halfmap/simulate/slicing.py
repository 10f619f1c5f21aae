"""Central slices accurate to 3e-4, slower than those of the reconstruction and independent of them.

The truth that reconstructions are measured with should not carry their interpolation errors, so slices
are interpolated here by a Kaiser-Bessel kernel of four taps in a transform that is oversampled twofold.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import torch
from torch import Tensor

from halfmap.fourier.pixels import PixelList
from halfmap.fourier.transform import centred_rfftn
from halfmap.typing import Array, FloatArray

_OVERSAMPLING: Final = 2
_TAPS: Final = 4
_BETA: Final = float(np.pi * np.sqrt((_TAPS / _OVERSAMPLING) ** 2 * (_OVERSAMPLING - 0.5) ** 2 - 0.8))
"""Shape of the kernel for this width and oversampling (Beatty et al. 2005, IEEE Trans. Med. Imaging 24, 799)."""
_STEPS: Final = 4096
_BORDER: Final = _TAPS // 2 + 1


def _kernel_table() -> FloatArray:
    """Kernel at distances from 0 to half its width, in ``_STEPS`` steps."""
    distance = np.linspace(0.0, 1.0, _STEPS + 1)
    table: FloatArray = np.append(np.i0(_BETA * np.sqrt(1.0 - distance**2)) / _TAPS, 0.0).astype(np.float32)
    return table


_TABLE: Final = _kernel_table()


def _apodisation(n: int) -> FloatArray:
    """What interpolation multiplies the volume with along one axis: the transform of the kernel."""
    x = (np.arange(n) - n // 2) / (_OVERSAMPLING * n)
    inside = np.sqrt(_BETA**2 - (np.pi * _TAPS * x) ** 2)
    envelope: FloatArray = np.sinh(inside) / inside
    return envelope


def oversampled_transform(volume: Tensor) -> Tensor:
    """Transform of a cubic volume ``[z, y, x]`` about its origin, for :func:`central_slices`.

    Half layout of an edge twice that of the volume, with the columns ``kx = −3 … −1`` in front.
    """
    n = volume.shape[0]
    envelope = torch.from_numpy(_apodisation(n)).float()
    corrected = volume / (envelope[:, None, None] * envelope[:, None] * envelope)
    before = _OVERSAMPLING * n // 2 - n // 2
    after = (_OVERSAMPLING - 1) * n - before
    half = centred_rfftn(torch.nn.functional.pad(corrected, (before, after) * 3))
    mirrored = torch.roll(half[:, :, 1 : _BORDER + 1].flip((0, 1, 2)), (1, 1), (0, 1)).conj()
    return torch.cat([mirrored, half, torch.zeros_like(mirrored)], dim=2).contiguous()


@numba.njit(cache=True)
def _interpolate(transform: Array, position: Array, table: Array, out: Array) -> None:
    """Values at positions (x, y, z), where x >= 0, in voxels of the transform."""
    edge = transform.shape[0]
    taps = _TAPS
    weight = np.empty((3, taps), np.float32)
    index = np.empty((3, taps), np.int64)
    for point in range(position.shape[0]):
        for axis in range(3):
            at = position[point, axis]
            first = int(np.floor(at)) - taps // 2 + 1
            for tap in range(taps):
                distance = abs(first + tap - at) / (0.5 * taps) * _STEPS
                low = min(int(distance), _STEPS)
                rest = np.float32(distance - low)
                weight[axis, tap] = table[low] * (1 - rest) + table[low + 1] * rest
                index[axis, tap] = first + tap + _BORDER if axis == 0 else (first + tap) % edge
        total = np.complex64(0)
        for i in range(taps):
            for j in range(taps):
                row = transform[index[2, i], index[1, j]]
                part = np.complex64(0)
                for k in range(taps):
                    part += weight[0, k] * row[index[0, k]]
                total += weight[2, i] * weight[1, j] * part
        out[point] = total


def central_slices(transform: Tensor, rot_img_from_map: Tensor, pixels: PixelList) -> Tensor:
    """Slices ``[n, y, x//2+1]``: the centred ``rfft2`` of the sums along the beam at rotations ``[n, 3, 3]``.

    ``transform`` comes from :func:`oversampled_transform` of a volume of edge ``pixels.n``.
    """
    slices = torch.zeros(len(rot_img_from_map), len(pixels), dtype=torch.complex64)
    k = torch.stack([pixels.kx, pixels.ky], dim=-1).double() * _OVERSAMPLING
    for rotation, slice_ in zip(rot_img_from_map.double(), slices, strict=True):
        position = k @ rotation[:2]
        mirrored = position[:, 0] < 0
        position[mirrored] *= -1.0
        _interpolate(transform.numpy(), position.numpy(), _TABLE, slice_.numpy())
        slice_[mirrored] = slice_[mirrored].conj()
    return pixels.scatter(slices)
