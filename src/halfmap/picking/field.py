"""A micrograph made ready for matching: small, square, flat, in units of its local spread."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.crop import resample_2d
from halfmap.fourier.grid import radius_px
from halfmap.fourier.shells import shell_index_2d, shell_mean, spread
from halfmap.fourier.windows import even_fast_size
from halfmap.typing import FloatArray

PIXELS_PER_DIAMETER = 20.0
COARSEST_PIXEL_A = 8.0
OUTLIER_SPREADS = 5.0
POWER_FLOOR = 0.01
"""Frequencies that the detector or a filter removed must not be amplified: least share of the peak power."""


@dataclass(frozen=True, eq=False)
class Field:
    """A square image that holds a micrograph within a mirrored margin.

    Pixel (y, x) of ``image`` is pixel ``(y · scale − margin_px, x · scale − margin_px)`` of the
    micrograph of ``shape``.
    """

    image: Float[Tensor, "n n"]
    pixel_size_A: float
    scale: float
    margin_px: int
    shape: tuple[int, int]

    def resampled(self, pixel_size_A: float) -> Field:
        """The same field on pixels of about this size; never finer than it is."""
        n_in = self.image.shape[-1]
        n_out = even_fast_size(math.ceil(n_in * self.pixel_size_A / pixel_size_A))
        if n_out >= n_in:
            return self
        ratio = n_in / n_out
        return replace(
            self, image=resample_2d(self.image, n_out), pixel_size_A=self.pixel_size_A * ratio, scale=self.scale * ratio
        )

    def inside(self, image: Float[Tensor, "n n"]) -> Float[Tensor, "y x"]:
        """Part of an image on this grid that lies in the micrograph."""
        top = math.ceil(self.margin_px / self.scale)
        rows = 1 + math.floor((self.margin_px + self.shape[0] - 1) / self.scale) - top
        columns = 1 + math.floor((self.margin_px + self.shape[1] - 1) / self.scale) - top
        return image[top : top + rows, top : top + columns]

    def origin(self) -> int:
        """Row and column of this grid at which :meth:`inside` begins."""
        return math.ceil(self.margin_px / self.scale)


def picking_pixel_size_A(diameter_A: float) -> float:
    """Pixel on which particles of a diameter are matched."""
    return min(diameter_A / PIXELS_PER_DIAMETER, COARSEST_PIXEL_A)


def field_of(micrograph: FloatArray, pixel_size_A: float, margin_A: float, device: torch.device | str) -> Field:
    """Put a micrograph into a mirrored margin, centred and with outliers (spikes, dead pixels) clipped."""
    values = np.asarray(micrograph, dtype=np.float32)
    centre = np.median(values)
    sd = 1.4826 * np.median(np.abs(values - centre))
    if not sd > 0:
        sd = values.std() or 1.0
    values = np.clip((values - centre) / sd, -OUTLIER_SPREADS, OUTLIER_SPREADS)
    margin = math.ceil(margin_A / pixel_size_A)
    n = even_fast_size(max(values.shape) + 2 * margin)
    widths = [(margin, n - size - margin) for size in values.shape]
    padded = torch.from_numpy(np.pad(values, widths, mode="symmetric").astype(np.float32)).to(device)
    return Field(padded, pixel_size_A, 1.0, margin, (values.shape[0], values.shape[1]))


def smooth(image: Float[Tensor, "n n"], sigma_px: float) -> Float[Tensor, "n n"]:
    """Convolve with a Gaussian, periodically (fields have a margin)."""
    n = image.shape[-1]
    frequency = radius_px((n, n), image.device) / n
    transfer = torch.exp(-2.0 * (math.pi * sigma_px * frequency).square())
    result: Tensor = torch.fft.irfft2(torch.fft.rfft2(image) * transfer, s=(n, n))
    return result


def flattened(field: Field, diameter_A: float) -> Field:
    """Remove what varies slowly over a particle's diameter, and divide by the local spread."""
    diameter_px = diameter_A / field.pixel_size_A
    image = field.image - smooth(field.image, diameter_px)
    variance = smooth(image.square(), 1.5 * diameter_px)
    floor = 1e-3 * float(variance.mean()) + 1e-12
    return replace(field, image=image / variance.clamp_min(floor).sqrt())


def radial_power(image: Float[Tensor, "n n"]) -> Float[Tensor, "n half"]:
    """Power spectrum of the image averaged over rings, bounded from below."""
    n = image.shape[-1]
    shell = shell_index_2d(n, image.device)
    power = torch.fft.rfft2(image).abs().square() / (n * n)
    profile = shell_mean(power, shell).double()
    width = 5
    padded = torch.nn.functional.pad(profile[None, None], (width // 2, width // 2), mode="replicate")
    profile = torch.nn.functional.avg_pool1d(padded, width, stride=1)[0, 0]
    profile = profile.clamp_min(POWER_FLOOR * float(profile.max())).float()
    return spread(profile, shell, beyond=float(profile[-1]))


def signal_free(field: Field, name: str, copy: int, seed: int) -> Field:
    """A field of the same power spectrum with random phases: what noise alone would look like.

    The phases depend on the micrograph's name, the number of the copy and the seed alone.
    """
    digest = hashlib.sha256(f"{seed}:{name}:{copy}".encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    n = field.image.shape[-1]
    white = torch.from_numpy(generator.standard_normal((n, n), dtype=np.float32)).to(field.image.device)
    direction = torch.fft.rfft2(white)
    direction = direction / direction.abs().clamp_min(1e-12)
    image = torch.fft.irfft2(torch.fft.rfft2(field.image).abs() * direction, s=(n, n))
    return replace(field, image=image)
