"""From two half-maps to curves, verdicts, a mask and a sharpened map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import PIXEL_SIZE_TOLERANCE
from halfmap.data.records import HalfMaps, Volume
from halfmap.errors import HalfmapError
from halfmap.postprocess.options import PostprocessOptions
from halfmap.postprocess.sharpen import Sharpened, sharpen
from halfmap.validation.directional import DirectionalFsc, directional_fsc
from halfmap.validation.fsc_curves import FscCurves, fsc_curves
from halfmap.validation.noise_control import Verdict, judge
from halfmap.validation.solvent_mask import MaskResult, make_mask


@dataclass(frozen=True, eq=False)
class Postprocessed:
    """What comes of two half-maps; ``mask_made`` is None if the mask was given."""

    curves: FscCurves
    directional: DirectionalFsc
    verdicts: list[Verdict]
    sharpened: Sharpened
    mask: Float[Tensor, "z y x"]
    mask_made: MaskResult | None

    @property
    def resolution_A(self) -> float:
        """At FSC = 0.143 of the corrected curve."""
        return self.curves.resolution_A()


def agreeing_half_maps(half1: Volume, half2: Volume) -> HalfMaps:
    """Pair two maps, or say why they are no pair.

    Raises
    ------
    HalfmapError
        If shapes differ or are not cubic, if pixel sizes differ by more than 0.1 %, or if they are one map.
    """
    maps = HalfMaps(half1, half2)
    shape = half1.data.shape
    if len(set(shape)) != 1:
        raise HalfmapError(f"half-maps must be cubic, these have shape {shape}", remedy="Pad them to a cube.")
    ratio = half2.pixel_size_A / half1.pixel_size_A
    if abs(ratio - 1.0) > PIXEL_SIZE_TOLERANCE:
        raise HalfmapError(
            f"half-maps have pixel sizes {half1.pixel_size_A:g} and {half2.pixel_size_A:g} Å (ratio {ratio:.4f})",
            remedy="Correct the header that is wrong.",
        )
    if (half1.data == half2.data).all():
        raise HalfmapError(
            "the two half-maps are one and the same map", remedy="Give the maps of two halves of the particles."
        )
    return maps


def postprocess(
    maps: HalfMaps, options: PostprocessOptions, mask: Volume | None, *, seed: int = 0, device: str = "cpu"
) -> Postprocessed:
    """Correlate, judge, and sharpen two half-maps.

    Parameters
    ----------
    maps
        Unfiltered maps of two independent halves.
    options
        See :class:`PostprocessOptions`.
    mask
        Values 0 to 1 on the same grid; None to make one from the mean of the halves.
    seed
        Of the phases that are randomised.
    device
        Where to compute.

    Raises
    ------
    HalfmapError
        If the mask does not fit the maps, or none can be made.
    """
    first, second = (torch.as_tensor(m.data).float().to(device) for m in (maps.half1, maps.half2))
    pixel_size_A = maps.half1.pixel_size_A
    mean = (first + second) / 2.0
    made = make_mask(mean, pixel_size_A, options) if mask is None else None
    weights = made.mask if made is not None else _checked_mask(mask, maps.half1).to(device)
    curves = fsc_curves(first, second, pixel_size_A, weights, seed=seed)
    directional = directional_fsc(first * weights, second * weights, pixel_size_A)
    resolution_A, fsc = curves.resolution_A(), torch.from_numpy(curves.corrected).to(device)
    if not math.isfinite(resolution_A):
        # Nothing is resolved, which a verdict says: the mean is shown as the mask's filter leaves it.
        resolution_A, fsc = max(options.mask_low_pass_A, 2.0 * pixel_size_A), torch.ones_like(fsc)
    sharpened = sharpen(
        mean,
        pixel_size_A,
        fsc,
        resolution_A,
        weights,
        b_factor_A2=options.b_factor_A2,
        fit_from_A=options.b_factor_fit_from_A,
        low_pass_A=options.low_pass_A,
    )
    return Postprocessed(curves, directional, judge(curves, directional=directional), sharpened, weights, made)


def _checked_mask(mask: Volume | None, half: Volume) -> Tensor:
    assert mask is not None
    if mask.data.shape != half.data.shape:
        raise HalfmapError(
            f"the mask has shape {mask.data.shape} and the half-maps {half.data.shape}",
            remedy="Make the mask on the grid of the half-maps (halfmap mask).",
        )
    ratio = mask.pixel_size_A / half.pixel_size_A
    if abs(ratio - 1.0) > PIXEL_SIZE_TOLERANCE:
        raise HalfmapError(
            f"the mask has a pixel size of {mask.pixel_size_A:g} Å and the half-maps of {half.pixel_size_A:g} Å "
            f"(ratio {ratio:.4f})",
            remedy="Correct the header that is wrong.",
        )
    values = torch.as_tensor(mask.data).float()
    if float(values.min()) < -1e-3 or float(values.max()) > 1.0 + 1e-3 or not bool((values > 0.5).any()):
        raise HalfmapError(
            f"the mask has values from {float(values.min()):.3g} to {float(values.max()):.3g}, not from 0 to 1",
            remedy="Give a mask, not a map (halfmap mask makes one).",
        )
    return values.clamp(0.0, 1.0)
