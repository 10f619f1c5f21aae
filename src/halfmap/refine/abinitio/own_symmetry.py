"""The point group that a map found without symmetry has by itself, and the map and its poses in the group's frame."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from halfmap.refine.abinitio.hypothesis import Hypothesis
from halfmap.refine.session import Session
from halfmap.validation.align_maps import MapAlignment, aligned_map
from halfmap.validation.self_rotation import FoundGroup, self_rotation


def found_group(
    volume: Float[Tensor, "n n n"], pixel_size_A: float, resolution_A: float, session: Session
) -> FoundGroup | None:
    """The largest point group that a map has, told to the user; None if it has none."""
    found = self_rotation(volume, pixel_size_A, resolution_A=resolution_A)
    group = found.group()
    if group is None:
        session.log(f"the map has no point group: no turn keeps more than {found.best:.2f} of its detail")
        return None
    session.log(
        f"the map has the point group {group.name}: each of its turns keeps {group.worst:.2f} of the detail or more. "
        f"It is not imposed; the map and the poses are in the frame of its axes. Next: refine --symmetry {group.name}, "
        f"or abinitio --symmetry {group.name} for a better first map"
    )
    return group


def turned_poses(result: Hypothesis, group: FoundGroup) -> Hypothesis:
    """The poses in the frame of the group; maps stay as they are."""
    assignment, poses = result.assignment.copied(), result.rot_img_from_map
    moved_A = assignment.shift_A
    moved_A -= (poses @ group.shift_A)[:, :2]
    return replace(result, assignment=assignment, rot_img_from_map=poses @ group.rot_map_from_axes)


def turned_map(volume: Float[Tensor, "n n n"], pixel_size_A: float, group: FoundGroup) -> Float[Tensor, "n n n"]:
    """The map in the frame of the group."""
    frame = MapAlignment(group.rot_map_from_axes, group.shift_A, False, group.mean, group.mean)
    return aligned_map(volume, frame, pixel_size_A)
