"""A map against a truth, another map, or an atomic model: frame, hand, correlation, FSC."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_TRUTH_THRESHOLD
from halfmap.data.records import Volume
from halfmap.fourier.fsc import fsc, resolution_A
from halfmap.fourier.regrid import regrid_3d
from halfmap.io.mrc import read_volume
from halfmap.postprocess.mask import make_mask
from halfmap.postprocess.options import CompareOptions
from halfmap.simulate.form_factors import ICE_POTENTIAL_V
from halfmap.simulate.models import read_atoms
from halfmap.simulate.potential import scattering_potential
from halfmap.typing import FloatArray
from halfmap.validation.align_maps import MapAlignment, align_maps, aligned_map

MODEL_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a map agrees with a reference.

    Attributes
    ----------
    aligned
        The map in the frame of the reference, on the map's own grid.
    reference
        The reference on that grid.
    alignment
        Rotation, shift and hand that were found.
    correlation
        Of the two within the mask.
    fsc_unmasked, fsc_masked
        One value a shell. The mask is made from the reference.
    resolution_A
        Where the masked curve falls below 0.5.
    """

    aligned: Float[Tensor, "z y x"]
    reference: Float[Tensor, "z y x"]
    mask: Float[Tensor, "z y x"]
    alignment: MapAlignment
    correlation: float
    fsc_unmasked: FloatArray
    fsc_masked: FloatArray
    resolution_A: float


def reference_on_grid(path: Path, box_px: int, pixel_size_A: float) -> Float[Tensor, "z y x"]:
    """A map, or the potential of an atomic model, on the grid of another map."""
    if path.suffix.lower() in MODEL_SUFFIXES:
        potential = scattering_potential(read_atoms(path), box_px, pixel_size_A, solvent_V=ICE_POTENTIAL_V)
        return torch.from_numpy(potential.data)
    volume = read_volume(path)
    return regrid_3d(torch.from_numpy(np.array(volume.data)), volume.pixel_size_A, box_px, pixel_size_A)


def compare_maps(volume: Volume, reference: Float[Tensor, "z y x"], options: CompareOptions) -> Comparison:
    """Align a map with a reference on its grid, and correlate the two.

    The map is moved, not the reference, and interpolated by quintic splines; the mask is made from
    the reference, which knows nothing of the map's noise.
    """
    data = torch.from_numpy(np.array(volume.data))
    size_A = volume.pixel_size_A
    alignment = align_maps(
        data, reference, size_A, resolution_A=options.align_resolution_A, symmetry=options.symmetry,
        either_hand=options.either_hand,
    )  # fmt: skip
    aligned = aligned_map(data, alignment, size_A)
    mask = make_mask(reference, size_A, options).mask
    masked = fsc(aligned * mask, reference * mask)
    inside = mask > 0.5
    pair = torch.stack([aligned[inside], reference[inside]]).double()
    return Comparison(
        aligned=aligned,
        reference=reference,
        mask=mask,
        alignment=alignment,
        correlation=float(torch.corrcoef(pair)[0, 1]),
        fsc_unmasked=fsc(aligned, reference).numpy(),
        fsc_masked=masked.numpy(),
        resolution_A=resolution_A(masked, FSC_TRUTH_THRESHOLD, data.shape[0], size_A),
    )
