"""What was seen: particle images as Fourier pixels on the frequencies of one map, with their CTF.

Optics groups may differ in pixel size and box: the transform of every image is taken directly at
the frequencies of the map's box, by two small matrix products, which is exact for any pair of
samplings. Pixels beyond a group's Nyquist frequency hold no information and have a CTF of zero.
Grey values are scaled so that one density gives one transform in every group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float, Int
from torch import Tensor

from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError
from halfmap.fourier.grid import real_space_radius_px
from halfmap.fourier.windows import soft_ball
from halfmap.optics.ctf import ctf_2d
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.images.row_store import RowStore, row_store
from halfmap.refine.images.shell_sums import ShellSums
from halfmap.typing import Array, FloatArray

BATCH = 256
"""Images in one unit of work at most."""
BATCH_VALUES = 1 << 21
"""Pixels of all images in one unit of work, if that is more than one image."""
NOISE_IMAGES = 1024
"""Images of each optics group from which the noise around the particles is measured."""
LEAST_BACKGROUND = 0.1
"""Share of the box that must lie outside the particle for that; the whole image is taken otherwise."""
EDGE_A = 10.0
"""Width of the soft edge of the mask around a particle, where the box leaves room for it."""
CTF_COLUMNS = ("defocus_u_A", "defocus_v_A", "defocus_angle_rad", "voltage_kV", "cs_mm", "amplitude_contrast")


@runtime_checkable
class ImageReader(Protocol):
    """What reads the pixels of particles (``io.images.ParticleImages``)."""

    def read(self, indices: Array) -> Array:
        """Images of these rows, ``[n, y, x]`` float32; the rows share one box size."""


@dataclass(frozen=True, eq=False)
class ObservationBatch:
    """Some particles at the pixels of a lattice.

    Attributes
    ----------
    rows
        Their rows in the image set.
    group
        Position of their optics group in the table of optics.
    ft
        Transforms of the images about the origin pixel, background 0 and standard deviation 1.
    ctf
        CTF, exact for astigmatism; zero beyond the Nyquist frequency of the group.
    """

    rows: Int[Tensor, " n"]
    group: Int[Tensor, " n"]
    ft: Complex[Tensor, "n p"]
    ctf: Float[Tensor, "n p"]

    def __len__(self) -> int:
        return len(self.rows)


@runtime_checkable
class ParticleSource(Protocol):
    """What the passes on rings ask of particles; see ``Observations`` for the meaning of the attributes."""

    grid: MapGrid
    lattice: Lattice
    device: torch.device
    diameter_A: float
    group: Array
    n_groups: int
    usable: Array
    background_sigma2: FloatArray

    def __len__(self) -> int:
        """How many there are."""

    def batch(self, rows: Array, radius_px: int) -> ObservationBatch:
        """Particles of these rows, at the pixels of shells 1 to ``radius_px``."""


class Observations:
    """Particle images on the frequencies of a map.

    Parameters
    ----------
    images
        The particles.
    reader
        Reads their pixels.
    grid
        Sampling of the map.
    diameter_A
        Of the particle: the background is what lies outside this circle.
    mask
        Whether to set what lies outside the circle to zero, with a soft edge outwards.
    memory_GB
        Transforms are kept in memory up to this size, and in a temporary file in ``cache_folder`` beyond it.
    device
        Where batches are delivered.

    Attributes
    ----------
    usable
        Which of the images could be read and hold something, ``[n]``.
    background_sigma2
        Noise power around the particles, ``[groups, shells]``.
    faults
        What is wrong with images that could not be read.
    """

    def __init__(
        self,
        images: ImageSet,
        reader: ImageReader,
        grid: MapGrid,
        diameter_A: float,
        *,
        mask: bool = False,
        memory_GB: float = 2.0,
        cache_folder: Path | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        images.require(CTF_COLUMNS, needed_for="refinement")
        self.images, self.grid, self.diameter_A, self.mask = images, grid, diameter_A, mask
        self.device = torch.device(device)
        self.lattice = Lattice.of(grid.length_A, grid.nyquist_px, self.device)
        self.group = np.asarray(images.optics_index())
        self.n_groups = len(images.optics)
        self._pixel_size_A = np.asarray(images.optics["image_pixel_size_A"], dtype=np.float64)
        self._reader = reader
        self.faults: list[str] = []
        self._transforms, self.usable = self._cached(memory_GB, cache_folder)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def uid(self) -> Array:
        """Permanent numbers of the particles."""
        return self.images["uid"]

    def information_frac(self) -> Float[Tensor, " groups"]:
        """Independent values per Fourier pixel of each group: below 1 where its box is smaller than the map's."""
        share = np.ones(self.n_groups)
        for group in range(self.n_groups):
            box = self._boxes[group]
            if box:
                share[group] = min(1.0, (box * self._pixel_size_A[group] / self.grid.length_A) ** 2)
        return torch.as_tensor(share, dtype=torch.float64)

    def batch(self, rows: Array, radius_px: int) -> ObservationBatch:
        """Particles of these rows, at the pixels of shells 1 to ``radius_px``."""
        count = self.lattice.count_within(radius_px)
        ft = torch.as_tensor(self._transforms.read(rows, count), device=self.device)
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        group = torch.as_tensor(self.group[rows], device=self.device)
        fx, fy = self.lattice.within(radius_px).frequencies_per_A()
        return ObservationBatch(index, group, ft, self.ctf_at(rows, fx, fy))

    def ctf_at(self, rows: Array, fx: Float[Tensor, " p"], fy: Float[Tensor, " p"]) -> Float[Tensor, "n p"]:
        """CTF of particles at frequencies in 1/Å; see :func:`ctf_at`."""
        return ctf_at(self.images, rows, fx, fy)

    def _cached(self, memory_GB: float, folder: Path | None) -> tuple[RowStore, Array]:
        """Transforms of all images, and which of the images could be used."""
        shape = (len(self), len(self.lattice))
        self._boxes = [0] * self.n_groups
        store = row_store(shape, np.complex64, memory_GB, folder)
        usable = np.zeros(len(self), bool)
        noise = ShellSums(self.n_groups, self.lattice.radius_px + 1)
        for group in range(self.n_groups):
            rows, done = np.flatnonzero(self.group == group), 0
            box_px = math.ceil(self.grid.length_A / self._pixel_size_A[group])
            for wanted in batches(rows, box_px**2):
                part, images, faults = read_each(self._reader, wanted)
                self.faults += faults
                start, done = done, done + len(wanted)
                if not len(part):
                    continue
                self._boxes[group] = images.shape[-1]
                ft, fine = self._transform(images.to(self.device), float(self._pixel_size_A[group]))
                store.write(part, ft.cpu().numpy())
                usable[part] = fine.cpu().numpy()
                if start < NOISE_IMAGES:
                    background = self._background(images.to(self.device), float(self._pixel_size_A[group]))
                    of_group = torch.full_like(fine, group, dtype=torch.int64)
                    informed = fine[:, None] & torch.isfinite(background)
                    noise.add(of_group, self.lattice.shell, background, informed)
        self.background_sigma2 = noise.mean().numpy()
        return store, usable

    def _background(self, images: Float[Tensor, "n y x"], pixel_size_A: float) -> Float[Tensor, "n p"]:
        """Power of the pixels outside the particle, for the area of the whole image."""
        normalised, _ = normalise(images, self.diameter_A / pixel_size_A)
        # At a distance: the defocus carries some of the particle's signal over its edge.
        inner_px, edge_px = (self.diameter_A + 2 * EDGE_A) / pixel_size_A, 2 * EDGE_A / pixel_size_A
        outside = 1 - soft_ball(tuple(images.shape[1:]), inner_px, edge_px, images.device)
        share = outside.square().mean()
        if share < LEAST_BACKGROUND:
            outside, share = torch.ones_like(outside), torch.ones_like(share)
        ft = transform_at(normalised * outside, pixel_size_A, self.grid, self.lattice)
        reach = self.grid.length_A / (2 * pixel_size_A)
        return torch.where(self.lattice.shell < reach, ft.abs().square() / share, torch.nan)

    def _transform(
        self, images: Float[Tensor, "n y x"], pixel_size_A: float
    ) -> tuple[Complex[Tensor, "n p"], Bool[Tensor, " n"]]:
        normalised, usable = normalise(images, self.diameter_A / pixel_size_A)
        if self.mask:
            edge_px = EDGE_A / pixel_size_A
            shape = tuple(images.shape[1:])
            normalised = normalised * soft_ball(shape, self.diameter_A / pixel_size_A, edge_px, images.device)
        return transform_at(normalised, pixel_size_A, self.grid, self.lattice), usable


