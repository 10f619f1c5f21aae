"""Low frequencies of frames: where they lie, how they are shifted and added."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.fft
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.typing import Array, FloatArray

_LARGE_PX = 2**23
_KEPT: list[Tensor] = []
"""Room that is not lent at the moment: one tensor at most."""
_MOST_KEPT = 2**28
"""Coefficients of the largest room that is kept: 2 GiB."""
_ROWS_AT_ONCE = 64
"""Rows that are transformed before they are put in their place, so few that they stay near the processor."""


@dataclass(frozen=True, eq=False)
class Band:
    """Low frequencies of frames: transforms, and where they lie in cycles per pixel.

    ``ft`` has rows of frequency ``fy`` (ascending, negative ones too) and columns ``fx >= 0``.
    """

    ft: Complex[Tensor, "n ky kx"]
    fy: Float[Tensor, " ky"]
    fx: Float[Tensor, " kx"]

    def cropped(self, max_frequency: float) -> Band:
        """The part with ``|fy| <= max_frequency`` and ``fx <= max_frequency``."""
        rows = torch.nonzero(self.fy.abs() <= max_frequency)[:, 0]
        first, last = int(rows[0]), int(rows[-1]) + 1
        columns = int((self.fx <= max_frequency).sum())
        return Band(rows_together(self.ft[:, first:last, :columns]), self.fy[first:last], self.fx[:columns])


def band_indices(shape: tuple[int, int], max_frequency: float) -> tuple[Int[Tensor, " ky"], int]:
    """Rows (in ascending frequency) and number of columns of an rfft2 below a frequency in cycles/px."""
    ny, nx = shape
    rows_up = min(int(max_frequency * ny), (ny - 1) // 2)
    columns = min(int(max_frequency * nx), (nx - 1) // 2) + 1
    return torch.arange(-rows_up, rows_up + 1) % ny, columns


def rows_first(ft: Complex[Tensor, "n ky kx"]) -> Array:
    """Transforms as ``[ky, n, kx]``, as they lie in memory where ``rows_together`` made them, else copied."""
    return np.ascontiguousarray(ft.numpy().transpose(1, 0, 2))


def rows_together(ft: Complex[Tensor, "n ky kx"]) -> Complex[Tensor, "n ky kx"]:
    """The same numbers, so that in memory a row of all frames lies together; copied where they do not yet."""
    return ft if ft.device.type != "cpu" else torch.from_numpy(rows_first(ft)).permute(1, 0, 2)


def place_band(transform: Complex[Tensor, "... y kx"], out: Complex[Tensor, "... ky kx_band"]) -> None:
    """Copy the low frequencies of an rfft2, rows in ascending frequency; by numpy where that is faster than torch."""
    rows, columns = out.shape[-2:]
    up = rows // 2
    source: Any = transform.numpy() if transform.device.type == "cpu" else transform
    target: Any = out.numpy() if out.device.type == "cpu" else out
    target[..., up:, :] = source[..., : up + 1, :columns]
    target[..., :up, :] = source[..., source.shape[-2] - up :, :columns]


def phases(shifts_px: float | FloatArray, frequencies: Float[Tensor, " k"]) -> Complex[Tensor, "*shifts k"]:
    """Factors that shift along one axis; as many as there are shifts, for each frequency."""
    turns = torch.as_tensor(shifts_px, dtype=torch.float64, device=frequencies.device)[..., None] * frequencies.double()
    angle = (-2.0 * math.pi * (turns - turns.round())).float()
    return torch.complex(torch.cos(angle), torch.sin(angle))


def radians_per_px(frequencies: Float[Tensor, " k"]) -> Float[Tensor, " k"]:
    """Angular frequencies: by what a shift of one pixel turns each phase."""
    return (2.0 * math.pi * frequencies).float()


def moved(ft: Complex[Tensor, "*n ky kx"], band: Band, shifts_px: FloatArray) -> Complex[Tensor, "*n ky kx"]:
    """Frames shifted by ``[*n, 2]`` (x, y) px; of ``band`` the frequencies matter."""
    along_y, along_x = phases(shifts_px[..., 1], band.fy), phases(shifts_px[..., 0], band.fx)
    return ft * (along_y[..., :, None] * along_x[..., None, :])


def radial_frequency(band: Band) -> Float[Tensor, "ky kx"]:
    """Length of the frequency vectors in cycles per pixel."""
    return torch.sqrt(band.fy[:, None] ** 2 + band.fx[None, :] ** 2)


def multiplicity(band: Band) -> Float[Tensor, " kx"]:
    """How often each column of a half transform occurs in the whole one."""
    return torch.where(band.fx == 0, 1.0, 2.0).to(band.fx.dtype)


def without_lowest(weight: Float[Tensor, "ky kx"], band: Band) -> Float[Tensor, "ky kx"]:
    """Drop frequencies of the illumination, which does not move with the specimen."""
    step = max(float(band.fy[1] - band.fy[0]), float(band.fx[1] - band.fx[0]))
    return torch.where(radial_frequency(band) > 2.5 * step, weight, 0.0)


def picture_of_band(ft: Complex[Tensor, "*n ky kx"], size: tuple[int, int]) -> Float[Tensor, "*n y x"]:
    """Pictures (rows, columns) of bands' coefficients; a size of small prime factors is fast to transform."""
    rows, columns = ft.shape[-2:]
    up = rows // 2
    padded = torch.zeros((*ft.shape[:-2], size[0], size[1] // 2 + 1), dtype=ft.dtype, device=ft.device)
    padded[..., : up + 1, :columns] = ft[..., up:, :]
    padded[..., size[0] - up :, :columns] = ft[..., :up, :]
    return irfft2(padded, size)


def fast_size(band: Band) -> tuple[int, int]:
    """The smallest picture that holds a band and is fast to transform."""
    rows, columns = (scipy.fft.next_fast_len(n, real=True) for n in (len(band.fy), 2 * len(band.fx)))
    return rows, columns


def irfft2(transform: Complex[Tensor, "... y kx"], size: tuple[int, int]) -> Float[Tensor, "... y x"]:
    """The real picture of a transform, which is used up; on the CPU scipy takes half to nine tenths of torch's time."""
    if transform.device.type == "cpu":
        rows = scipy.fft.ifft(transform.numpy(), axis=-2, overwrite_x=True)
        return torch.from_numpy(scipy.fft.irfft(rows, n=size[1], axis=-1))
    return torch.as_tensor(torch.fft.irfft2(transform, s=size))


def rfft2_into(picture: Float[Tensor, "y x"], out: Complex[Tensor, "y kx"]) -> None:
    """The transform of a real picture, written where it is to stay: new memory costs as much as an eighth of it.

    On the CPU torch is the faster one for small pictures, and scipy, rows first, for large ones.
    """
    if picture.device.type != "cpu" or picture.numel() < _LARGE_PX:
        torch.fft.rfft2(picture, out=out)
        return
    for first in range(0, len(picture), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        out.numpy()[rows] = scipy.fft.rfft(picture[rows].numpy(), axis=1)
    done = torch.from_numpy(scipy.fft.fft(out.numpy(), axis=0, overwrite_x=True))
    if done.data_ptr() != out.data_ptr():
        out.copy_(done)


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str) -> Tensor:
    """Room for numbers; on the CPU numpy's, which asks for large pages of memory where torch does not."""
    if torch.device(device).type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device)
    return torch.from_numpy(np.empty(shape, torch.empty(0, dtype=dtype).numpy().dtype))


@contextmanager
def borrowed(shape: tuple[int, int, int], device: str) -> Iterator[Complex[Tensor, "n y kx"]]:
    """Room for the transforms of one movie, on the CPU lent again to the next one where it is not too large.

    Memory that is new to a process is filled with zeros by the system, page by page, when it is written first.
    """
    here = torch.device(device).type == "cpu"
    room = _KEPT.pop() if here and _KEPT else None
    if room is None or tuple(room.shape) != shape:
        room = empty(shape, torch.complex64, device)
    try:
        yield room
    finally:
        if here and room.numel() <= _MOST_KEPT and not _KEPT:
            _KEPT.append(room)


def rfft2(pictures: Float[Tensor, "... y x"]) -> Complex[Tensor, "... y kx"]:
    """Transforms of real pictures; see ``irfft2``."""
    if pictures.device.type == "cpu":
        return torch.as_tensor(scipy.fft.rfft2(pictures.numpy()))
    return torch.as_tensor(torch.fft.rfft2(pictures))
