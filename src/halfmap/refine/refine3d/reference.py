"""A starting map on any grid and any grey scale, made fit for the data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.grid import frequencies_3d
from halfmap.fourier.regrid import regrid_3d
from halfmap.fourier.windows import cosine_edge, soft_ball
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.noise import NoiseModel
from halfmap.refine.images.observations import EDGE_A, Observations
from halfmap.refine.refine3d.half import HalfState, find_poses, unsearched
from halfmap.refine.refine3d.local import Focus
from halfmap.refine.search.poses import PoseSearch, SearchPlan
from halfmap.refine.search.prior import GivenPoses
from halfmap.typing import Array

SAMPLE = 256
"""Particles that the grey scale is fitted to."""
FIRST_SIGNAL_FRAC = 0.02
"""Share of the images' power that the reference is given before its grey scale is fitted."""
ROUNDS = 2


def on_grid(volume: Volume, grid: MapGrid, diameter_A: float, resolution_A: float) -> Float[Tensor, "z y x"]:
    """The map on another grid, low-passed, its surroundings set to zero.

    Band-limited interpolation along each axis, which is exact for any ratio of pixel sizes; what is
    outside the map's own box is zero after its solvent level was taken off.

    Raises
    ------
    HalfmapError
        If the map is not cubic, is constant or has values that are not finite.
    """
    data = torch.as_tensor(np.array(volume.data, dtype=np.float32))
    if len(set(data.shape)) != 1:
        raise HalfmapError(f"a reference must be cubic, this one has shape {tuple(data.shape)}")
    if not bool(torch.isfinite(data).all()) or float(data.std()) == 0:
        raise HalfmapError("the reference is constant or holds values that are not finite")
    n_in = data.shape[0]
    own_mask = soft_ball((n_in,) * 3, diameter_A / volume.pixel_size_A, EDGE_A / volume.pixel_size_A)
    outside = (1 - own_mask).double()
    data = data - float((data * outside).sum() / outside.sum().clamp(min=1e-9))
    n = grid.box_px
    fine = regrid_3d(data, volume.pixel_size_A, n, grid.pixel_size_A)
    fx, fy, fz = frequencies_3d((n, n, n), grid.pixel_size_A)
    frequency = (fx.square() + fy.square() + fz.square()).sqrt()
    width = 2 / grid.length_A
    lowpass = cosine_edge((frequency - 1 / resolution_A) / width)
    moved: Tensor = torch.fft.irfftn(torch.fft.rfftn(fine) * lowpass, s=(n, n, n))
    return moved * soft_ball((n,) * 3, diameter_A / grid.pixel_size_A, EDGE_A / grid.pixel_size_A)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A reference on the data's grey scale."""

    reference: Float[Tensor, "z y x"]
    scale: float
    likelihood_gain: float
    """Log-likelihood of the sample at its best poses, relative to no particle."""


def fitted_scale(
    reference: Float[Tensor, "z y x"],
    observations: Observations,
    rows: Array,
    noise: NoiseModel,
    plan: SearchPlan,
    *,
    focus: Focus,
    symmetry: str,
    threads: int,
    given: GivenPoses | None,
) -> Fitted:
    """Grey scale by least squares: poses of a sample of the particles, then ``sum image model / sum model^2``.

    Parameters
    ----------
    reference
        On the grid of the observations.
    observations, noise
        The data.
    rows
        Particles to draw the sample from.
    plan
        Sampling of the search.
    focus, symmetry
        Of the particle.
    threads
        Cores that may be used.
    given
        Poses that the particles of ``rows`` are held near to, if any.
    """
    members = np.linspace(0, len(rows) - 1, min(SAMPLE, len(rows))).astype(int)
    sample, near = rows[members], None if given is None else given.of(members)
    scale = _first_scale(reference, observations, sample, noise, plan)
    gain = 0.0
    for _ in range(ROUNDS):
        search = PoseSearch(reference * scale, observations, noise, plan, focus.diameter_A, symmetry, focus.fulcrum_A)
        state: HalfState = unsearched(sample, reference, noise, plan.shift_sigma_A, near)
        poses = find_poses(state, search, threads, lambda count: None)
        cross, power = search.fit(sample, poses.rot_img_from_map[:, 0], poses.shift_A[:, 0])
        factor = float(cross.sum() / power.sum())
        gain = 0.5 * float(cross.sum() ** 2 / power.sum())
        scale *= factor
    return Fitted(reference * scale, scale, gain)


def _first_scale(
    reference: Tensor, observations: Observations, rows: Array, noise: NoiseModel, plan: SearchPlan
) -> float:
    """Scale at which the map's mean slice has a small share of the images' power: rather too weak than too strong."""
    power = torch.fft.rfftn(reference).abs().square()
    n = reference.shape[0]
    fx, fy, fz = frequencies_3d((n, n, n))
    inside = (fx.square() + fy.square() + fz.square()).sqrt() * n
    within = (inside > 0.5) & (inside <= plan.radius_px + 0.5)
    mean_signal = float(power[within].double().mean()) * 0.5  # CTF^2 is one half on average
    mean_image = float(noise.sigma2[:, 1 : plan.radius_px + 1].mean())
    if mean_signal <= 0:
        raise HalfmapError("nothing is left of the reference within the diameter at the starting resolution")
    return math.sqrt(FIRST_SIGNAL_FRAC * mean_image / mean_signal)
