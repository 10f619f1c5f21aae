"""Particles in a box that just holds them, for the passes that work on rings.

Boxes are extracted large, because the defocus spreads a particle's signal; what a search pays for
is the number of Fourier pixels, which grows with the square of the box. Multiplied by its CTF, an
image has its signal back where the particle is, and can be cut there without loss: the likelihood
of a pose needs ``sum CTF X P`` within the particle alone, and ``sum CTF^2 |P|^2``. Divided by the
root of ``CTF^2`` averaged over the larger Fourier pixels of the smaller box, the cut image is again
an image with a CTF (positive, and nowhere zero) and noise of the same power in every pixel.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.fourier.crop import pad_2d
from halfmap.fourier.windows import even_fast_size
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.images.observations import EDGE_A, ObservationBatch, Observations, batches
from halfmap.refine.images.row_store import row_store
from halfmap.typing import Array


def close_grid(whole: MapGrid, diameter_A: float, slack_A: float) -> MapGrid:
    """The box that just holds a particle that may be shifted so far."""
    wanted_px = math.ceil((diameter_A + 2 * (EDGE_A + slack_A)) / whole.pixel_size_A)
    return MapGrid(min(even_fast_size(wanted_px), whole.box_px), whole.pixel_size_A)


class CloseUp:
    """Observations in a smaller box; batches are as those of the observations themselves.

    Parameters
    ----------
    observations
        The particles in their whole boxes; not needed any more once this is made.
    slack_A
        Largest shift that will be tried.
    memory_GB
        Transforms are kept in memory up to this size, and in a temporary file in ``cache_folder`` beyond it.

    Attributes
    ----------
    grid
        Sampling of the box.
    lattice
        Its Fourier pixels.
    background_sigma2
        Noise power around the particles, ``[groups, shells]``.
    device, diameter_A, group, n_groups, usable, faults
        As those of the observations.
    """

    def __init__(
        self, observations: Observations, slack_A: float, *, memory_GB: float = 2.0, cache_folder: Path | None = None
    ) -> None:
        self.device, self.diameter_A = observations.device, observations.diameter_A
        self.group, self.n_groups = observations.group, observations.n_groups
        self.usable, self.faults = observations.usable, observations.faults
        whole = observations.grid
        self.grid = close_grid(whole, self.diameter_A, slack_A)
        self.lattice = Lattice.of(self.grid.length_A, self.grid.nyquist_px, self.device)
        shells = np.arange(self.grid.nyquist_px + 1) * whole.length_A / self.grid.length_A
        known = np.arange(observations.background_sigma2.shape[1])
        self.background_sigma2 = np.stack([np.interp(shells, known, power) for power in observations.background_sigma2])
        self.background_sigma2 *= (self.grid.box_px / whole.box_px) ** 2
        shape = (len(observations), len(self.lattice))
        self._transforms = row_store(shape, np.complex64, memory_GB / 2, cache_folder)
        self._ctf = row_store(shape, np.float32, memory_GB / 2, cache_folder)
        for rows in batches(np.arange(len(observations)), whole.box_px**2):
            power = self._averaged_power(observations, rows)
            root = power.sqrt()
            cut = self._cut(observations, rows)
            self._transforms.write(rows, torch.where(power > 0, cut / root.clamp(min=1e-12), 0.0).cpu().numpy())
            self._ctf.write(rows, root.cpu().numpy())

    def __len__(self) -> int:
        return len(self.group)

    def batch(self, rows: Array, radius_px: int) -> ObservationBatch:
        """Particles of these rows, at the pixels of shells 1 to ``radius_px``."""
        count = self.lattice.count_within(radius_px)
        index = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        group = torch.as_tensor(self.group[rows], device=self.device)
        ft = torch.as_tensor(self._transforms.read(rows, count), device=self.device)
        ctf = torch.as_tensor(self._ctf.read(rows, count), device=self.device)
        return ObservationBatch(index, group, ft, ctf)

    def _averaged_power(self, observations: Observations, rows: Array) -> Float[Tensor, "n p"]:
        """``CTF^2``, averaged over each pixel: as many points along an edge as the whole box has pixels there."""
        n_points = math.ceil(observations.grid.length_A / self.grid.length_A - 1e-9)
        offsets = (torch.arange(n_points, device=self.device) + 0.5) / n_points - 0.5
        fx, fy = self.lattice.frequencies_per_A()
        total = torch.zeros(len(rows), len(fx), device=self.device)
        for dy in offsets:
            for dx in offsets:
                at = (fx + dx / self.grid.length_A, fy + dy / self.grid.length_A)
                total += observations.ctf_at(rows, *at).square()
        return total / n_points**2

    def _cut(self, observations: Observations, rows: Array) -> Complex[Tensor, "n p"]:
        """``CTF X`` in the smaller box."""
        lattice = observations.lattice
        batch = observations.batch(rows, lattice.radius_px)
        images = lattice.images_of(batch.ft * batch.ctf, observations.grid.box_px)
        return self.lattice.values_of(pad_2d(images, self.grid.box_px))
