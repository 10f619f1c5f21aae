"""Which point group a map has by itself: the map compared with itself, turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize
from torch import Tensor

from halfmap.fourier.crop import resample_3d
from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.shells import shell_index_3d, whitened
from halfmap.fourier.transform import centred_irfftn, centred_rfftn
from halfmap.fourier.windows import low_pass, soft_ball
from halfmap.geometry.rotations import matrix_from_rotation_vector
from halfmap.geometry.sphere import healpix_directions, healpix_spacing_rad
from halfmap.geometry.symmetry import Generator, generators, point_group, turn_about
from halfmap.typing import FloatArray
from halfmap.validation.sampling import trilinear, voxel_places
from halfmap.validation.solvent_mask import decided_threshold

PIXELS_PER_RESOLUTION = 3.0
MOST_POINTS = 5000
POINTS_AT_ONCE = 1 << 22
HIGHEST_ORDER = 12
POLYHEDRAL = ("T", "O", "I2")
RIM_SPACING_PX = 1.5
"""Axes are sought at most so far apart at the rim of the particle."""
PEAKS = 3
"""Axes of each order that are looked at more closely."""
WORTH_A_CLIMB = 0.3
"""Mean correlation of a group's generators, before they are fitted, from which on it is looked at further."""
PEAK_ABOVE_CHANCE = 3.0
"""Axes are looked at from so many standard deviations on: the grid of axes meets none of them exactly."""
PEAK_WIDTH = 3.0
"""They are so many times the spacing of axes apart."""
BALL_FRAC = 0.92
REACH_QUANTILE = 0.98
_TO_ONE_SIDE = (0.0123, 0.0321, 1.0)
COARSEST_SHELLS = 2
"""Shells that only tell the outline of the particle."""
LEAST = 0.5
"""A group that the map has keeps at least so much of the map's detail at its worst operator."""
OF_THE_BEST = 0.85
"""And at least this share of what the group that is kept best does."""
ABOVE_CHANCE = 6.0
"""And at least so many standard deviations of the correlations at turns of no group."""
ROUND = 0.8
"""And at most this share of it at turns half way between those of the group."""


@dataclass(frozen=True)
class FoundGroup:
    """A point group, where a map has it best, and how well.

    Attributes
    ----------
    name
        Of the group.
    rot_map_from_axes, shift_A
        Rotation ``[3, 3]`` and shift (x, y, z) of its frame: the map has at ``rot_map_from_axes @ r + shift_A`` what
        belongs at ``r``.
    worst, mean
        Correlation of the map with itself, turned by the operators of the group: the lowest, and the mean.
    between
        The same for turns half way between those about the main axis: high where the map is round.
    """

    name: str
    rot_map_from_axes: FloatArray
    shift_A: FloatArray
    worst: float
    mean: float
    between: float


@dataclass(frozen=True)
class SelfRotation:
    """What a map says of its own symmetry.

    Attributes
    ----------
    groups
        Candidates, the best first.
    best
        Highest correlation with itself of any turn that was tried.
    chance
        Standard deviation of the correlations at turns of no group.
    """

    groups: tuple[FoundGroup, ...]
    best: float
    chance: float

    def group(self) -> FoundGroup | None:
        """The largest group that the map has; None if it has none."""
        best = max((g.worst for g in self.groups), default=0.0)
        least = max(LEAST, OF_THE_BEST * best, ABOVE_CHANCE * self.chance)
        held = [g for g in self.groups if g.worst >= least and g.between < ROUND * g.worst]
        return max(held, key=lambda g: (len(point_group(g.name)), g.worst), default=None)


def self_rotation(volume: Float[Tensor, "n n n"], pixel_size_A: float, *, resolution_A: float) -> SelfRotation:
    """Compare a map with itself under turns of all orders about all axes, and fit point groups to what is found.

    The map is whitened to ``resolution_A`` and freed of its spherical average, so that the outline, which is nearly
    symmetric in most particles, does not count for more than the rest. Axes of each order are sought over the half
    sphere through the centre of mass (all axes of a symmetric map meet there). A group of several axes is searched
    about the axis of its first generator for the second one; then all generators are fitted together, with
    rotation and shift (compare the self-rotation function, Rossmann & Blow 1962).

    Parameters
    ----------
    volume
        Map, protein positive, its solvent flat or masked.
    pixel_size_A
        Of the map.
    resolution_A
        Finest features that are compared.
    """
    search = _Search(volume, pixel_size_A, resolution_A)
    found = [search.fitted(name) for name in _names()]
    groups = tuple(sorted((g for g in found if g is not None), key=lambda g: -g.worst))
    return SelfRotation(groups, search.best, search.chance)


