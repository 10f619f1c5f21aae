"""Whether particles are white or dark in the micrographs, decided from the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.grid import real_space_radius_px
from halfmap.fourier.transform import centred_irfft2, centred_rfft2
from halfmap.typing import FloatArray

Task = TypeVar("Task")
CLEAR_SPREADS = 5.0
"""Mean evidence in standard errors from which the data decide."""


@dataclass(frozen=True)
class Contrast:
    """``sign`` is +1 if protein is white in the micrographs, −1 if dark; ``clear`` if the data decided."""

    sign: int
    significance: float
    n_particles: int

    @property
    def clear(self) -> bool:
        """Whether the evidence is beyond doubt."""
        return abs(self.significance) >= CLEAR_SPREADS

    @property
    def name(self) -> str:
        """How protein looks in the micrographs."""
        return "white" if self.sign > 0 else "dark"


def contrast_evidence(
    images: Float[Tensor, "n y x"], radius_px: float, ctf: Float[Tensor, "n y half"] | None
) -> FloatArray:
    """Correlate each image with a ball as the microscope shows it; positive where protein is white.

    Parameters
    ----------
    images
        Normalised images, particles in the centre.
    radius_px
        Radius of the particle.
    ctf
        CTF of each image; None where it is not known.

    Returns
    -------
    float64 array ``[n]``
        In units of white noise.
    """
    n = images.shape[-1]
    depth = (radius_px**2 - real_space_radius_px((n, n), images.device).square()).clamp_min(0.0).sqrt()
    ball = (depth - depth.mean())[None]
    seen = ball if ctf is None else centred_irfft2(centred_rfft2(ball) * ctf, n)
    seen = seen / seen.square().sum(dim=(1, 2), keepdim=True).sqrt()
    evidence: FloatArray = (images * seen).double().sum(dim=(1, 2)).cpu().numpy()
    return evidence


def decide_contrast(evidence: Sequence[float] | FloatArray) -> Contrast:
    """Decide from the evidence of many particles; without clear evidence, dark as in underfocus."""
    values = np.asarray(evidence, dtype=np.float64)
    if len(values) < 2:
        return Contrast(-1, 0.0, len(values))
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    significance = float(values.mean()) / error if error > 0 else 0.0
    sign = 1 if significance >= CLEAR_SPREADS else -1
    return Contrast(sign, significance, len(values))


def contrast_sample(tasks: Sequence[Task], count: int = 8) -> list[Task]:
    """Tasks spread evenly over a sequence."""
    places = np.unique(np.linspace(0, len(tasks) - 1, min(count, len(tasks))).round().astype(int))
    return [tasks[place] for place in places.tolist()] if len(tasks) else []
