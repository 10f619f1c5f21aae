"""Shifts of images as phases."""

from __future__ import annotations

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.grid import frequencies_2d


def shift_phases(shape: tuple[int, int], shift_px: Float[Tensor, "*batch 2"]) -> Complex[Tensor, "*batch y x_half"]:
    """Factors ``exp(−2πi k · shift)`` that move the content of an image by ``shift_px`` = (x, y) (complex64).

    An even Nyquist frequency has no sign, and what a shift does to a real image there is its real
    part, a cosine.
    """
    fx, fy = frequencies_2d(shape, device=shift_px.device)
    angle_x = -2.0 * math.pi * fx[0].double() * shift_px[..., :1].double()
    angle_y = -2.0 * math.pi * fy[:, 0].double() * shift_px[..., 1:].double()
    phase_x = torch.polar(torch.ones_like(angle_x), angle_x)
    phase_y = torch.polar(torch.ones_like(angle_y), angle_y)
    if shape[1] % 2 == 0:
        phase_x[..., -1] = phase_x[..., -1].real.to(phase_x.dtype)
    if shape[0] % 2 == 0:
        phase_y[..., shape[0] // 2] = phase_y[..., shape[0] // 2].real.to(phase_y.dtype)
    return phase_y.to(torch.complex64)[..., :, None] * phase_x.to(torch.complex64)[..., None, :]


def shifted_volume(volume: Float[Tensor, "z y x"], shift_px: Float[Tensor, " 3"]) -> Float[Tensor, "z y x"]:
    """The content of a volume moved by (x, y, z) in pixels, what leaves the box coming in on the other side."""
    nz, ny, nx = volume.shape
    transform = torch.fft.rfftn(volume)
    axes = (torch.fft.fftfreq(nz), torch.fft.fftfreq(ny), torch.fft.rfftfreq(nx))
    for axis, (frequency, shift) in enumerate(zip(axes, reversed(shift_px.tolist()), strict=True)):
        angle = -2.0 * math.pi * frequency.double() * shift
        phase = torch.polar(torch.ones_like(angle), angle).to(transform)
        transform = transform * phase.reshape([-1 if dim == axis else 1 for dim in range(3)])
    moved: Tensor = torch.fft.irfftn(transform, s=(nz, ny, nx))
    return moved


def shift_images(
    images_ft: Complex[Tensor, "*batch y x_half"], shift_px: Float[Tensor, "*batch 2"]
) -> Complex[Tensor, "*batch y x_half"]:
    """Move the content of images by ``shift_px`` = (x, y) in pixels, given and returned as transforms.

    The images' width is taken as even if their height is (images are square). A particle that
    lies at +3 px is centred by a shift of −3 px: the columns ``shift_x_A, shift_y_A`` over the pixel size.
    """
    n = images_ft.shape[-2]
    return images_ft * shift_phases((n, n), shift_px).to(images_ft.dtype)
