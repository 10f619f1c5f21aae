"""A soft mask around the particle, with a threshold that is decided from the map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.fourier.windows import cosine_edge, low_pass
from halfmap.typing import Array, FloatArray
from halfmap.validation.options import MaskOptions

_BETWEEN = 0.5
"""Where the threshold lies between solvent and Otsu's value, which itself lies halfway up to the protein."""
_SOLVENT_DEVIATIONS = 4.0
_KEPT_PART = 0.1
"""Pieces with at least this share of the largest piece's volume are kept."""
_HISTOGRAM_BINS = 512


@dataclass(frozen=True, eq=False)
class MaskResult:
    """A soft mask, and how it came about.

    Attributes
    ----------
    mask
        Values 0 to 1, ``[z, y, x]``.
    threshold
        Of the low-passed map.
    threshold_source
        ``otsu``, ``solvent noise`` or ``given``: what decided it.
    pieces
        Connected pieces that were kept.
    volume_frac
        Share of the box above the threshold, before the extension.
    """

    mask: Float[Tensor, "z y x"]
    threshold: float
    threshold_source: str
    pieces: int
    volume_frac: float


def make_mask(volume: Float[Tensor, "z y x"], pixel_size_A: float, options: MaskOptions) -> MaskResult:
    """Make a soft mask around the particle of a map.

    The map is low-passed and cut at a threshold; the largest connected piece, and others of at least
    a tenth of its size, are kept, extended, and given an edge that falls off as a raised cosine.

    Raises
    ------
    HalfmapError
        If nothing, or all of the map, lies above the threshold.
    """
    smooth = low_passed(volume, pixel_size_A, options.mask_low_pass_A)
    values = smooth.cpu().numpy()
    inside_sphere = (real_space_radius_px(tuple(volume.shape)) < volume.shape[0] / 2 - 1).numpy()
    if options.mask_threshold is not None:
        threshold, source = options.mask_threshold, "given"
    else:
        threshold, source = decided_threshold(values[inside_sphere])
    solid = (values > threshold) & inside_sphere
    if not solid.any() or solid[inside_sphere].all():
        share = "nothing" if not solid.any() else "all"
        raise HalfmapError(
            f"{share} of the low-passed map lies above the mask's threshold {threshold:.3g} "
            f"(values {values.min():.3g} to {values.max():.3g})",
            remedy="Give a mask, or --mask-threshold between these values.",
            code="no-mask",
        )
    solid, pieces = _largest_pieces(solid)
    extend_px = _width_px(options.mask_extend_A, 6.0, 3.0, pixel_size_A)
    soft_px = _width_px(options.mask_soft_edge_A, 10.0, 6.0, pixel_size_A)
    mask = torch.from_numpy(soft_edged(solid, extend_px, soft_px)).to(volume.device)
    return MaskResult(mask, threshold, source, pieces, float(solid.mean()))


def low_passed(volume: Float[Tensor, "z y x"], pixel_size_A: float, resolution_A: float) -> Float[Tensor, "z y x"]:
    """Low-pass filter with a raised-cosine edge of two shells about ``resolution_A``."""
    n = volume.shape[0]
    radius = radius_px((n, n, n), volume.device)
    shell = n * pixel_size_A / resolution_A
    filtered: Tensor = torch.fft.irfftn(torch.fft.rfftn(volume) * low_pass(radius, shell), s=(n, n, n))
    return filtered


def decided_threshold(values: FloatArray) -> tuple[float, str]:
    """Threshold between solvent and particle, and what decided it (``otsu`` or ``solvent noise``).

    Otsu's (1979) value splits the histogram of the low-passed map into two classes and lies about half
    way up from solvent to protein. Flexible parts are weaker than the rest, so the threshold is halfway
    between the solvent's median and that value, but at least four (robust) standard deviations of the
    solvent above it.
    """
    otsu = _otsu(values)
    solvent = values[values <= otsu]
    level = float(np.median(solvent))
    deviation = 1.4826 * float(np.median(np.abs(solvent - level)))
    between, above_noise = level + _BETWEEN * (otsu - level), level + _SOLVENT_DEVIATIONS * deviation
    return (between, "otsu") if between >= above_noise else (above_noise, "solvent noise")


def _otsu(values: FloatArray) -> float:
    """Value that splits a histogram into two classes with the largest variance between them."""
    counts, edges = np.histogram(values, bins=_HISTOGRAM_BINS)
    centres = (edges[:-1] + edges[1:]) / 2.0
    below, total = np.cumsum(counts), np.cumsum(counts * centres)
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        difference = total / below - (total[-1] - total) / above
        between = np.where((below > 0) & (above > 0), below * above * difference**2, 0.0)
    # In an empty gap between the classes all values are as good; its middle is the natural one.
    best = np.flatnonzero(between >= between.max() * (1.0 - 1e-9))
    return float(edges[1 + int(best[len(best) // 2])])


def _largest_pieces(solid: Array) -> tuple[Array, int]:
    from scipy import ndimage

    labels, count = ndimage.label(solid)
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= max(1.0, _KEPT_PART * sizes.max()))
    return np.isin(labels, kept), len(kept)


def _width_px(given_A: float | None, least_A: float, least_px: float, pixel_size_A: float) -> float:
    return max(least_A / pixel_size_A, least_px) if given_A is None else given_A / pixel_size_A


def soft_edged(solid: Array, extend_px: float, soft_px: float) -> FloatArray:
    """1 within ``extend_px`` of the solid, then a raised cosine to 0 over ``soft_px`` (float32)."""
    from scipy import ndimage

    distance = ndimage.distance_transform_edt(~solid)
    if soft_px <= 0:
        return np.asarray(distance <= extend_px, dtype=np.float32)
    return np.asarray(cosine_edge(torch.from_numpy((distance - extend_px) / soft_px)), dtype=np.float32)
