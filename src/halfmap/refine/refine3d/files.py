"""A refinement's inputs and outputs as files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet, Volume
from halfmap.geometry.rotations import euler_from_matrix
from halfmap.io.curves import shell_columns
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import read_volume, write_volume
from halfmap.io.relion import write_image_set
from halfmap.io.star import StarBlock, write_star
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.masks import read_mask
from halfmap.refine.images.observations import Observations
from halfmap.refine.images.sources import check_diameter, half_sets, map_grid, report_faults
from halfmap.refine.memory import planned, refinement_need
from halfmap.refine.refine3d.local import given_poses
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.refine3d.refinement import Present, Refined, Refinement, shift_range_A
from halfmap.refine.session import Session
from halfmap.typing import PathLike
from halfmap.validation.noise_control import judge_orientations
from halfmap.validation.orientations import orientation_cover


def refine_particles(
    images: ImageSet, star: PathLike, options: RefineOptions, folder: Path, device: str, session: Session
) -> dict[str, Any]:
    """Refine particles and write ``half1.mrc``, ``half2.mrc``, ``map.mrc`` and the tables into a folder.

    With local regularisation also ``cutoff.mrc``, the cut-off in Å of the low-pass filter of each place.

    Parameters
    ----------
    images
        The particles.
    star
        The file that they were read from.
    options
        Declared options.
    folder
        Where outputs go.
    device
        Where tensors live.
    session
        Log, progress, checkpoints, limits.

    Returns
    -------
    Figures for the record of the job.

    Raises
    ------
    HalfmapError
        If more than 5 % of the particles cannot be used, or inputs contradict each other.
    """
    images = images.with_columns(half_set=half_sets(images, session))
    reader = ParticleImages(images, star)
    grid = map_grid(images, reader)
    check_diameter(star, options.diameter_A, grid)
    mask = None if options.mask is None else read_mask(options.mask, grid)
    need = refinement_need(
        len(images), grid, options.diameter_A, options.symmetry, shift_range_A(options, grid.pixel_size_A)
    )
    plan = planned(need, session.memory_GB, session.threads)
    plan.tell(session)
    observations = Observations(
        images, reader, grid, options.diameter_A, device=device, memory_GB=plan.transforms_GB, cache_folder=folder
    )
    n_bad = report_faults(observations, session)
    reference = read_volume(options.reference)
    given = given_poses(images, star, options)
    refined = Refinement(
        observations, images["half_set"], reference, mask, options, session, given, plan.threads,
        partial(write_present, images, grid),
    ).run()  # fmt: skip
    cover = orientation_cover(refined.poses.rot_img_from_map[:, 0], options.symmetry)
    for verdict in judge_orientations(cover):
        session.warn(verdict.message)
    particles = with_poses(images, refined)
    write_image_set(folder / "particles.star", particles)
    _write_maps(folder, refined, grid)
    write_star(folder / "fsc.star", {"fsc": fsc_block(refined, grid)})
    write_star(folder / "iterations.star", {"iterations": _iteration_block(refined.iterations)})
    return {
        "items_in": len(images),
        "items_out": len(particles),
        "resolution_A": refined.resolution_A,
        "iterations": len(refined.iterations),
        "unusable_particles": n_bad,
        "planned_memory_GB": round(plan.peak_GB, 3),
        "orientation_scf": round(cover.scf_star, 3),
        "unseen_frac": round(cover.unsampled_frac, 4),
    }


def write_present(images: ImageSet, grid: MapGrid, folder: Path, present: Present) -> dict[str, Any]:
    """Map, FSC, poses and iterations as they are now, under the names of the final ones; what to say of them."""
    particles = _posed(images.select(present.rows), present.rot_img_from_map, present.shift_A)
    write_image_set(folder / "particles.star", particles)
    write_volume(folder / "map.mrc", Volume(present.map.cpu().numpy(), present.pixel_size_A))
    shells = np.arange(len(present.fsc), dtype=np.float64)
    curve = {**shell_columns(shells / grid.length_A), "rlnFourierShellCorrelationCorrected": present.fsc.numpy()}
    write_star(folder / "fsc.star", {"fsc": StarBlock(curve)})
    write_star(folder / "iterations.star", {"iterations": _iteration_block(present.iterations)})
    last = present.iterations[-1]
    return {"iteration": last["iteration"], "resolution_A": last["resolution_A"]}


def with_poses(images: ImageSet, refined: Refined) -> ImageSet:
    """The particles that were used, in the order of the input, with their poses; other columns as they were."""
    order = np.argsort(refined.rows, kind="stable")
    poses = refined.poses
    posed = _posed(images.select(refined.rows[order]), poses.rot_img_from_map[order, 0], poses.shift_A[order, 0])
    return posed.with_columns(
        log_likelihood_contribution=poses.log_likelihood.numpy()[order],
        max_posterior=poses.weight[:, 0].numpy()[order],
    )


def _posed(images: ImageSet, rot_img_from_map: Float[Tensor, "n 3 3"], shift_A: Float[Tensor, "n 2"]) -> ImageSet:
    euler, shift = euler_from_matrix(rot_img_from_map).numpy(), shift_A.numpy()
    return images.with_columns(
        rot_rad=euler[:, 0], tilt_rad=euler[:, 1], psi_rad=euler[:, 2], shift_x_A=shift[:, 0], shift_y_A=shift[:, 1]
    )


def fsc_block(refined: Refined, grid: MapGrid) -> StarBlock:
    """Table of the FSC curves, with RELION's labels where it has them."""
    shells = np.arange(len(refined.fsc), dtype=np.float64)
    return StarBlock(
        {
            **shell_columns(shells / grid.length_A),
            "rlnFourierShellCorrelationCorrected": refined.fsc.numpy(),
            "rlnFourierShellCorrelationUnmaskedMaps": refined.fsc_unmasked.numpy(),
        }
    )


def _iteration_block(iterations: list[dict[str, Any]]) -> StarBlock:
    return StarBlock({name: np.array([facts[name] for facts in iterations]) for name in iterations[0]})


def _write_maps(folder: Path, refined: Refined, grid: MapGrid) -> None:
    maps = {
        "half1.mrc": refined.half_maps[0],
        "half2.mrc": refined.half_maps[1],
        "map.mrc": refined.map,
        "mask.mrc": refined.mask,
    }
    if refined.cutoff_A is not None:
        maps["cutoff.mrc"] = refined.cutoff_A
    for name, volume in maps.items():
        write_volume(folder / name, Volume(volume.cpu().numpy(), grid.pixel_size_A))
