"""Patches of globally aligned frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import scipy.fft
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.motion.band import (
    Band,
    band_indices,
    empty,
    fast_size,
    irfft2,
    phases,
    picture_of_band,
    place_band,
    rfft2,
)
from halfmap.motion.likelihood import Derivatives, derivatives_of_many, mean_powers_of_many
from halfmap.motion.patches_fast import cut_cells, place_moved
from halfmap.motion.weighting import Weighting
from halfmap.typing import Array, FloatArray

SMALLEST_PATCH_A: Final = 300.0
"""Patches are not made smaller: they would hold too little that can be aligned."""
SMALLEST_PATCH_CELLS: Final = 24
"""Fewest pixels of the alignment band along an edge of a patch."""
MOST_PATCHES: Final = 7
"""Along one edge of the frame: more tell nothing new about a surface of second order."""
TAPER: Final = 0.125
"""Share of a patch's edge over which its window falls off, at either end."""
MOST_OVERLAP: Final = 1.05
"""A patch may be so much longer than its share of the field, where that makes its transform fast."""
SMALLEST_FIELD: Final = 0.5
"""Share of the frame's edges that must be seen in all frames."""


@dataclass(frozen=True, eq=False)
class Patches:
    """Low frequencies of the windowed patches of globally aligned frames."""

    ft: Complex[Tensor, "p n ky kx"]
    """In memory ``[p, ky, n, kx]``, so that a row of all frames lies together."""
    fy: Float[Tensor, " ky"]
    fx: Float[Tensor, " kx"]
    """Frequencies in cycles per pixel of the frame."""
    centres: FloatArray
    """``[p, 2]`` (x, y) of the patches, from -0.5 to 0.5 over the frame."""
    grid: tuple[int, int]
    """Patches along y and along x."""

    def band(self, patch: int) -> Band:
        """The frames of one patch."""
        return Band(self.ft[patch], self.fy, self.fx)


def patch_grid(
    shape: tuple[int, int], pixel_size_A: float, max_frequency: float, per_edge: int | None = None
) -> tuple[int, int]:
    """Number of patches along y and x: near square ones, 7 along the longer edge unless they become too small.

    Parameters
    ----------
    shape
        Rows and columns of the part of the frame that is divided.
    pixel_size_A
        Of the frames.
    max_frequency
        Of the alignment, in cycles per pixel.
    per_edge
        Patches along the longer edge, if it is not to be chosen.
    """
    least_px = max(SMALLEST_PATCH_A / pixel_size_A, SMALLEST_PATCH_CELLS / (2.0 * max_frequency))
    longest = max(shape)
    edge_px = max(least_px, longest / MOST_PATCHES) if per_edge is None else longest / per_edge
    rows, columns = (max(1, round(n / edge_px)) for n in shape)
    return rows, columns


def cut_patches(
    band: Band,
    shifts_px: FloatArray,
    *,
    shape: tuple[int, int],
    pixel_size_A: float,
    max_frequency: float,
    per_edge: int | None = None,
) -> Patches | None:
    """Cut the shifted frames into patches with soft edges.

    The frames are brought to the pixel size of the alignment's band first, so that this costs a small share of
    whole transforms. What a shift carried across the edge of the frame is not looked at.

    Parameters
    ----------
    band
        Low frequencies of the frames.
    shifts_px
        ``[n, 2]`` shifts (x, y) of the frames.
    shape
        Rows and columns of the frames.
    pixel_size_A
        Of the frames.
    max_frequency
        Highest frequency to keep, in cycles per pixel.
    per_edge
        Patches along the longer edge, if it is not to be chosen.

    Returns
    -------
    ``None`` if all frames together see less than half of the frame's height or width.
    """
    inner = band.cropped(max_frequency)
    first, last = _common_field(shifts_px, shape)
    if min((last - first) / np.array(shape)) < SMALLEST_FIELD:
        return None
    field = int(last[0] - first[0]), int(last[1] - first[1])
    rows, columns = patch_grid(field, pixel_size_A, max_frequency, per_edge)
    small = fast_size(inner)
    step = shape[0] / small[0], shape[1] / small[1]
    edge = fast_edge(field[0] / step[0], rows), fast_edge(field[1] / step[1], columns)
    corners_y = np.rint(np.linspace(first[0] / step[0], last[0] / step[0] - edge[0], rows)).astype(int)
    corners_x = np.rint(np.linspace(first[1] / step[1], last[1] / step[1] - edge[1], columns)).astype(int)
    take_y, n_x = band_indices(edge, max_frequency * max(step))
    layout = _Layout(small, corners_y, corners_x, _taper(edge[0]), _taper(edge[1]))
    out = empty((rows * columns, len(take_y), len(inner.ft), n_x), torch.complex64, inner.ft.device)
    cells_of = _cells if inner.ft.device.type == "cpu" else cells_plainly
    along_y, along_x = phases(shifts_px[:, 1], inner.fy), phases(shifts_px[:, 0], inner.fx)
    for i, frame in enumerate(inner.ft):
        place_band(rfft2(cells_of(frame, along_y[i], along_x[i], layout)), out[:, :, i])
    middle_y = (corners_y + 0.5 * edge[0]) / small[0] - 0.5
    middle_x = (corners_x + 0.5 * edge[1]) / small[1] - 0.5
    centres = np.stack([np.tile(middle_x, rows), np.repeat(middle_y, columns)], axis=1)
    fy = torch.fft.fftfreq(edge[0], dtype=torch.float64)[take_y] / step[0]
    fx = torch.fft.rfftfreq(edge[1], dtype=torch.float64)[:n_x] / step[1]
    return Patches(
        out.permute(0, 2, 1, 3), fy.float().to(out.device), fx.float().to(out.device), centres, (rows, columns)
    )


