"""Images as the model has them: projections of a map at the particles' poses, seen through their CTF."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.data.records import ImageSet
from halfmap.fourier.pixels import PixelList, pixel_list
from halfmap.fourier.slices import prepare_volume
from halfmap.fourier.slicing import extract_pixels
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.files import whole_file
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import ctf_at
from halfmap.refine.rings.transform import shift_phases
from halfmap.refine.volume.reconstruct import PADDING
from halfmap.typing import Array


@contextmanager
def slices_file(volume: Float[Tensor, "z y x"], file: Path) -> Iterator[Path]:
    """While it lasts, a file holds the map as slices are taken from it; worker processes share it in memory."""
    try:
        with whole_file(file) as part, part.open("wb") as stream:
            reach_px = float((volume.shape[0] - 1) // 2) + 1
            np.save(stream, prepare_volume(volume, reach_px, PADDING).numpy())
        yield file
    finally:
        file.unlink(missing_ok=True)


@lru_cache(maxsize=2)
def _slices(file: Path, changed_ns: int, device: str) -> Complex[Tensor, "edge edge half"]:
    # Copy on write: nothing is written, so all processes read the same pages.
    return torch.from_numpy(np.load(file, mmap_mode="c")).to(device)


class ModelImages:
    """Projections of a map for images of one box, as Fourier pixels without the mean.

    Of the mean of an image neither the data (their background is brought to zero) nor the map (solvent has no
    level) say anything; it is left as it is.

    Parameters
    ----------
    slices
        From :func:`slices_file`.
    grid
        Sampling of the map.
    box_px, pixel_size_A
        Of the images; they may differ from those of the map.
    device
        Where tensors live.

    Attributes
    ----------
    pixels
        All pixels that both the images and the map have.
    """

    def __init__(self, slices: Path, grid: MapGrid, box_px: int, pixel_size_A: float, device: str = "cpu") -> None:
        self._slices = _slices(slices, slices.stat().st_mtime_ns, device)
        self.length_A = box_px * pixel_size_A
        self._per_pixel = grid.length_A / self.length_A
        self._grey = (grid.pixel_size_A / pixel_size_A) ** 2
        reach_px = min(float((box_px - 1) // 2), grid.nyquist_px / self._per_pixel)
        self.pixels: PixelList = pixel_list(box_px, reach_px, device)

    def map_shells(self) -> Int[Tensor, " p"]:
        """Radii of the pixels in the nearest shells of the map."""
        return (torch.hypot(self.pixels.kx.double(), self.pixels.ky.double()) * self._per_pixel).round().long()

    def __call__(self, images: ImageSet, rows: Array) -> Complex[Tensor, "n p"]:
        """Transforms (centred ``rfft2``) at the pixels for some particles at their poses and shifts."""
        pixels = self.pixels
        pose = (images[name][rows] for name in ("rot_rad", "tilt_rad", "psi_rad"))
        shift = np.stack([images.rows.get(name, 0.0)[rows] for name in ("shift_x_A", "shift_y_A")], axis=1)
        slices = extract_pixels(
            self._slices, matrix_from_euler(*pose).to(pixels.kx.device), pixels, PADDING * self._per_pixel
        )
        phases = shift_phases(pixels.kx, pixels.ky, torch.as_tensor(shift, device=pixels.kx.device), self.length_A)
        ctf = ctf_at(images, rows, pixels.kx.float() / self.length_A, pixels.ky.float() / self.length_A)
        transform = slices * phases.conj() * (ctf * self._grey)
        transform[:, pixels.index == 0] = 0.0
        return transform
