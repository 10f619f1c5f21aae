"""Noise and scale of each optics group, estimated from the data.

``sigma2[group, shell]`` is ``E|noise|^2`` of a complex Fourier pixel; ``scale[group]`` is the grey
value of the particles of a group relative to the mean of all groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.errors import HalfmapError
from halfmap.refine.images.lattice import Lattice
from halfmap.refine.images.observations import ObservationBatch


@dataclass(frozen=True, eq=False)
class NoiseModel:
    """Noise power and scale of the optics groups.

    Attributes
    ----------
    sigma2
        ``[groups, shells]`` float64.
    scale
        ``[groups]`` float64.
    information_frac
        Independent values per pixel, ``[groups]`` (``Observations.information_frac``).
    """

    sigma2: Float[Tensor, "groups shells"]
    scale: Float[Tensor, " groups"]
    information_frac: Float[Tensor, " groups"]

    def __post_init__(self) -> None:
        if not bool((self.sigma2[:, 1:] > 0).all()):
            raise HalfmapError("the noise of a shell is zero: the images hold no noise or no data there")

    def weighted(
        self, batch: ObservationBatch, lattice: Lattice
    ) -> tuple[Complex[Tensor, "n p"], Float[Tensor, "n p"]]:
        """``CTF image / sigma2`` and ``CTF^2 / sigma2``, the scale of the group taken as part of its CTF."""
        inverse = (self.information_frac[:, None] / self.sigma2).float().to(batch.ft.device)
        gain = batch.ctf * self.scale.float().to(batch.ft.device)[batch.group][:, None]
        factor = gain * inverse[batch.group][:, lattice.shell]
        return batch.ft * factor, gain * factor


def image_power(batch: ObservationBatch) -> Float[Tensor, "n p"]:
    """Power of the images: the first guess of the noise, because the signal is a small part of it."""
    return batch.ft.real.square() + batch.ft.imag.square()


def balanced_scale(cross: Float[Tensor, " groups"], power: Float[Tensor, " groups"]) -> Float[Tensor, " groups"]:
    """Scale of each group by least squares, ``cross / power``, relative to the mean over all particles.

    A group whose particles do not correlate with the map at all keeps the mean.
    """
    fitted = torch.where((cross > 0) & (power > 0), cross / power.clamp(min=1e-300), torch.nan)
    known = torch.isfinite(fitted)
    if not bool(known.any()):
        return torch.ones_like(cross)
    mean = cross[known].sum() / power[known].sum()
    return torch.where(known, fitted / mean, 1.0)