def _names() -> list[str]:
    orders = range(2, HIGHEST_ORDER + 1)
    return [f"C{n}" for n in orders] + [f"D{n}" for n in orders] + list(POLYHEDRAL)


class _Search:
    """A whitened map at some thousand points, and the axes through its centre that it knows best."""

    def __init__(self, volume: Float[Tensor, "n n n"], pixel_size_A: float, resolution_A: float) -> None:
        n = volume.shape[0]
        self.n = min(n, 2 * math.ceil(n * pixel_size_A * PIXELS_PER_RESOLUTION / resolution_A / 2))
        self.pixel_size_A = n * pixel_size_A / self.n
        small = resample_3d(volume, self.n) if self.n < n else volume
        ball = soft_ball((self.n,) * 3, BALL_FRAC * self.n, 2.0, volume.device)
        self.centre_px, reach_px = _centre_and_reach(small)
        uneven = _without_radial_average(small, self.centre_px) * ball
        self.map = _detail(uneven, self.n * self.pixel_size_A / resolution_A) * ball
        points = voxel_places(self.n)
        points = points[(points - self.centre_px).norm(dim=1) <= min(reach_px, BALL_FRAC * self.n / 2)]
        chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:MOST_POINTS]
        self.points = points[chosen.sort().values].to(volume.device)
        self.reference = trilinear(self.map, self.points[None])[0]
        self.radius_px = reach_px
        order = next(k for k in range(1, 6) if healpix_spacing_rad(k) * reach_px <= RIM_SPACING_PX or k == 5)
        directions = healpix_directions(order)
        self.spacing_rad = healpix_spacing_rad(order)
        self.axes = directions[directions @ directions.new_tensor(_TO_ONE_SIDE) > 0]
        self.scores = {
            n_fold: self.correlation(turn_about(self.axes, 2.0 * math.pi / n_fold))
            for n_fold in range(2, HIGHEST_ORDER + 1)
        }
        every = np.concatenate(list(self.scores.values()))
        self.best = float(every.max())
        self.chance = 1.4826 * float(np.median(np.abs(every - np.median(every))))

    def correlation(self, turns: Float[Tensor, "turns 3 3"], shift_px: FloatArray | None = None) -> FloatArray:
        """Of the map with itself, turned about its centre, moved by ``shift_px``."""
        centre = self.centre_px if shift_px is None else self.centre_px + torch.as_tensor(shift_px)
        parts = []
        for some in torch.split(turns, max(1, POINTS_AT_ONCE // len(self.points))):
            turned = (self.points - centre) @ some.transpose(-1, -2).to(self.points) + centre
            values = trilinear(self.map, turned)
            # The larger of the norms, so that nothing is gained by moving where the map is empty.
            norm = values.norm(dim=1).clamp_min(self.reference.norm()) * self.reference.norm()
            parts.append((values @ self.reference / norm.clamp_min(1e-30)).double().cpu())
        return torch.cat(parts).numpy()

    def fitted(self, name: str) -> FoundGroup | None:
        """The frame in which the map has a group best; None where some generator is nowhere to be found."""
        parts = generators(name)
        order, axis = max(parts, key=lambda part: part[0])
        best: FoundGroup | None = None
        for peak in self._peaks(order):
            frame, score = self._about(peak, torch.tensor(axis, dtype=torch.float64), parts)
            if score < WORTH_A_CLIMB:
                continue
            candidate = self._refined(name, frame)
            if best is None or candidate.worst > best.worst:
                best = candidate
        return best

    def _peaks(self, order: int) -> list[Tensor]:
        """Axes about which a turn of this order changes the map least, not close to each other."""
        scores, peaks = self.scores[order].copy(), []
        for _ in range(PEAKS):
            at = int(scores.argmax())
            if scores[at] < PEAK_ABOVE_CHANCE * self.chance:
                break
            peaks.append(self.axes[at])
            scores[((self.axes @ self.axes[at]).abs() > math.cos(PEAK_WIDTH * self.spacing_rad)).numpy()] = -1.0
        return peaks

    def _about(self, peak: Tensor, axis: Tensor, parts: tuple[Generator, ...]) -> tuple[Tensor, float]:
        """The rotation, with an axis of the group on a peak, that gives the generators most in the mean; that mean."""
        onto = _rotation_onto(axis, peak)
        steps = max(1, math.ceil(2.0 * math.pi / self.spacing_rad)) if len(parts) > 1 else 1
        frames = torch.stack([turn_about(peak, 2.0 * math.pi * step / steps) @ onto for step in range(steps)])
        scores = np.zeros(steps)
        for order, about in parts:
            turn = turn_about(about, 2.0 * math.pi / order)
            scores += self.correlation(frames @ turn @ frames.transpose(-1, -2))
        return frames[int(scores.argmax())], float(scores.max()) / len(parts)

    def _refined(self, name: str, frame: Tensor) -> FoundGroup:
        """Climb in rotation and shift with the generators; then judge by all operators."""
        turns = torch.stack([turn_about(axis, 2.0 * math.pi / order) for order, axis in generators(name)])

        def placed(parameters: FloatArray, operators: Tensor) -> FloatArray:
            turned = matrix_from_rotation_vector(torch.as_tensor(parameters[:3] / self.radius_px)) @ frame
            return self.correlation(turned @ operators @ turned.T, parameters[3:])

        found = minimize(
            lambda parameters: -float(placed(parameters, turns).mean()),
            np.zeros(6), method="Powell", options={"xtol": 1e-2, "ftol": 1e-3, "maxfev": 150},
        )  # fmt: skip
        values = placed(found.x, point_group(name)[1:])
        order, axis = max(generators(name), key=lambda part: part[0])
        halves = torch.stack([turn_about(axis, math.pi * (2 * k + 1) / order) for k in range(order)])
        rotation = matrix_from_rotation_vector(torch.as_tensor(found.x[:3] / self.radius_px)) @ frame
        shift_px = self.centre_px.numpy() + found.x[3:]
        return FoundGroup(
            name, rotation.numpy(), shift_px * self.pixel_size_A, float(values.min()), float(values.mean()),
            float(placed(found.x, halves).mean()),
        )  # fmt: skip


def _detail(volume: Float[Tensor, "n n n"], radius_px: float) -> Float[Tensor, "n n n"]:
    """The map with even power in all shells up to a radius, but for the coarsest."""
    n = volume.shape[0]
    transform = centred_rfftn(volume)
    shell = shell_index_3d(n, volume.device)
    weight = low_pass(shell.to(volume.dtype), radius_px) * (shell > COARSEST_SHELLS)
    return centred_irfftn(whitened(transform, shell) * weight, n)


def _without_radial_average(volume: Float[Tensor, "n n n"], centre_px: Float[Tensor, " 3"]) -> Float[Tensor, "n n n"]:
    """What is left of a map when its mean at each distance from a centre is taken away."""
    distance = (voxel_places(len(volume)) - centre_px).norm(dim=1)
    ring = (distance + 0.5).long().to(volume.device)
    values = volume.reshape(-1).double()
    count = torch.bincount(ring)
    mean = sums_by_index(ring, values, len(count)) / count.clamp_min(1)
    return (values - mean[ring]).reshape(volume.shape).to(volume.dtype)


def _centre_and_reach(volume: Float[Tensor, "n n n"]) -> tuple[Float[Tensor, " 3"], float]:
    """Centre of mass (x, y, z) of what stands out, in px from the origin, and the largest distance from it."""
    n = volume.shape[0]
    threshold, _ = decided_threshold(volume.cpu().numpy())
    mass = (volume - threshold).clamp_min(0.0).double().cpu()
    zyx = torch.nonzero(mass > 0)
    weight = mass[tuple(zyx.T)]
    places = zyx.flip(1).double() - n // 2
    centre = (places * weight[:, None]).sum(dim=0) / weight.sum()
    distance = (places - centre).norm(dim=1)
    return centre, float(torch.quantile(distance[:: max(1, len(distance) // 100000)], REACH_QUANTILE))


def _rotation_onto(axis: Float[Tensor, " 3"], target: Float[Tensor, " 3"]) -> Float[Tensor, "3 3"]:
    """The smallest rotation that brings one direction onto another."""
    a, b = axis / axis.norm(), target / target.norm()
    cross, cosine = torch.linalg.cross(a, b), float(a @ b)
    if float(cross.norm()) < 1e-9:
        sideways = torch.linalg.cross(a, torch.eye(3, dtype=a.dtype)[int(a.abs().argmin())])
        return turn_about(sideways, 0.0 if cosine > 0 else math.pi)
    return turn_about(cross, math.atan2(float(cross.norm()), cosine))