def fast_edge(field: float, n: int) -> int:
    """Edge of ``n`` patches along a field: the next one that is fast to transform, if patches then overlap a little."""
    edge = int(field / n)
    faster = scipy.fft.next_fast_len(edge, real=True)
    return faster if faster <= min(MOST_OVERLAP * edge, field) else edge


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where the cells lie in a small picture of a frame."""

    small: tuple[int, int]
    corners_y: Array
    corners_x: Array
    taper_y: FloatArray
    taper_x: FloatArray


def _cells(
    frame: Complex[Tensor, "ky kx"], along_y: Complex[Tensor, " ky"], along_x: Complex[Tensor, " kx"], layout: _Layout
) -> Float[Tensor, "p y x"]:
    """The fast twin of ``cells_plainly``."""
    padded = np.empty((layout.small[0], layout.small[1] // 2 + 1), np.complex64)
    place_moved(frame.numpy(), along_y.numpy(), along_x.numpy(), padded)
    picture = irfft2(torch.from_numpy(padded), layout.small).numpy()
    n_cells = len(layout.corners_y) * len(layout.corners_x)
    out = np.empty((n_cells, len(layout.taper_y), len(layout.taper_x)), np.float32)
    cut_cells(picture, layout.corners_y, layout.corners_x, layout.taper_y, layout.taper_x, out)
    return torch.from_numpy(out)


def cells_plainly(
    frame: Complex[Tensor, "ky kx"], along_y: Complex[Tensor, " ky"], along_x: Complex[Tensor, " kx"], layout: _Layout
) -> Float[Tensor, "p y x"]:
    """Windowed cells of a frame that is shifted by factors along y and x, in plain torch."""
    picture = picture_of_band(frame * (along_y[:, None] * along_x), layout.small)
    window = torch.as_tensor(np.outer(layout.taper_y, layout.taper_x), device=picture.device)
    rows, columns = window.shape
    corners = [(int(y), int(x)) for y in layout.corners_y for x in layout.corners_x]
    cells = torch.stack([picture[y : y + rows, x : x + columns] for y, x in corners])
    return (cells - (cells * window).sum(dim=(1, 2), keepdim=True) / window.sum()) * window


def _common_field(shifts_px: FloatArray, shape: tuple[int, int]) -> tuple[FloatArray, FloatArray]:
    """First and last row and column ``(y, x)`` that no shift has filled from across the edge."""
    low = np.ceil(np.maximum(shifts_px.max(axis=0), 0.0))[::-1]
    high = np.array(shape) + np.floor(np.minimum(shifts_px.min(axis=0), 0.0))[::-1]
    return low, high


def _taper(edge: int) -> FloatArray:
    """A window of one dimension with raised-cosine ends."""
    from_end = np.minimum(np.arange(edge) + 0.5, edge - np.arange(edge) - 0.5) / max(TAPER * edge, 1.0)
    window: FloatArray = (0.5 - 0.5 * np.cos(np.pi * np.clip(from_end, 0.0, 1.0))).astype(np.float32)
    return window


def pooled_weighting(patches: Patches, shifts_px: FloatArray) -> Weighting:
    """Weights from signal and noise of all patches together; ``shifts_px`` is ``[p, n, 2]``."""
    n_patches, n = shifts_px.shape[:2]
    band = patches.band(0)
    powers = mean_powers_of_many(patches.ft, band, shifts_px)
    return Weighting.of_powers(*powers, band, n_frames=n, n_images=n_patches)


def derivatives_of_patches(patches: Patches, shifts_px: FloatArray, weight: Float[Tensor, "ky kx"]) -> Derivatives:
    """Derivatives ``[p, n, ...]`` of the patches' log-likelihoods at shifts ``[p, n, 2]``."""
    return derivatives_of_many(patches.ft, patches.band(0), shifts_px, weight)
