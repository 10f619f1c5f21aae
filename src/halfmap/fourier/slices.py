"""Central slices of a volume's transform and their insertion: plain torch, for every device.

A slice at ``rot_img_from_map`` holds at the image frequency ``k`` the volume's transform at
``Aᵀ (kx, ky, 0)`` (ADR-0001), interpolated trilinearly in a transform that is finer than the image's by
``padding``. Interpolating multiplies the volume, in real space, by a separable sinc²;
:func:`prepare_volume` divides by it beforehand and :func:`finish_volume` afterwards.

Extraction and insertion are exact adjoints under the scalar products of the full plane and the full
volume, ``Re Σ multiplicity · conj(a) · b`` over the pixel list and ``Re Σ friedel_weight · conj(a) · b``
over the half layout of the volume: each pixel of the list is inserted together with its Friedel mate.

The half layout of a sliced volume has an even edge that depends only on the largest radius
(:func:`volume_edge`); its own Nyquist planes are never touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.crop import central_part, crop_axis, crop_half_axis, padded_axis
from halfmap.fourier.grid import slabs
from halfmap.fourier.ordered_sums import add_at
from halfmap.fourier.pixels import PixelList

_CHUNK_ELEMENTS = 1 << 22
"""Pixels handled at once by the torch path, which bounds its memory."""


def padded_edge(n: int, padding: float) -> int:
    """Edge of a volume of edge ``n`` after padding, a whole number."""
    edge = n * padding
    if padding < 1.0 or abs(edge - round(edge)) > 1e-9:
        raise HalfmapError(f"padding {padding} does not make a whole number of voxels of {n}", remedy="Use 1, 2 or 3.")
    return round(edge)


def volume_edge(max_radius_px: float, padding: float) -> int:
    """Edge of the half layout that holds slices up to ``max_radius_px`` image Fourier pixels."""
    return 2 * (math.ceil(padding * max_radius_px) + 2)


def empty_volume_ft(
    max_radius_px: float, padding: float, dtype: torch.dtype = torch.complex64, device: torch.device | str = "cpu"
) -> Tensor:
    """Zeros in the layout of :func:`prepare_volume`: an accumulator for :func:`insert_pixels`."""
    edge = volume_edge(max_radius_px, padding)
    return torch.zeros(edge, edge, edge // 2 + 1, dtype=dtype, device=device)


def gridding_envelope(n: int, padding: float, device: torch.device | str = "cpu") -> Float[Tensor, " n"]:
    """``sinc²(x / padded edge)`` along one axis: what trilinear interpolation multiplies the volume with."""
    x = torch.arange(n, dtype=torch.float64, device=device) - n // 2
    return torch.sinc(x / padded_edge(n, padding)).square()


def prepare_volume(
    volume: Float[Tensor, "z y x"], max_radius_px: float, padding: float = 2.0
) -> Complex[Tensor, "edge edge half"]:
    """Transform from which slices up to ``max_radius_px`` can be extracted.

    The volume is corrected for the interpolation, padded, transformed about its origin ``n // 2`` and cropped,
    axis by axis, so that nothing is ever padded along all three axes at once.
    A slice of the result is the ``rfft2`` (centred) of the projection, the plain sum along the beam.
    """
    n = volume.shape[-1]
    if volume.shape != (n, n, n):
        raise HalfmapError(f"slices are taken of cubic volumes, this one has shape {tuple(volume.shape)}")
    edge, kept = padded_edge(n, padding), volume_edge(max_radius_px, padding)
    envelope = gridding_envelope(n, padding, volume.device).to(volume.dtype)
    planes = volume.new_empty(n, kept, kept // 2 + 1, dtype=volume.dtype.to_complex())
    for slab in slabs(n, edge * edge):
        part = volume[slab] / (envelope[slab, None, None] * envelope[:, None] * envelope)
        part = crop_half_axis(torch.fft.rfft(padded_axis(part, -1, edge)), edge, kept)
        planes[slab] = crop_axis(torch.fft.fft(padded_axis(part, -2, edge), dim=-2), -2, kept)
    result = volume.new_empty(kept, kept, kept // 2 + 1, dtype=planes.dtype)
    for slab in slabs(kept, edge * (kept // 2 + 1)):
        result[:, slab] = crop_axis(torch.fft.fft(padded_axis(planes[:, slab], -3, edge), dim=-3), -3, kept)
    return result


def finish_volume(volume_ft: Complex[Tensor, "edge edge half"], n: int, padding: float = 2.0) -> Float[Tensor, "n n n"]:
    """Volume of edge ``n`` whose transform (in the layout of :func:`prepare_volume`) is given; undoes it."""
    return finish_rows(lambda rows: volume_ft[:, rows], volume_ft.shape[0], volume_ft, n, padding)


def finish_rows(
    rows_of: Callable[[slice], Complex[Tensor, "edge rows kx"]], kept: int, like: Tensor, n: int, padding: float = 2.0
) -> Float[Tensor, "n n n"]:
    """:func:`finish_volume` of a transform that is made a few rows (of ky) at a time and never held as a whole.

    Axis by axis: beside the result, what is held is ``n`` planes of the transform.

    Parameters
    ----------
    rows_of
        The transform at some rows; columns (of kx) from the first, those that are left out are zero.
    kept
        Edge of the transform's layout.
    like
        A tensor of the device and precision.
    n, padding
        As in :func:`finish_volume`.
    """
    edge, half = padded_edge(n, padding), kept // 2 + 1
    planes = like.new_zeros(n, kept, half, dtype=like.dtype.to_complex())
    for rows in slabs(kept, edge * half):
        part = rows_of(rows)
        if part.shape[-1]:
            along_z = torch.fft.ifft(crop_axis(part, -3, edge), dim=-3)
            planes[:, rows, : part.shape[-1]] = central_part(along_z, -3, n)
    envelope = gridding_envelope(n, padding, like.device).to(like.dtype.to_real())
    result = like.new_empty(n, n, n, dtype=like.dtype.to_real())
    for slab in slabs(n, edge * edge):
        part = central_part(torch.fft.ifft(crop_axis(planes[slab], -2, edge), dim=-2), -2, n)
        part = central_part(torch.fft.irfft(crop_half_axis(part, kept, edge), n=edge), -1, n)
        result[slab] = part / (envelope[slab, None, None] * envelope[:, None] * envelope)
    return result


def check_reach(volume_ft: Tensor, pixels: PixelList, padding: float) -> None:
    """Raise an error if slices would reach beyond the volume's layout."""
    edge = volume_ft.shape[0]
    if tuple(volume_ft.shape) != (edge, edge, edge // 2 + 1) or edge % 2:
        raise HalfmapError(f"a volume of shape {tuple(volume_ft.shape)} is not the half layout of an even edge")
    reach = pixels.reach_px * padding
    if reach + 1.0 >= edge / 2:
        raise HalfmapError(
            f"slices to radius {reach:.1f} do not fit a transform of edge {edge}; it ends at {edge // 2}"
        )


def _positions(rot: Tensor, pixels: PixelList, padding: float) -> tuple[Tensor, Tensor]:
    """Positions ``[n, pixels, 3]`` (x, y, z) with ``x >= 0``, and where they were mirrored to get there."""
    k = torch.stack((pixels.kx, pixels.ky), dim=-1).to(rot) * padding
    position = k @ rot[:, :2, :]
    mirrored = position[..., 0] < 0
    return torch.where(mirrored[..., None], -position, position), mirrored


def _corners(position: Tensor, edge: int) -> list[tuple[Tensor, Tensor]]:
    """Flat index and weight of the eight voxels around each position."""
    low = torch.floor(position)
    fraction = position - low
    x, y, z = low.long().unbind(-1)
    fx, fy, fz = fraction.unbind(-1)
    half = edge // 2 + 1
    corners = []
    for dz in (0, 1):
        for dy in (0, 1):
            row = ((z + dz) % edge * edge + (y + dy) % edge) * half
            weight = (fz if dz else 1 - fz) * (fy if dy else 1 - fy)
            corners += [(row + x, weight * (1 - fx)), (row + x + 1, weight * fx)]
    return corners


def extract_pixels(
    volume_ft: Complex[Tensor, "edge edge half"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    pixels: PixelList,
    padding: float = 2.0,
) -> Complex[Tensor, "n pixels"]:
    """Slices at the pixels of a list, in the precision of the volume.

    Parameters
    ----------
    volume_ft
        From :func:`prepare_volume`.
    rot_img_from_map
        One rotation a slice.
    pixels
        Where the slices are wanted.
    padding
        Fourier pixels of the volume per Fourier pixel of the image: the padding, times the ratio of the
        boxes' lengths in Å where volume and image do not have the same box.

    Raises
    ------
    HalfmapError
        If the list reaches beyond the volume's transform.
    """
    check_reach(volume_ft, pixels, padding)
    flat = volume_ft.reshape(-1)
    rot = rot_img_from_map.to(volume_ft.device, volume_ft.real.dtype)
    parts = []
    step = max(1, _CHUNK_ELEMENTS // max(len(pixels), 1))
    for start in range(0, len(rot), step):
        position, mirrored = _positions(rot[start : start + step], pixels, padding)
        total = flat.new_zeros(())
        for index, weight in _corners(position, volume_ft.shape[0]):
            total = total + flat[index] * weight
        parts.append(torch.where(mirrored, total.conj(), total))
    return torch.cat(parts) if parts else flat.new_zeros((0, len(pixels)))


def insert_pixels(
    values: Complex[Tensor, "n pixels"],
    weights: Float[Tensor, "n pixels"],
    rot_img_from_map: Float[Tensor, "n 3 3"],
    pixels: PixelList,
    numerator: Complex[Tensor, "edge edge half"],
    denominator: Float[Tensor, "edge edge half"],
    padding: float = 2.0,
) -> None:
    """Add slices to ``numerator`` and their weights to ``denominator``, in place: the adjoint of extraction.

    Parameters
    ----------
    values
        What is added to the numerator at each pixel and its Friedel mate, e.g. ``CTF · image / σ²``.
    weights
        What is added to the denominator there, e.g. ``CTF² / σ²``.
    rot_img_from_map
        One rotation a slice.
    pixels
        Where the values lie.
    numerator, denominator
        Accumulators from :func:`empty_volume_ft`.
    padding
        As in :func:`extract_pixels`.

    Raises
    ------
    HalfmapError
        If the list reaches beyond the accumulators.
    """
    check_reach(numerator, pixels, padding)
    rot = rot_img_from_map.to(numerator.device, numerator.real.dtype)
    share = pixels.multiplicity.to(weights) / 2.0
    step = max(1, _CHUNK_ELEMENTS // max(len(pixels), 1))
    with MirroredPlane(numerator), MirroredPlane(denominator):
        for start in range(0, len(rot), step):
            position, mirrored = _positions(rot[start : start + step], pixels, padding)
            weight = weights[start : start + step] * share
            value = values[start : start + step] * share
            value = torch.where(mirrored, value.conj(), value)
            for index, part in _corners(position, numerator.shape[0]):
                add_at(numerator.view(-1), index.reshape(-1), (value * part).reshape(-1))
                add_at(denominator.view(-1), index.reshape(-1), (weight * part).reshape(-1))


class MirroredPlane:
    """While it lasts, one mate of each Friedel pair is added to a half layout; at its end the other is, too.

    Mates lie in the half layout both only on the plane ``x = 0``. What was added to that plane meanwhile
    is added once more at the opposite place, conjugated. (The origin is its own mate: add half of it.)
    """

    def __init__(self, volume_ft: Tensor) -> None:
        self.plane = volume_ft[..., 0]

    def __enter__(self) -> None:
        self.before = self.plane.clone()
        self.plane.zero_()

    def __exit__(self, *error: object) -> None:
        opposite = torch.roll(self.plane.flip((0, 1)), (1, 1), (0, 1)).conj()
        self.plane.add_(opposite).add_(self.before)
