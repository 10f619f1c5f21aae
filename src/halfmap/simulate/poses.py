"""Random views, classes and defoci."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


def random_euler_rad(n: int, concentration: float, generator: np.random.Generator) -> Float[np.ndarray, "{n} 3"]:
    """Draw Euler angles (rot, tilt, psi) ``[n, 3]``; psi is uniform.

    The view direction, the map's unit vector that points along the beam, is uniform on the sphere for a
    concentration of 0 and otherwise follows the von Mises-Fisher density ``exp(κ cos tilt)`` about the map's
    z axis, drawn in closed form (Wood 1994, Commun. Stat. Simul. 23, 157).
    """
    rot = generator.uniform(-np.pi, np.pi, n)
    psi = generator.uniform(-np.pi, np.pi, n)
    u = generator.random(n)
    if concentration > 0:
        cos_tilt = 1.0 + np.log(u + (1.0 - u) * np.exp(-2.0 * concentration)) / concentration
    else:
        cos_tilt = 2.0 * u - 1.0
    return np.stack([rot, np.arccos(np.clip(cos_tilt, -1.0, 1.0)), psi], axis=1)


def random_classes(n: int, weights: Sequence[float], generator: np.random.Generator) -> Int[np.ndarray, {n}]:
    """Draw class numbers, from 1, with the given relative weights."""
    share = np.asarray(weights, float) / np.sum(weights)
    return generator.choice(np.arange(1, len(share) + 1), size=n, p=share)


@dataclass(frozen=True)
class Defocus:
    """Defocus at the centre of a micrograph, underfocus positive."""

    u_A: float
    v_A: float
    angle_rad: float


def random_defocus(low_A: float, high_A: float, astigmatism_A: float, generator: np.random.Generator) -> Defocus:
    """Draw a mean defocus in a range, an astigmatism U - V up to a maximum, and its direction."""
    mean = generator.uniform(low_A, high_A)
    half = 0.5 * generator.uniform(0.0, astigmatism_A)
    return Defocus(mean + half, mean - half, generator.uniform(0.0, np.pi))