def ctf_at(images: ImageSet, rows: Array, fx: Float[Tensor, " p"], fy: Float[Tensor, " p"]) -> Float[Tensor, "n p"]:
    """CTF of particles at frequencies in 1/Å, on their device: astigmatism, phase shift, envelope and scale.

    Zero beyond the Nyquist frequency of the particle's optics group.
    """

    def column(name: str, default: float | None = None) -> Tensor:
        values = images[name] if default is None else images.rows.get(name, default)
        return torch.as_tensor(np.array(values[rows], dtype=np.float64), device=fx.device)

    parameters = [column(name) for name in CTF_COLUMNS]
    parameters += [column("phase_shift_rad", 0.0), column("ctf_bfactor_A2", 0.0)]
    ctf = ctf_2d(fx[None], fy[None], *parameters)[:, 0]
    ctf = ctf * column("ctf_scale", 1.0).float()[:, None]
    nyquist = (0.5 - 1e-6) / column("image_pixel_size_A")
    return torch.where(torch.hypot(fx, fy) < nyquist[:, None], ctf, 0.0).float()


def read_each(reader: ImageReader, rows: Array) -> tuple[Array, Float[Tensor, "n y x"], list[str]]:
    """Images that can be read, with their rows, and what is wrong with the others."""
    try:
        return rows, torch.as_tensor(reader.read(rows)), []
    except BadInputError:
        good, images, faults = [], [], []
        for row in rows:
            try:
                images.append(reader.read(np.array([row]))[0])
                good.append(row)
            except BadInputError as error:
                faults.append(str(error))
        stacked = np.stack(images) if images else np.zeros((0, 1, 1), np.float32)
        return np.array(good, dtype=np.int64), torch.as_tensor(stacked), faults


