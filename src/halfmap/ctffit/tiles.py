"""Spectra of the tiles of a micrograph, averaged over sectors of direction and equal steps of s²."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.fft
from scipy import sparse

from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import chosen_pixels, radial_basis
from halfmap.errors import HalfmapError
from halfmap.typing import Array, FloatArray

TILE_A: Final = 500.0
LAGS: Final = 2.0
SEEN_A: Final = 5.0
"""A tile has an edge of 500 Å, or of two distances that rings at 5 Å resolution belong to, if these are longer."""
SMALLEST_TILE_PX: Final = 192
LARGEST_SHARE: Final = 3
"""Tiles are at most one third of the micrograph's shorter edge, and overlap by at most one half."""
MOST_TILES: Final = 100
"""About how many tiles are enough; larger micrographs overlap them less."""
N_SECTORS: Final = 18
STEP_PER_A2: Final = 1.0 / 4096.0
"""Width of a step of s²: rings of 60,000 Å at 300 kV are 3.5 steps apart."""
OUTLIER: Final = 6.0
BORDER_SHARE: Final = 0.125
"""Share of its edge over which a tile fades towards the border of the micrograph, where no other tile overlaps it."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Relative power above a smooth baseline of each tile, and where the tiles are."""

    value: FloatArray
    """``[tile, sector, step]`` mean over a cell of power over baseline, minus one; 0 in empty cells."""
    count: FloatArray
    """``[sector, step]`` pixels of each cell, the same in all tiles."""
    frequency_squared: FloatArray
    """s² at the middle of each step."""
    direction_rad: FloatArray
    """Middle of each sector."""
    x_A: FloatArray
    """Centre of gravity of each tile's power from the centre of the micrograph."""
    y_A: FloatArray
    edge_A: float
    shared: float
    """Mean sum of the correlations of a tile's power with that of all tiles, itself included; 1 if none overlap."""
    weight: FloatArray
    """Independent pixels of each tile over their mean: tiles at the border fade less."""

    def __len__(self) -> int:
        return len(self.value)


def large_enough(shape: tuple[int, int]) -> bool:
    """Whether a micrograph holds three small tiles side by side each way."""
    return min(shape) >= LARGEST_SHARE * SMALLEST_TILE_PX


def tile_length_A(microscope: Microscope, defocus_A: float) -> float:
    """Edge of a tile that rings of a defocus fit into."""
    lag_A = float(microscope.lag_A(np.array(1.0 / SEEN_A**2), defocus_A))
    return max(TILE_A, LAGS * lag_A)


