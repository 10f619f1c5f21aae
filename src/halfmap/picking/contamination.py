"""Carbon, ice and dirt: regions of a micrograph that are larger or stronger than particles can be."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from halfmap.picking.field import Field, smooth
from halfmap.typing import Array, FloatArray

DARK_SPREADS = 5.0
ROUGH_SPREADS = 5.0
LEAST_RATIO = 1.5
"""Regions less than this factor rougher than the median are not dirt, however even the rest is."""
WIDTH_DIAMETERS = 1.5
STRONG_SPREADS = 6.0


def roughness(field: Field, diameter_A: float) -> Float[Tensor, "n n"]:
    """Local standard deviation of what varies within a particle, over about its area."""
    diameter_px = diameter_A / field.pixel_size_A
    fine = field.image - smooth(field.image, diameter_px)
    return smooth(fine.square(), diameter_px / 2.0).clamp_min(1e-12).sqrt()


def contaminated(field: Field, diameter_A: float) -> Array:
    """Mask of the part of the micrograph (``field.inside``) in which nothing should be picked.

    A region counts when its mean grey value or its roughness lies far outside of the rest of the
    micrograph, and a disc of one and a half diameters fits into it: particles are smaller.
    """
    diameter_px = diameter_A / field.pixel_size_A
    grey = field.inside(smooth(field.image, diameter_px / 4.0)).cpu().numpy()
    rough = field.inside(roughness(field, diameter_A)).log().cpu().numpy()
    suspect = np.abs(_in_spreads(grey)) > DARK_SPREADS
    suspect |= (_in_spreads(rough) > ROUGH_SPREADS) & (rough - np.median(rough) > np.log(LEAST_RATIO))
    return _wider_than(suspect, WIDTH_DIAMETERS * diameter_px, reach_px=diameter_px / 2.0)


def _in_spreads(values: FloatArray) -> FloatArray:
    """Distance from the median in robust standard deviations."""
    centre = np.median(values)
    spread = 1.4826 * np.median(np.abs(values - centre))
    return (values - centre) / max(float(spread), 1e-12)


def _wider_than(mask: Array, width_px: float, reach_px: float) -> Array:
    """The parts of a mask into which a disc fits (the border of the image does not cut), grown by ``reach_px``."""
    pad = int(width_px) + 1
    padded = np.pad(mask, pad, mode="edge")
    if not padded.any() or padded.all():
        return mask.copy()
    core = ndimage.distance_transform_edt(padded) > width_px / 2.0
    if not core.any():
        return np.zeros_like(mask)
    grown = ndimage.distance_transform_edt(~core) <= width_px / 2.0 + reach_px
    return np.asarray(grown[pad:-pad, pad:-pad], dtype=bool)


def too_strong(strengths: FloatArray) -> Array:
    """Picks whose surroundings vary far more than those of the other picks: ice crystals, dirt.

    Parameters
    ----------
    strengths
        Roughness at each pick, relative to its micrograph, of all picks of a session.
    """
    if len(strengths) == 0:
        return np.zeros(0, dtype=bool)
    logarithm = np.log(np.maximum(np.asarray(strengths, dtype=np.float64), 1e-12))
    far = _in_spreads(logarithm) > STRONG_SPREADS
    return np.asarray(far & (logarithm - np.median(logarithm) > np.log(LEAST_RATIO)), dtype=bool)


def value_at(image: Float[Tensor, "y x"], y: FloatArray, x: FloatArray) -> FloatArray:
    """Values of the pixels nearest to positions."""
    rows = torch.from_numpy(np.clip(np.rint(y), 0, image.shape[0] - 1).astype(np.int64)).to(image.device)
    columns = torch.from_numpy(np.clip(np.rint(x), 0, image.shape[1] - 1).astype(np.int64)).to(image.device)
    values: FloatArray = image[rows, columns].double().cpu().numpy()
    return values
