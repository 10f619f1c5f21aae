"""Transforms of centred images: the origin ``n // 2`` is moved to index 0 before, and back after."""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float
from torch import Tensor


def centred_rfft2(images: Float[Tensor, "*batch y x"]) -> Complex[Tensor, "*batch y x_half"]:
    """Transform of images whose origin is pixel ``n // 2``; an even function has a real transform."""
    result: Tensor = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
    return result


def centred_irfft2(images_ft: Complex[Tensor, "*batch y x_half"], n_x: int) -> Float[Tensor, "*batch y x"]:
    """Images of width ``n_x`` from their centred transform."""
    shape = (images_ft.shape[-2], n_x)
    result: Tensor = torch.fft.fftshift(torch.fft.irfft2(images_ft, s=shape), dim=(-2, -1))
    return result


def centred_rfftn(volumes: Float[Tensor, "*batch z y x"]) -> Complex[Tensor, "*batch z y x_half"]:
    """Transform of volumes whose origin is voxel ``n // 2``."""
    result: Tensor = torch.fft.rfftn(torch.fft.ifftshift(volumes, dim=(-3, -2, -1)), dim=(-3, -2, -1))
    return result


def centred_irfftn(volumes_ft: Complex[Tensor, "*batch z y x_half"], n_x: int) -> Float[Tensor, "*batch z y x"]:
    """Volumes of width ``n_x`` from their centred transform."""
    shape = (volumes_ft.shape[-3], volumes_ft.shape[-2], n_x)
    volumes = torch.fft.irfftn(volumes_ft, s=shape, dim=(-3, -2, -1))
    result: Tensor = torch.fft.fftshift(volumes, dim=(-3, -2, -1))
    return result