def tile_edge_px(shape: tuple[int, int], pixel_size_A: float, length_A: float = TILE_A) -> int:
    """Edge of the tiles: about a length, at least 192 px, at most a third of the micrograph; even, fast to transform.

    Raises
    ------
    HalfmapError
        If the micrograph is too small to be divided.
    """
    if not large_enough(shape):
        raise HalfmapError(
            f"a micrograph of {shape[1]} x {shape[0]} px is too small for a local fit of defocus.",
            remedy=f"It needs {LARGEST_SHARE * SMALLEST_TILE_PX} px each way.",
        )
    edge = min(max(round(length_A / pixel_size_A), SMALLEST_TILE_PX), min(shape) // LARGEST_SHARE)
    while edge > SMALLEST_TILE_PX and (edge % 2 or scipy.fft.next_fast_len(edge, real=True) != edge):
        edge -= 1
    return edge


def tiles_of(
    micrograph: FloatArray,
    pixel_size_A: float,
    min_resolution_A: float,
    max_resolution_A: float,
    length_A: float = TILE_A,
) -> Tiles:
    """Cut a micrograph into tiles and average their spectra over cells of direction and s².

    Tiles overlap and fade towards their edges, so that all of the micrograph counts. Each is divided
    by a smooth radial baseline of its own, so that tiles on carbon, on ice and on nothing can stand
    side by side.

    Raises
    ------
    HalfmapError
        If the micrograph is too small, or the resolution range holds too few pixels.
    """
    edge = tile_edge_px((micrograph.shape[0], micrograph.shape[1]), pixel_size_A, length_A)
    starts = [_starts(n, edge, micrograph.shape) for n in micrograph.shape]
    fx, fy = np.fft.rfftfreq(edge, pixel_size_A)[None, :], np.fft.fftfreq(edge, pixel_size_A)[:, None]
    use = chosen_pixels(fx, fy, min_resolution_A, max_resolution_A)
    squared = (fx**2 + fy**2)[use]
    low, high = float(squared.min()), float(squared.max())
    n_steps = int(np.ceil((high - low) / STEP_PER_A2)) + 1
    step = ((squared - low) / STEP_PER_A2).astype(np.int64)
    cells = _cells(np.broadcast_to(np.arctan2(fy, fx), use.shape)[use], step, n_steps)
    windows = [_windows(len(along), edge) for along in starts]
    power = np.empty((len(squared), len(starts[0]) * len(starts[1])), np.float32)
    for number, (i, j) in enumerate(np.ndindex(len(starts[0]), len(starts[1]))):
        row, column = starts[0][i], starts[1][j]
        tile = micrograph[row : row + edge, column : column + edge]
        transform = scipy.fft.rfft2((tile - tile.mean()) * (windows[0][i][:, None] * windows[1][j]))[use]
        power[:, number] = transform.real**2 + transform.imag**2
    count = np.bincount(cells.indices, minlength=cells.shape[1]).astype(np.float64)
    total = np.asarray(cells.T @ power, np.float64).T.reshape(-1, N_SECTORS, n_steps)
    centre = [
        (along + window**2 @ np.arange(edge) / (window**2).sum(1) - n // 2) * pixel_size_A
        for along, window, n in zip(starts, windows, micrograph.shape, strict=True)
    ]
    weight = np.multiply.outer(*((window**2).sum(1) ** 2 / (window**4).sum(1) for window in windows)).ravel()
    y_A, x_A = (grid.ravel() for grid in np.meshgrid(*centre, indexing="ij"))
    steps = low + STEP_PER_A2 * (np.arange(n_steps) + 0.5)
    count = count.reshape(N_SECTORS, n_steps)
    return Tiles(
        value=_relative(total, count, steps),
        count=count,
        frequency_squared=steps,
        direction_rad=(np.arange(N_SECTORS) + 0.5) * (np.pi / N_SECTORS),
        x_A=x_A,
        y_A=y_A,
        edge_A=edge * pixel_size_A,
        shared=_shared(starts[0], windows[0]) * _shared(starts[1], windows[1]),
        weight=weight / weight.mean(),
    )


def _starts(size_px: int, edge_px: int, shape: tuple[int, ...]) -> Array:
    """First pixels of the tiles along one side: half an edge apart, or farther where that makes too many tiles."""
    step = max(0.5 * edge_px, np.sqrt(np.prod(shape) / MOST_TILES))
    return np.rint(np.linspace(0, size_px - edge_px, round((size_px - edge_px) / step) + 1)).astype(np.int64)


def _windows(n_tiles: int, edge_px: int) -> FloatArray:
    """``[tile, px]`` weights of the tiles along one side: half a sine, but nearly even towards the border."""
    place = (np.arange(edge_px) + 0.5) / edge_px
    inner = np.sin(np.pi * place).astype(np.float32)
    border = np.where(place < 0.5, np.sin(0.5 * np.pi * np.minimum(place / BORDER_SHARE, 1.0)), inner)
    windows = np.tile(inner, (n_tiles, 1))
    windows[0] = border
    windows[-1] = border[::-1]
    return windows


def _shared(starts: Array, windows: FloatArray) -> float:
    """Mean over tiles of one side of the sum of the squared overlaps of their windows."""
    along = np.zeros((len(starts), int(starts[-1]) + windows.shape[1]))
    for row, start, window in zip(along, starts, windows, strict=True):
        row[start : start + len(window)] = window / np.sqrt((window**2).sum())
    return float(((along @ along.T) ** 2).sum() / len(starts))


def _cells(direction_rad: FloatArray, step: Array, n_steps: int) -> sparse.csr_matrix:
    """``[pixel, sector * step]`` with a one at the cell of each pixel."""
    sector = np.minimum((np.mod(direction_rad, np.pi) * (N_SECTORS / np.pi)).astype(np.int64), N_SECTORS - 1)
    n = len(step)
    ones = np.ones(n, np.float32)
    return sparse.csr_matrix((ones, sector * n_steps + step, np.arange(n + 1)), (n, N_SECTORS * n_steps))


def _relative(total: FloatArray, count: FloatArray, squared: FloatArray) -> FloatArray:
    """Mean power of the cells of each tile over its baseline, minus one, without far outliers."""
    by_step = count.sum(0)
    filled = by_step > 0
    basis = radial_basis(np.sqrt(squared[filled]))
    root = np.sqrt(by_step[filled])[:, None]
    profile = total.sum(1)[:, filled] / by_step[filled]
    solve = np.linalg.pinv(basis * root) * root.T
    log_baseline = np.log(np.maximum(profile, 1e-30)) @ solve.T @ basis.T
    baseline = np.ones((len(total), len(squared)))
    baseline[:, filled] = np.exp(log_baseline)
    safe = np.where(count > 0, count, 1.0)
    value = np.where(count > 0, total / (safe * baseline[:, None, :]) - 1.0, 0.0)
    spread = np.sqrt((count * value**2).sum((1, 2)) / np.count_nonzero(count))[:, None, None] / np.sqrt(safe)
    return np.clip(value, -OUTLIER * spread, OUTLIER * spread)
