"""Round templates with a closed-form transform: balls and hollow balls with soft edges."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Template:
    """A ball, or a shell, seen in projection.

    ``inner_frac`` is the radius of the cavity and ``softness_frac`` the standard deviation of the
    edge, both as fractions (of the outer radius and of the diameter).
    """

    diameter_A: float
    inner_frac: float
    softness_frac: float

    def transform(self, frequency_per_A: Float[Tensor, "*grid"]) -> Float[Tensor, "*grid"]:
        """Fourier transform of the projection, 1 at zero frequency for a solid ball.

        The central slice of a ball of radius R is 3 (sin q − q cos q) / q³ with q = 2π s R.
        """
        outer = 2.0 * math.pi * frequency_per_A * (self.diameter_A / 2.0)
        shape = _ball(outer) - self.inner_frac**3 * _ball(outer * self.inner_frac)
        edge = math.pi * self.softness_frac * self.diameter_A * frequency_per_A
        return shape * torch.exp(-2.0 * edge.square())


def _ball(q: Tensor) -> Tensor:
    """3 (sin q − q cos q) / q³, by its series where the quotient would lose digits."""
    small = q < 0.3
    safe = torch.where(small, torch.ones_like(q), q)
    quotient = 3.0 * (torch.sin(safe) - safe * torch.cos(safe)) / safe**3
    return torch.where(small, 1.0 - q.square() / 10.0 + q**4 / 280.0, quotient)


def candidates(diameters_A: list[float]) -> list[Template]:
    """Solid and hollow templates with sharp to blurred edges, for each diameter.

    Sharp ones win for round particles of one size, blurred ones for particles whose outline
    changes with the view.
    """
    shapes = [(inner, soft) for inner in (0.0, 0.65) for soft in (0.03, 0.08, 0.15)]
    return [Template(d, inner, soft) for d in diameters_A for inner, soft in shapes]
