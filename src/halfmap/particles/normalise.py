"""Grey values of particle images: no ramp, mean 0 and standard deviation 1 outside of the particle."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.fourier.grid import real_space_radius_px

LEAST_BACKGROUND_PX = 16


def background_mask(n: int, radius_px: float, device: torch.device | str = "cpu") -> Bool[Tensor, "n n"]:
    """Pixels further than ``radius_px`` from the origin ``n // 2``.

    Raises
    ------
    HalfmapError
        Fewer than 16 pixels are left.
    """
    mask = real_space_radius_px((n, n), device) > radius_px
    if int(mask.sum()) < LEAST_BACKGROUND_PX:
        raise HalfmapError(
            f"a circle of radius {radius_px:.1f} px leaves no background in a box of {n} px.",
            remedy="Use a larger box or a smaller diameter.",
        )
    return mask


def normalise_background(
    images: Float[Tensor, "n y x"], radius_px: float
) -> tuple[Float[Tensor, "n y x"], Float[Tensor, " n"]]:
    """Subtract the plane through the background of each image, and divide by the background's spread.

    Parameters
    ----------
    images
        Square images.
    radius_px
        Radius of the circle about the origin that holds the particle.

    Returns
    -------
    (normalised, spread)
        ``spread`` is the standard deviation that was divided by, 0 for a constant background, whose
        image comes back as zeros.
    """
    n = images.shape[-1]
    mask = background_mask(n, radius_px, images.device)
    axis = torch.linspace(-1.0, 1.0, n, dtype=torch.float64, device=images.device)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    plane = torch.stack((torch.ones_like(x), x, y))
    outside = plane[:, mask]
    values = images.double()
    coefficients = torch.linalg.solve(outside @ outside.T, outside @ values[:, mask].T)
    flat = values - torch.einsum("kn,kyx->nyx", coefficients, plane)
    spread = flat[:, mask].square().mean(dim=1).sqrt()
    level = values.abs().amax(dim=(1, 2)).clamp_min(1e-30)
    spread = torch.where(spread > 1e-6 * level, spread, torch.zeros_like(spread))
    scale = torch.where(spread > 0, 1.0 / spread.clamp_min(1e-300), torch.zeros_like(spread))
    return (flat * scale[:, None, None]).to(images.dtype), spread.to(images.dtype)
