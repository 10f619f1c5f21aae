"""The best poses of each image, out of all directions, shifts and in-plane angles."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.refine.rings.transform import RingReferences, RingTransform, log_likelihoods

BYTES_PER_FLOAT = 4
SEARCH_GB = 0.05
"""Working memory of one search on the CPU: no more than its caches and the allocator's own store hold, or nearly."""
DEVICE_SEARCH_GB = 2.0
"""The same on an accelerator, which wants large products."""


@dataclass(frozen=True)
class Modes:
    """The best grid poses of each image, best first.

    Attributes
    ----------
    direction
        Index of the direction (or class), ``[n, k]``.
    psi_rad
        In-plane angle, ``[n, k]`` float64.
    shift
        Index of the shift, ``[n, k]``.
    log_weight
        Log-likelihood plus log-prior of each mode, ``[n, k]``.
    log_evidence
        Logarithm of the sum of ``exp(log-likelihood + log-prior)`` over all poses searched, ``[n]``;
        ``exp(log_weight - log_evidence)`` is the posterior weight of a mode.
    """

    direction: Int[Tensor, "n k"]
    psi_rad: Float[Tensor, "n k"]
    shift: Int[Tensor, "n k"]
    log_weight: Float[Tensor, "n k"]
    log_evidence: Float[Tensor, n]


def images_at_a_time(transform: RingTransform, n_shifts: int, n_directions: int, memory_GB: float) -> int:
    """How many images can be searched at once within a memory limit (at least one)."""
    grid = transform.grid
    scores = 4 * n_shifts * n_directions * grid.n_angles
    coefficients = 4 * n_shifts * (transform.n_pixels + grid.n_orders * grid.n_rings)
    return max(1, int(memory_GB * 1e9 / BYTES_PER_FLOAT / (scores + coefficients)))


def search(
    transform: RingTransform,
    references: RingReferences,
    weighted: Complex[Tensor, "n p"],
    weights: Float[Tensor, "n p"],
    phases: Complex[Tensor, "s p"],
    *,
    log_prior: Float[Tensor, "s d"] | None = None,
    n_modes: int = 8,
    memory_GB: float | None = None,
) -> Modes:
    """Search all directions, shifts and in-plane angles of a batch of images.

    Parameters
    ----------
    transform
        Pixels to rings, for the geometry of these images.
    references
        Directions or classes, on the same rings.
    weighted
        ``CTF image / sigma2`` of the centred images at the transform's pixels.
    weights
        ``CTF^2 / sigma2`` at the same pixels.
    phases
        Factors of the shifts to try (``rings.shift_phases``).
    log_prior
        Added to the log-likelihood of each shift and direction.
    n_modes
        How many of the best poses to return for each image.
    memory_GB
        Limit of the working memory, if not the usual one; images are taken in chunks that fit. The result is the
        same.
    """
    if memory_GB is None:
        memory_GB = SEARCH_GB if weighted.device.type == "cpu" else DEVICE_SEARCH_GB
    n_shifts, n_directions = phases.shape[0], len(references)
    chunk = images_at_a_time(transform, n_shifts, n_directions, memory_GB)
    found = []
    for start in range(0, weighted.shape[0], chunk):
        part = weighted[start : start + chunk]
        shifted = (part[:, None, :] * phases[None]).flatten(0, 1)
        scores = log_likelihoods(references, transform.images(shifted), transform.power(weights[start : start + chunk]))
        if log_prior is not None:
            scores += log_prior
        found.append(_best(scores, n_modes))
    value, index, log_evidence = (torch.cat(parts) for parts in zip(*found, strict=True))
    per_angle = n_shifts * n_directions
    psi_rad = (index // per_angle).double() * (2 * math.pi / transform.grid.n_angles)
    return Modes(index % n_directions, psi_rad, index % per_angle // n_directions, value, log_evidence)


def _best(scores: Float[Tensor, "n psi s d"], n_modes: int) -> tuple[Tensor, Tensor, Tensor]:
    flat = scores.flatten(1)
    value, index = torch.topk(flat, min(n_modes, flat.shape[1]), dim=1)
    return value, index, log_evidence_of(flat, value[:, :1])


def log_evidence_of(scores: Float[Tensor, "n q"], best: Float[Tensor, "n 1"]) -> Float[Tensor, n]:
    """Logarithm of the sum of exponentials, given the largest; overwrites the scores with the summands."""
    # Far below the best a score adds nothing, and exponentials that underflow are slow.
    scores.sub_(best).clamp_(min=-60.0).exp_()
    return torch.log(scores.sum(dim=1)) + best[:, 0]
