"""A full-size power spectrum made small: the picture that a CTF is fitted to."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.typing import FloatArray

SPECTRUM_PX: Final = 512
FINEST_PIXEL_A: Final = 1.4
"""Frequencies beyond this pixel size's Nyquist (2.8 Å) are left out, so that the others get more cells."""


def binned_power(
    power: Float[Tensor, "y kx"], shape: tuple[int, int], pixel_size_A: float, box_px: int = SPECTRUM_PX
) -> tuple[Float[Tensor, "box half"], float]:
    """Average the power of an image of any size into the cells of a square spectrum.

    A cell is the mean of the input that its square of frequencies covers; input on the border
    counts by its share, so that any ratio of sizes is allowed. Averaging keeps what a periodogram
    over boxes of ``box_px`` has, ring spacing and positive values, at the cost of one transform.
    It multiplies the autocorrelation at the lag ``(x, y)`` by ``sinc(x/L) sinc(y/L)`` with
    ``L = box_px · pixel_size_A`` of the result.

    Parameters
    ----------
    power
        Half-plane power (rfft2 layout) of an image.
    shape
        Rows and columns of the image.
    pixel_size_A
        Pixel size of the image.
    box_px
        Edge of the result.

    Returns
    -------
    power, pixel_size_A
        Half-plane power ``[box, box//2+1]`` and the pixel size that its Nyquist belongs to: that
        of the image, or 1.4 Å where that is finer. The zero frequency holds its neighbours' mean.
    """
    device = power.device
    pixel_out_A = max(pixel_size_A, FINEST_PIXEL_A)
    ratio = pixel_size_A / pixel_out_A
    rows, columns = (torch.as_tensor(table, device=device) for table in _shares(shape, box_px, ratio))
    n_columns = int(torch.nonzero(columns.sum(0))[-1]) + 1
    used = torch.nonzero(rows.sum(0) > 0)[:, 0]
    inside = power[used, :n_columns]
    inside[0, 0] = 0.5 * (power[0, 1] + power[1, 0])
    small = rows[:, used] @ (inside @ columns[:, :n_columns].T)
    small[:, 0] = 0.5 * (small[:, 0] + torch.roll(small[:, 0].flip(0), 1))
    return small, pixel_out_A


@lru_cache(maxsize=2)
def _shares(shape: tuple[int, int], box_px: int, ratio: float) -> tuple[FloatArray, FloatArray]:
    """``_cell_shares`` of rows and of columns, which all images of a session have in common."""
    return (
        _cell_shares(np.fft.fftfreq(shape[0]), np.fft.fftfreq(box_px) * ratio),
        _cell_shares(np.fft.rfftfreq(shape[1]), np.fft.rfftfreq(box_px) * ratio),
    )


def _cell_shares(place_in: FloatArray, place_out: FloatArray) -> FloatArray:
    """``[n_out, n_in]`` share of each input frequency (cycles/px) in each output cell; rows sum to one."""
    apart = place_in[None, :] - place_out[:, None]
    apart -= np.round(apart)
    half_in, half_out = 0.5 * (place_in[1] - place_in[0]), 0.5 * (place_out[1] - place_out[0])
    overlap = np.minimum(apart + half_in, half_out) - np.maximum(apart - half_in, -half_out)
    share = np.clip(overlap, 0.0, None)
    return np.asarray(share / share.sum(axis=1, keepdims=True), dtype=np.float32)


def centred_amplitude(power: Float[Tensor, "box half"]) -> FloatArray:
    """Square root of a half-plane power as a whole square picture with zero frequency in the middle."""
    box_px = power.shape[0]
    half = power.clamp_min(0.0).sqrt().cpu().numpy()
    whole = np.empty((box_px, box_px), np.float32)
    whole[:, : box_px // 2 + 1] = half
    mirrored = np.roll(half[::-1], 1, axis=0)
    whole[:, box_px // 2 + 1 :] = mirrored[:, 1 : (box_px + 1) // 2][:, ::-1]
    return np.fft.fftshift(whole)


def power_of_picture(amplitude: FloatArray) -> Float[Tensor, "box half"]:
    """The half-plane power of a centred square picture of amplitudes; undoes ``centred_amplitude``."""
    box_px = amplitude.shape[0]
    half = np.fft.ifftshift(np.asarray(amplitude, np.float32))[:, : box_px // 2 + 1]
    return torch.from_numpy(np.ascontiguousarray(half)).square()