def background_levels(
    images: Float[Tensor, "n y x"], diameter_px: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Bool[Tensor, " n"]]:
    """Mean and standard deviation (float64) of each image outside a circle, and whether the image is usable.

    Where the circle leaves less than 5 % of the box, the whole image counts as background. Images that are
    constant there, or not finite, are not usable.
    """
    background = real_space_radius_px(tuple(images.shape[1:]), images.device) > diameter_px / 2
    if background.double().mean() < 0.05:
        background = torch.ones_like(background)
    values = images[:, background].double()
    mean, deviation = values.mean(dim=1), values.std(dim=1)
    usable = torch.isfinite(images).all(dim=(1, 2)) & (deviation > 1e-12 * mean.abs()) & (deviation > 0)
    return mean, deviation, usable


def normalise(images: Float[Tensor, "n y x"], diameter_px: float) -> tuple[Float[Tensor, "n y x"], Bool[Tensor, " n"]]:
    """Bring the background outside a circle to mean 0 and standard deviation 1 (:func:`background_levels`).

    Returns
    -------
    The images, and which of them are usable; images that are constant or not finite become zero.
    """
    mean, deviation, usable = background_levels(images, diameter_px)
    scale = torch.where(usable, 1 / deviation, 0.0)
    centred = torch.where(usable[:, None, None], images - mean[:, None, None].float(), 0.0)
    return (centred * scale[:, None, None].float()), usable


def transform_at(
    images: Float[Tensor, "n y x"], pixel_size_A: float, grid: MapGrid, lattice: Lattice
) -> Complex[Tensor, "n p"]:
    """Transforms of images (origin at pixel ``n // 2``) at the frequencies of a map's box.

    What lies outside the map's box is left out. Scaled by the area of a pixel relative to the map's.
    """
    reach = lattice.radius_px
    along_x = _harmonics(images.shape[2], pixel_size_A, grid, torch.arange(0, reach + 1)).to(images.device)
    along_y = _harmonics(images.shape[1], pixel_size_A, grid, torch.arange(-reach, reach + 1)).to(images.device)
    pairs = torch.cat([along_x.real, along_x.imag], dim=1)
    rows = images.reshape(-1, images.shape[2]) @ pairs
    half = torch.complex(rows[:, : reach + 1].contiguous(), rows[:, reach + 1 :].contiguous())
    plane = along_y.T @ half.reshape(images.shape[0], images.shape[1], reach + 1)
    return plane[:, (lattice.ky_px + reach).long(), lattice.kx_px.long()]


def _harmonics(n: int, pixel_size_A: float, grid: MapGrid, k: Int[Tensor, " k"]) -> Complex[Tensor, "n k"]:
    """``exp(-2 pi i k r / length) · pixel / map pixel`` at the positions r of pixels; zero outside the map's box."""
    position = (torch.arange(n, dtype=torch.float64) - n // 2) * (pixel_size_A / grid.length_A)
    angle = -2 * math.pi * position[:, None] * k.double()
    inside = (position >= -0.5 - 1e-9) & (position < 0.5 - 1e-9)
    magnitude = inside.double() * (pixel_size_A / grid.pixel_size_A)
    return torch.polar(magnitude[:, None].expand_as(angle).contiguous(), angle).to(torch.complex64)


def batch_size(n_values: int) -> int:
    """Images of ``n_values`` pixels in one unit of work: fixed, so that sums do not depend on threads or memory.

    >>> batch_size(3600), batch_size(100_000)
    (256, 20)
    """
    return max(1, min(BATCH, BATCH_VALUES // n_values))


def batches(rows: Array, n_values: int) -> Iterator[Array]:
    """Rows in batches, for images of so many pixels each."""
    size = batch_size(n_values)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
