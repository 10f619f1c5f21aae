"""Change the sampling of images and volumes, or the size of their box."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.transform import centred_irfft2, centred_irfftn, centred_rfft2, centred_rfftn
from halfmap.typing import Array


def crop_rfft2(
    images_ft: Complex[Tensor, "*batch y_in x_half_in"], n_in: int, n_out: int
) -> Complex[Tensor, "*batch y_out x_half_out"]:
    """Keep (or pad with zeros to) the frequencies that square images of ``n_out`` pixels have.

    Nothing is scaled: ``irfft2`` of the result has grey values that are larger by ``(n_in / n_out)²``.
    The Nyquist frequency of the smaller of two sizes, where that is even, stands for both signs of
    itself: it is shared between them when padding and their sum when cropping, so that the result is
    always the transform of a real image, and cropping undoes padding.
    """
    return _crop_half_layout(images_ft, n_in, n_out, spatial=2)


def crop_rfftn(
    volumes_ft: Complex[Tensor, "*batch z_in y_in x_half_in"], n_in: int, n_out: int
) -> Complex[Tensor, "*batch z_out y_out x_half_out"]:
    """:func:`crop_rfft2` for cubic volumes."""
    return _crop_half_layout(volumes_ft, n_in, n_out, spatial=3)


def _crop_half_layout(transform: Tensor, n_in: int, n_out: int, spatial: int) -> Tensor:
    if transform.shape[-1] != n_in // 2 + 1 or any(n != n_in for n in transform.shape[-spatial:-1]):
        raise HalfmapError(f"a transform of shape {tuple(transform.shape)} is not that of edge {n_in}")
    if n_in == n_out:
        return transform
    for dim in range(-spatial, -1):
        transform = crop_axis(transform, dim, n_out)
    return crop_half_axis(transform, n_in, n_out, tuple(range(-spatial, -1)))


def crop_axis(transform: Tensor, dim: int, n_out: int) -> Tensor:
    """Crop or pad an axis of both signs; its even Nyquist frequency stands for both signs of itself."""
    n_in = transform.shape[dim]
    if n_in == n_out:
        return transform
    n_kept = min(n_in, n_out)
    head = transform.narrow(dim, 0, (n_kept + 1) // 2)
    tail = transform.narrow(dim, n_in - n_kept // 2, n_kept // 2)
    shape = list(transform.shape)
    shape[dim] = n_out - n_kept
    if n_kept % 2 == 1:
        return torch.cat((head, transform.new_zeros(shape), tail), dim=dim)
    nyquist, rest = tail.narrow(dim, 0, 1), tail.narrow(dim, 1, n_kept // 2 - 1)
    if n_out < n_in:
        return torch.cat((head, nyquist + transform.narrow(dim, n_kept // 2, 1), rest), dim=dim)
    shape[dim] -= 1
    return torch.cat((head, nyquist / 2.0, transform.new_zeros(shape), nyquist / 2.0, rest), dim=dim)


def crop_half_axis(transform: Tensor, n_in: int, n_out: int, others: tuple[int, ...] = ()) -> Tensor:
    """Crop or pad the half axis, whose even Nyquist column stands for both signs of itself.

    ``others`` are the axes that were transformed as well: frequencies of opposite signs are mates across them.
    """
    if n_in == n_out:
        return transform
    kept = min(n_in, n_out) // 2
    result = torch.nn.functional.pad(transform[..., : kept + 1], (0, n_out // 2 - kept))
    if n_out > n_in and n_in % 2 == 0:
        result[..., kept] /= 2.0
    elif n_out < n_in and n_out % 2 == 0:
        column = result[..., -1:]
        mates = torch.roll(column.flip(others), (1,) * len(others), others) if others else column
        result = torch.cat((result[..., :-1], column + mates.conj()), dim=-1)
    return result


def resample_2d(images: Float[Tensor, "*batch y_in x_in"], n_out: int) -> Float[Tensor, "*batch y_out x_out"]:
    """Resample square images to ``n_out`` pixels by Fourier cropping or padding; grey values are kept."""
    n_in = images.shape[-1]
    return centred_irfft2(crop_rfft2(centred_rfft2(images), n_in, n_out), n_out) * (n_out / n_in) ** 2


def resample_3d(
    volume: Float[Tensor, "*batch z_in y_in x_in"], n_out: int
) -> Float[Tensor, "*batch z_out y_out x_out"]:
    """Resample cubic volumes to ``n_out`` voxels by Fourier cropping or padding; grey values are kept."""
    n_in = volume.shape[-1]
    return centred_irfftn(crop_rfftn(centred_rfftn(volume), n_in, n_out), n_out) * (n_out / n_in) ** 3


def _resized_box(images: Tensor, n_out: int, dimensions: int) -> Tensor:
    """Cut, or pad with zeros, the last ``dimensions`` axes to ``n_out`` about the origin ``n // 2``."""
    for axis in range(-dimensions, 0):
        n_in = images.shape[axis]
        before = n_out // 2 - n_in // 2
        if before < 0 or n_out < n_in:
            images = images.narrow(axis, max(-before, 0), min(n_out, n_in))
        if before > 0 or n_out > n_in:
            widths = [0, 0] * (-axis - 1) + [max(before, 0), max(n_out - n_in - before, 0)]
            images = torch.nn.functional.pad(images, widths)
    return images


def padded_axis(values: Tensor, dim: int, n_out: int) -> Tensor:
    """Zeros put in behind the values of an axis, its origin ``n // 2`` moved to index 0: fit for a transform."""
    n_in = values.shape[dim]
    shape = list(values.shape)
    shape[dim] = n_out - n_in
    below, above = values.narrow(dim, 0, n_in // 2), values.narrow(dim, n_in // 2, n_in - n_in // 2)
    return torch.cat((above, values.new_zeros(shape), below), dim=dim)


def central_part(values: Tensor, dim: int, n_out: int) -> Tensor:
    """``n_out`` values about the origin at index 0, which moves to ``n_out // 2``: undoes :func:`padded_axis`."""
    below = values.narrow(dim, values.shape[dim] - n_out // 2, n_out // 2)
    return torch.cat((below, values.narrow(dim, 0, n_out - n_out // 2)), dim=dim)


def pad_2d(images: Float[Tensor, "*batch y_in x_in"], n_out: int) -> Float[Tensor, "*batch y_out x_out"]:
    """Cut, or pad with zeros, images to a square box of ``n_out`` pixels about their origin."""
    return _resized_box(images, n_out, 2)


def pad_3d(volume: Float[Tensor, "*batch z_in y_in x_in"], n_out: int) -> Float[Tensor, "*batch z_out y_out x_out"]:
    """Cut, or pad with zeros, volumes to a cubic box of ``n_out`` voxels about their origin."""
    return _resized_box(volume, n_out, 3)


def mirrored_index(index: Array, size: int) -> Array:
    """Indices brought into ``[0, size)`` by reflection at the edges.

    >>> mirrored_index(np.array([-2, -1, 0, 4, 5]), 5).tolist()
    [1, 0, 0, 4, 4]
    """
    period = np.mod(index, 2 * size)
    return np.where(period < size, period, 2 * size - 1 - period)
