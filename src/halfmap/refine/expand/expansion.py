"""One row for every symmetry operator and particle: poses multiplied, images referenced.

A particle with the point group ``{S}`` that was refined in the pose ``A`` shows the same image in all poses
``A S`` (:func:`halfmap.geometry.symmetry.symmetrise_poses`). Written out as rows, each of its equivalent parts
comes to lie in the same place of the map once, so that a part can be looked at without the symmetry.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from halfmap.data.records import ImageSet
from halfmap.geometry.rotations import euler_from_matrix, matrix_from_euler
from halfmap.geometry.symmetry import canonical_name, point_group, symmetrise_poses
from halfmap.io.relion import stable_uids

POSE_COLUMNS = ("rot_rad", "tilt_rad", "psi_rad")


def why_expanded(images: ImageSet) -> str | None:
    """What says that particles were expanded before, or None: expanding them again would count views twice."""
    if "source_uid" in images.rows:
        return "the table has the column rlnHalfmapSourceUid, which expansion writes"
    repeated = [entry for entry in Counter(images["image_name"].tolist()).items() if entry[1] > 1]
    return f"the image {repeated[0][0]} stands in {repeated[0][1]} rows" if repeated else None


def expanded(images: ImageSet, symmetry: str) -> ImageSet:
    """Copies of each particle at all poses that are equivalent under a point group, one after the other.

    Each copy has a ``uid`` of its own, a hash of the particle's, the point group and the number of the operator;
    the particle's stands in ``source_uid``. Everything else, shift and half-set and image among it, is that of the
    particle: a turn of the map about its origin moves nothing in the image.

    Parameters
    ----------
    images
        Particles with their poses.
    symmetry
        Name of the point group.

    Raises
    ------
    HalfmapError
        If there are no poses, or no such point group.
    """
    images.require(POSE_COLUMNS, needed_for="symmetry expansion")
    name, operators = canonical_name(symmetry), point_group(symmetry)
    poses = matrix_from_euler(*(images[column].copy() for column in POSE_COLUMNS))
    euler = euler_from_matrix(symmetrise_poses(poses, operators)).reshape(-1, 3).numpy()
    source = np.repeat(images["uid"], len(operators))
    operator = np.tile(np.arange(len(operators)), len(images))
    labels = [f"{uid}:{name}:{number}" for uid, number in zip(source.tolist(), operator.tolist(), strict=True)]
    return images.select(np.repeat(np.arange(len(images)), len(operators))).with_columns(
        uid=stable_uids(labels), source_uid=source, rot_rad=euler[:, 0], tilt_rad=euler[:, 1], psi_rad=euler[:, 2]
    )
