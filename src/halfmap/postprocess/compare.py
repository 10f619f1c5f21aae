"""A map against a truth, another map, or an atomic model: frame, hand, correlation, FSC."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_TRUTH_THRESHOLD
from halfmap.data.records import Volume
from halfmap.fourier.fsc import (
    Independence,
    correlation_of_transforms,
    fsc,
    joined_shells,
    last_shell_above,
    resolution_A,
)
from halfmap.fourier.regrid import regrid_3d
from halfmap.geometry.symmetry import point_group
from halfmap.io.mrc import read_volume
from halfmap.postprocess.options import CompareOptions
from halfmap.simulate.form_factors import ICE_POTENTIAL_V
from halfmap.simulate.models import read_atoms
from halfmap.simulate.potential import scattering_potential
from halfmap.typing import FloatArray
from halfmap.validation.align_maps import MapAlignment, align_maps, aligned_map
from halfmap.validation.solvent_mask import make_mask

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
    fsc_averaged
        The masked curve, products and powers each summed over as many shells as the mask joins anyway
        (:func:`halfmap.fourier.fsc.joined_shells`).
    resolution_A
        Where the averaged curve falls below 0.5; a fall that the next shells do not share is passed over
        (:func:`halfmap.fourier.fsc.shell_of_threshold`).
    finest_A
        The finest resolution at which it is not below 0.5: finer, where the curve dips and recovers. Both are infinite
        if it never is above.
    """

    aligned: Float[Tensor, "z y x"]
    reference: Float[Tensor, "z y x"]
    mask: Float[Tensor, "z y x"]
    alignment: MapAlignment
    correlation: float
    fsc_unmasked: FloatArray
    fsc_masked: FloatArray
    fsc_averaged: FloatArray
    resolution_A: float
    finest_A: float


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
    transforms = torch.fft.rfftn(aligned * mask), torch.fft.rfftn(reference * mask)
    joined = joined_shells(mask)
    averaged = correlation_of_transforms(*transforms, reach=joined)
    last_shell = last_shell_above(averaged, FSC_TRUTH_THRESHOLD)
    independence = Independence(joined, float(mask.double().mean()) / len(point_group(options.symmetry)))
    inside = mask > 0.5
    pair = torch.stack([aligned[inside], reference[inside]]).double()
    return Comparison(
        aligned=aligned,
        reference=reference,
        mask=mask,
        alignment=alignment,
        correlation=float(torch.corrcoef(pair)[0, 1]),
        fsc_unmasked=fsc(aligned, reference).numpy(),
        fsc_masked=correlation_of_transforms(*transforms).numpy(),
        fsc_averaged=averaged.numpy(),
        resolution_A=resolution_A(averaged, FSC_TRUTH_THRESHOLD, data.shape[0], size_A, independence),
        finest_A=data.shape[0] * size_A / last_shell if last_shell else math.inf,
    )
