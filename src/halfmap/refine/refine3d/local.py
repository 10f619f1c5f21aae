"""Local refinement: poses that particles come with, and the part of the particle that is in focus."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError, HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.search.prior import GivenPoses, exchanges_of
from halfmap.typing import PathLike

POSE_COLUMNS = ("rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A")
IN_FOCUS = 0.5
"""Value of a mask from which on a voxel counts as within it."""


@dataclass(frozen=True)
class Focus:
    """Centre (x, y, z from the centre of the box) and diameter of what poses are sought for."""

    fulcrum_A: tuple[float, float, float]
    diameter_A: float


def focus_of(options: RefineOptions, mask: Float[Tensor, "z y x"] | None, grid: MapGrid) -> Focus:
    """What is in focus: what is within the mask in a local search, the whole particle in any other.

    Where symmetry is relaxed a particle may turn by any of its operators, which move all but the centre.

    Raises
    ------
    HalfmapError
        If the fulcrum lies outside the box.
    """
    whole = Focus((0.0, 0.0, 0.0), options.diameter_A)
    if (
        options.local_angle_deg is None
        or options.relax_symmetry is not None
        or (mask is None and options.fulcrum_A is None)
    ):
        return whole
    if mask is None:
        focus = Focus(options.fulcrum_A or whole.fulcrum_A, options.diameter_A)
    else:
        z, y, x = ((np.indices(mask.shape)[:, mask.numpy() > IN_FOCUS] - grid.box_px // 2) * grid.pixel_size_A).copy()
        inside = np.stack([x, y, z], axis=1)
        fulcrum = np.asarray(options.fulcrum_A) if options.fulcrum_A is not None else inside.mean(axis=0)
        reach_A = float(np.linalg.norm(inside - fulcrum, axis=1).max())
        focus = Focus((float(fulcrum[0]), float(fulcrum[1]), float(fulcrum[2])), 2 * reach_A)
    if max(map(abs, focus.fulcrum_A)) > grid.length_A / 2:
        raise HalfmapError(
            f"the fulcrum {focus.fulcrum_A} lies outside the box, {grid.length_A / 2:.0f} Å from its centre to an edge",
            remedy="Give --fulcrum in Å from the centre of the box.",
        )
    return focus


def given_poses(images: ImageSet, star: PathLike, options: RefineOptions) -> GivenPoses | None:
    """What is known of the poses of all particles; None if everything is to be searched.

    Raises
    ------
    BadInputError
        If poses are to be kept to that the particles do not have, or copies of one particle would be searched
        everywhere.
    HalfmapError
        If the symmetry is no part of the one that is relaxed.
    """
    if options.local_angle_deg is None:
        _refuse_copies(images, star)
        if options.relax_symmetry is None:
            return None
    missing = [name for name in POSE_COLUMNS if name not in images]
    if missing:
        raise BadInputError(
            Path(star), "columns", found=f"no {', '.join(missing)}", expected="poses and shifts of a refinement",
            remedy="Give the particles of a refinement, or leave out --local-angle and --relax-symmetry.",
        )  # fmt: skip
    angles = (torch.as_tensor(np.array(images[name], dtype=np.float64)) for name in POSE_COLUMNS[:3])
    shift = torch.as_tensor(np.stack([np.array(images[name], dtype=np.float64) for name in POSE_COLUMNS[3:]], axis=1))
    try:
        exchanges = exchanges_of(options.relax_symmetry or options.symmetry, options.symmetry)
    except ValueError as error:
        raise HalfmapError(
            f"the symmetry cannot be relaxed: {error}",
            remedy=f"Give a group whose axes hold all of {options.symmetry}, and C1 if in doubt.",
        ) from error
    sigma_rad = math.inf if options.local_angle_deg is None else math.radians(options.local_angle_deg)
    return GivenPoses(matrix_from_euler(*angles), shift, sigma_rad, options.local_shift_A, exchanges)


def _refuse_copies(images: ImageSet, star: PathLike) -> None:
    """Copies that symmetry expansion made of one particle would all end at its one best pose."""
    if "source_uid" not in images:
        return
    n_sources = len(np.unique(images["source_uid"]))
    if n_sources < len(images):
        raise BadInputError(
            Path(star), "particles", found=f"{len(images)} copies of {n_sources} particles (symmetry expansion)",
            expected="each particle once in a search everywhere",
            remedy="Give --local-angle, a few degrees, or the particles before their expansion.",
        )  # fmt: skip
