"""Atoms -> scattering potential on a grid, band-limited and exact to 1e-4."""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
import torch

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.crop import crop_rfftn
from halfmap.simulate.atoms import Atoms
from halfmap.simulate.form_factors import potential_transform
from halfmap.typing import Array, FloatArray

_OVERSAMPLING: Final = 1.75
_SPREAD: Final = 0.65
"""Standard deviation of the spreading Gaussian in output voxels: aliases and rounding stay below 1e-4."""
_CUTOFF_SIGMAS: Final = 5.2


@numba.njit(cache=True)
def _spread(grid: Array, centre: Array, sigma: Array, weight: Array) -> None:
    """Add normalised Gaussians to a periodic grid ``[z, y, x]``; centres (x, y, z) and sigmas in voxels."""
    n = grid.shape[0]
    width = 2 * int(np.ceil(_CUTOFF_SIGMAS * sigma.max())) + 2
    profile = np.empty((3, width))
    index = np.empty((3, width), np.int64)
    for atom in range(centre.shape[0]):
        reach = int(np.ceil(_CUTOFF_SIGMAS * sigma[atom]))
        count = 2 * reach + 1
        scale = 1.0 / (np.sqrt(2.0 * np.pi) * sigma[atom])
        for axis in range(3):
            first = int(np.round(centre[atom, axis])) - reach
            for i in range(count):
                offset = (first + i - centre[atom, axis]) / sigma[atom]
                profile[axis, i] = scale * np.exp(-0.5 * offset * offset)
                index[axis, i] = (first + i) % n
        for i in range(count):
            wz = weight[atom] * profile[2, i]
            for j in range(count):
                wzy = wz * profile[1, j]
                for k in range(count):
                    grid[index[2, i], index[1, j], index[0, k]] += wzy * profile[0, k]


def _radial_frequency(box_px: int, pixel_size_A: float) -> FloatArray:
    """|k| in 1/Å on the layout of rfftn of a box, ``[z, y, x//2+1]``."""
    full = np.fft.fftfreq(box_px, pixel_size_A)
    half = np.fft.rfftfreq(box_px, pixel_size_A)
    squared = full[:, None, None] ** 2 + full[None, :, None] ** 2 + half[None, None, :] ** 2
    radius: FloatArray = np.sqrt(squared).astype(np.float32)
    return radius


def _band_limited(transform: torch.Tensor, n_in: int, n_out: int) -> torch.Tensor:
    """Frequencies of the smaller box; the Nyquist planes of an even one, which have no partner, become zero."""
    kept = crop_rfftn(transform, n_in, n_out).clone()
    if n_out % 2 == 0:
        nyquist = n_out // 2
        kept[nyquist] = 0
        kept[:, nyquist] = 0
        kept[:, :, nyquist] = 0
    return kept


def _lowpass(frequency_per_A: FloatArray, resolution_A: float) -> FloatArray:
    """Filter that falls as a raised cosine over 10 % around the frequency 1 / resolution."""
    relative = (frequency_per_A * resolution_A - 0.95) / 0.1
    filter_: FloatArray = 0.5 * (1.0 + np.cos(np.pi * np.clip(relative, 0.0, 1.0)))
    return filter_


def scattering_potential(
    atoms: Atoms,
    box_px: int,
    pixel_size_A: float,
    *,
    solvent_V: float,
    bfactor_A2: float = 0.0,
    lowpass_A: float | None = None,
) -> Volume:
    """Electrostatic potential of atoms over that of the solvent, in V, on a cubic grid.

    Every atom is spread by a Gaussian that holds its B factor, onto a finer grid; the transform is divided by
    the rest of that Gaussian and multiplied by the atom's form factor, so the result is the potential with all
    frequencies above Nyquist removed, whatever the pixel size. Models without hydrogens get the mean number of
    them. The same atoms give the same bits.

    Parameters
    ----------
    atoms
        The model; the origin of its coordinates goes to voxel ``box_px // 2``.
    box_px, pixel_size_A
        Edge and spacing of the grid.
    solvent_V
        Mean inner potential of the solvent (``form_factors.ICE_POTENTIAL_V``; 0 = vacuum).
    bfactor_A2
        Added to every atom's B factor.
    lowpass_A
        Resolution of an additional low-pass filter with a soft edge.

    Raises
    ------
    HalfmapError
        If atoms lie outside the box, or an element is unknown.
    """
    edge_A = box_px * pixel_size_A
    outside = np.abs(atoms.position_A).max()
    if outside > edge_A / 2 - pixel_size_A:
        raise HalfmapError(
            f"atoms reach {outside:.1f} Å from the origin, but a box of {box_px} voxels of {pixel_size_A} Å ends at "
            f"{edge_A / 2:.1f} Å.",
            remedy=f"Use a box of at least {int(np.ceil(2 * outside / pixel_size_A)) + 4} voxels.",
        )
    fine_px = 2 * int(np.ceil(_OVERSAMPLING * box_px / 2))
    fine_A = edge_A / fine_px
    spread_A2 = (_SPREAD * pixel_size_A) ** 2
    variance_A2 = spread_A2 + (atoms.bfactor_A2 + bfactor_A2) / (8.0 * np.pi**2)
    sigma_px = np.sqrt(variance_A2) / fine_A
    centre_px = atoms.position_A / fine_A
    frequency = _radial_frequency(box_px, pixel_size_A)
    unspread = np.exp(2.0 * np.pi**2 * spread_A2 * frequency**2)
    total = torch.zeros(frequency.shape, dtype=torch.complex64)
    for element in sorted(set(atoms.element.tolist())):
        chosen = atoms.element == element
        grid = np.zeros((fine_px, fine_px, fine_px), np.float32)
        _spread(grid, centre_px[chosen], sigma_px[chosen], atoms.occupancy[chosen])
        spectrum = _band_limited(torch.fft.rfftn(torch.from_numpy(grid)), fine_px, box_px)
        weight = potential_transform(element, frequency, solvent_V=solvent_V, with_hydrogens=not atoms.has_hydrogens)
        total += spectrum * torch.from_numpy((weight * unspread).astype(np.float32))
    if lowpass_A is not None:
        total *= torch.from_numpy(_lowpass(frequency, lowpass_A).astype(np.float32))
    volume = torch.fft.irfftn(total, s=(box_px,) * 3) / pixel_size_A**3
    centred = torch.fft.fftshift(volume).to(torch.float32).contiguous()
    return Volume(centred.numpy(), float(pixel_size_A))
