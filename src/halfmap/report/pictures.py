"""Pictures made of pixels: micrographs with picks, spectra, class averages, slices through maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from halfmap.report.plots import new_figure, png
from halfmap.typing import Array

SHOWN_PX = 640
"""Micrographs are shown at about this size."""


def shrunk(image: Array, target_px: int = SHOWN_PX) -> tuple[Array, int]:
    """Average blocks of pixels so that the longer edge is about ``target_px``; returns image and factor."""
    factor = max(1, round(max(image.shape) / target_px))
    rows, columns = (size // factor for size in image.shape)
    blocks = np.asarray(image[: rows * factor, : columns * factor], dtype=np.float64)
    return blocks.reshape(rows, factor, columns, factor).mean(axis=(1, 3)), factor


def grey_limits(image: Array) -> tuple[float, float]:
    """Grey levels that show the bulk of an image: all but a percent on each side, and not far beyond its spread.

    An ice crystal on a micrograph then does not turn the particles into one grey.
    """
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return 0.0, 1.0
    low, quarter, middle, three_quarters, high = np.percentile(finite, [1, 25, 50, 75, 99])
    reach = 2.5 * (three_quarters - quarter)
    if reach > 0:
        low, high = max(low, middle - reach), min(high, middle + reach)
    return float(low), float(high if high > low else low + 1)


def show(axis: Any, image: Array, title: str = "", limits: tuple[float, float] | None = None) -> None:
    """Draw an image with row 0 on top and no axes."""
    low, high = limits or grey_limits(image)
    axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axis.set_axis_off()
    if title:
        axis.set_title(title, fontsize=8)


def micrograph_picture(
    image: Array, x_px: Array, y_px: Array, diameter_px: float, title: str = "", smooth_px: float = 1.2
) -> bytes:
    """A micrograph with circles around the picks.

    Parameters
    ----------
    image
        Shape [y, x].
    x_px, y_px
        Positions in pixels of the image as given, shape [n].
    diameter_px
        Diameter of the circles in the same pixels.
    title
        Written above.
    smooth_px
        Gaussian blur of the shrunken picture, to see particles through the noise.
    """
    from matplotlib.collections import EllipseCollection
    from scipy.ndimage import gaussian_filter

    small, factor = shrunk(image)
    small = gaussian_filter(small, smooth_px)
    figure, axis = new_figure(7.0, 7.0 * small.shape[0] / small.shape[1])
    show(axis, small, title)
    centres = (np.stack([x_px, y_px], axis=1) + 0.5) / factor - 0.5
    if len(centres):
        size = np.full(len(centres), diameter_px / factor)
        circles = EllipseCollection(
            size, size, np.zeros(len(size)), units="xy", offsets=centres, offset_transform=axis.transData,
            facecolors="none", edgecolors="#33b5ff", linewidths=0.9,
        )  # fmt: skip
        axis.add_collection(circles)
    return png(figure)


def spectrum_picture(image: Array, title: str = "") -> bytes:
    """A power spectrum beside its fit, as the CTF step draws it."""
    small, _ = shrunk(image, 420)
    figure, axis = new_figure(3.8, 3.9)
    show(axis, small, title)
    return png(figure)


def montage_picture(images: Sequence[Array], titles: Sequence[str], columns: int = 10) -> bytes:
    """Images of one size in rows, each on its own grey scale; row-major."""
    columns = min(columns, max(1, len(images)))
    rows = -(-len(images) // columns)
    figure, axes = new_figure(1.08 * columns, 1.24 * rows, rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        show(axis, np.asarray(image), title, (float(np.min(image)), float(np.max(image)) or 1.0))
        axis.title.set_fontsize(6.5)
    return png(figure, 130)


def slices_picture(volume: Array, title: str = "", count: int = 7) -> bytes:
    """Central slices along x, y, z above slices through the object along z, on one grey scale.

    The empty rim of the box is left out.
    """
    size = volume.shape[0]
    middle = size // 2
    reach = object_reach(volume)
    shown = slice(max(0, middle - reach), min(size, middle + reach + 1))
    inner = np.asarray(volume)[shown, shown, shown]
    limits = float(np.percentile(inner, 5)), float(np.percentile(inner, 99.7))
    centre = middle - shown.start
    along = np.unique(np.linspace(0.08 * len(inner), 0.92 * len(inner) - 1, count).astype(int))
    figure, axes = new_figure(1.6 * count, 3.9, 2, count)
    for axis in axes.flat:
        axis.set_axis_off()
    central = {"z slice": inner[centre], "y slice": inner[:, centre], "x slice": inner[:, :, centre]}
    for axis, (name, image) in zip(axes[0], central.items(), strict=False):
        show(axis, image, name, limits)
    for axis, (direction, name) in zip(axes[0, 3:], enumerate(("z", "y", "x")), strict=False):
        show(axis, inner.sum(axis=direction), f"projection along {name}")
    for axis, z in zip(axes[1], along, strict=False):
        show(axis, inner[z], f"z = {z - centre:+d} px", limits)
    if title:
        figure.suptitle(title, fontsize=9)
    return png(figure, 130)


def object_reach(volume: Array) -> int:
    """Distance in voxels from the origin up to which a map stands out from what surrounds it.

    Variance in spherical shells around the origin, of blocks of voxels so that noise averages out;
    the object ends where it falls to a twentieth of its largest value above the outermost shells.
    """
    size = volume.shape[0]
    block = max(1, size // 32)
    cut = size // block * block
    blocks = np.asarray(volume, dtype=np.float64)[:cut, :cut, :cut]
    small = blocks.reshape(cut // block, block, cut // block, block, cut // block, block).mean(axis=(1, 3, 5))
    n = small.shape[0]
    axis = (np.arange(n) + 0.5) * block - size // 2
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    shell = np.minimum(radius / block, n // 2).astype(int)
    counts = np.bincount(shell.ravel())
    mean_square = np.bincount(shell.ravel(), np.square(small - np.median(small)).ravel()) / np.maximum(counts, 1)
    above = mean_square - mean_square[-1]
    inside = np.flatnonzero(above > 0.05 * above.max())
    reach = int((inside[-1] + 2) * block) if above.max() > 0 else size
    return int(min(size // 2, reach))
