"""To the nearest optimum of the likelihood: damped Gauss-Newton steps in rotation and shift, many poses at once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from halfmap.geometry.rotations import angular_distance_rad, matrix_from_rotation_vector
from halfmap.refine.images.alignment_box import Statistics
from halfmap.refine.images.lattice import Lattice
from halfmap.refine.search.local import PoseScores, SliceSource, pose_scores
from halfmap.refine.search.prior import PosePrior

FIRST_DAMPING = 1e-3
ENOUGH = 0.02
"""A step that promises less log-likelihood than this is not worth its evaluation."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Poses of some images, any number for each.

    Attributes
    ----------
    image
        Row of the image in its batch, ``[m]``.
    rot_img_from_map
        ``[m, 3, 3]`` float64.
    shift_box
        Fractions of the alignment box, relative to where the image was centred, ``[m, 2]`` float64.
    log_posterior
        Log-likelihood relative to an empty image plus log-prior of the shift, ``[m]``.
    information
        Fisher information and the prior's, ``[m, 5, 5]``.
    """

    image: Int[Tensor, " m"]
    rot_img_from_map: Float[Tensor, "m 3 3"]
    shift_box: Float[Tensor, "m 2"]
    log_posterior: Float[Tensor, " m"]
    information: Float[Tensor, "m 5 5"]

    def __len__(self) -> int:
        return len(self.image)

    def select(self, rows: Tensor) -> Candidates:
        """Some of them."""
        return Candidates(
            self.image[rows],
            self.rot_img_from_map[rows],
            self.shift_box[rows],
            self.log_posterior[rows],
            self.information[rows],
        )

    def log_evidence(self) -> Float[Tensor, " m"]:
        """Logarithm of the integral over each mode in Laplace's approximation."""
        ridge = 1e-9 * torch.eye(5).to(self.information)
        determinant: Tensor = torch.linalg.slogdet(self.information + ridge).logabsdet
        return self.log_posterior + 2.5 * math.log(2 * math.pi) - 0.5 * determinant


@dataclass(frozen=True, eq=False)
class Landscape:
    """All that the posterior of the poses of a batch depends on."""

    source: SliceSource
    lattice: Lattice
    statistics: Statistics
    prior: PosePrior

    def scores(self, image: Tensor, rot: Tensor, shift: Tensor, radius_px: int) -> PoseScores:
        """Log-posterior with derivatives from the shells up to a radius."""
        n_pixels = torch.full_like(image, self.lattice.count_within(radius_px))
        found = pose_scores(
            self.source, self.lattice.kx_px, self.lattice.ky_px,
            self.statistics.weighted, self.statistics.weights, image, rot, shift, n_pixels,
        )  # fmt: skip
        return self.prior.add_to(found, image, rot, shift)

    def scored(self, image: Tensor, rot: Tensor, shift: Tensor, radius_px: int) -> Candidates:
        """Poses with their log-posterior, as they are."""
        scores = self.scores(image, rot, shift, radius_px)
        return Candidates(image, rot, shift, scores.log_likelihood, scores.information)


def climb(
    landscape: Landscape,
    start: Candidates,
    radius_px: int,
    *,
    n_steps: int,
    max_turn_rad: float,
    max_shift_box: float,
) -> Candidates:
    """Follow each pose to its optimum with the shells up to a radius.

    Parameters
    ----------
    landscape
        What is climbed.
    start
        Where from.
    radius_px
        Shells of the landscape's lattice that count.
    n_steps
        Evaluations spent on each pose at most, besides the first.
    max_turn_rad, max_shift_box
        Longest step.
    """
    image, rot, shift = start.image, start.rot_img_from_map.clone(), start.shift_box.clone()
    scores = landscape.scores(image, rot, shift, radius_px)
    value, gradient, information = scores.log_likelihood, scores.gradient, scores.information
    damping = torch.full_like(value, FIRST_DAMPING)
    limits = value.new_tensor([max_turn_rad, max_shift_box])
    active = torch.arange(len(image), device=image.device)
    for _ in range(n_steps):
        step = _step(gradient[active], information[active], damping[active], limits)
        promised = (gradient[active] * step).sum(-1)
        go_on = promised > ENOUGH
        active, step = active[go_on], step[go_on]
        if not len(active):
            break
        new_rot = matrix_from_rotation_vector(step[:, :3]) @ rot[active]
        new_shift = shift[active] + step[:, 3:]
        tried = landscape.scores(image[active], new_rot, new_shift, radius_px)
        better = tried.log_likelihood > value[active]
        won = active[better]
        rot[won], shift[won], value[won] = new_rot[better], new_shift[better], tried.log_likelihood[better]
        gradient[won], information[won] = tried.gradient[better], tried.information[better]
        damping[active] = torch.where(better, damping[active] / 4, damping[active] * 10)
    return replace(start, rot_img_from_map=rot, shift_box=shift, log_posterior=value, information=information)


def _step(gradient: Tensor, information: Tensor, damping: Tensor, limits: Tensor) -> Tensor:
    """Damped steps, shortened as a whole where the turn or the shift would be too long."""
    diagonal = information.diagonal(dim1=-2, dim2=-1)
    ridge = diagonal * damping[:, None] + 1e-9 * diagonal.amax(dim=-1, keepdim=True) + 1e-12
    step: Tensor = torch.linalg.solve(information + torch.diag_embed(ridge), gradient)
    turn, move = step[:, :3].norm(dim=-1), step[:, 3:].norm(dim=-1)
    excess = torch.stack([turn / limits[0], move / limits[1]], dim=-1).amax(dim=-1).clamp(min=1.0)
    return step / excess[:, None]


def distinct(
    found: Candidates,
    n_images: int,
    keep: int,
    *,
    closer_than_rad: float,
    within: float,
    operators: Float[Tensor, "operators 3 3"],
) -> Candidates:
    """The best poses of each image that are not neighbours of a better one.

    Parameters
    ----------
    found
        Poses, in any order.
    n_images
        Images in the batch; each must have a pose.
    keep
        How many for each image at most.
    closer_than_rad
        Poses nearer than this, up to the symmetry, are one.
    within
        Poses whose log-posterior lies further below the best one are dropped.
    operators
        Of the point group; the identity alone for none.
    """
    # Sorted by image and falling posterior, as a table of images by ranks.
    order = torch.argsort(found.log_posterior, descending=True, stable=True)
    order = order[torch.argsort(found.image[order], stable=True)]
    counts = torch.bincount(found.image, minlength=n_images)
    first = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(order), device=order.device) - first[found.image[order]]
    width = int(counts.max())
    table = torch.full((n_images, width), -1, dtype=torch.int64, device=order.device)
    table[found.image[order], rank] = order
    value = torch.where(table >= 0, found.log_posterior[table], -torch.inf)
    value = torch.where(value >= value[:, :1] - within, value, -torch.inf)
    rot = found.rot_img_from_map[table]
    chosen = []
    for _ in range(keep):
        best = value.argmax(dim=1)
        alive = torch.isfinite(value.gather(1, best[:, None])[:, 0])
        chosen.append(table.gather(1, best[:, None])[alive, 0])
        centre = rot[torch.arange(n_images, device=rot.device), best]
        near = torch.zeros_like(value, dtype=torch.bool)
        for operator in operators:
            near |= angular_distance_rad(rot, (centre @ operator)[:, None]) < closer_than_rad
        near.scatter_(1, best[:, None], True)
        value = torch.where(near, -torch.inf, value)
    rows = torch.cat(chosen)
    return found.select(rows[torch.argsort(found.image[rows], stable=True)])
