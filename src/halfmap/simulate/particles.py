"""Stacks of particle images with known poses, defocus, classes and noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Bool, Float

from halfmap.data.halves import assign_half_sets
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.fourier.grid import frequencies_2d, friedel_weight
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.mrc import StackWriter, read_volume
from halfmap.io.relion import write_image_set
from halfmap.optics.electron import interaction_constant_rad_per_VA
from halfmap.simulate.options import SimulateParticlesOptions
from halfmap.simulate.poses import random_classes, random_defocus, random_euler_rad
from halfmap.simulate.projection import Optics, Projector, contrast_images
from halfmap.simulate.specimen import contrast_box_px
from halfmap.typing import Array, FloatArray
from halfmap.units import DEG

_BATCH: Final = 64
_PROBED: Final = 200
_COLOUR_STRENGTH: Final = 5.0
_COLOUR_A: Final = 30.0
_TRUTH_ONLY: Final = ("rot_rad", "tilt_rad", "psi_rad", "shift_x_A", "shift_y_A", "class_number")


@dataclass(frozen=True)
class MicrographTask:
    """The particles of one micrograph: its number, how many, the number of the first particle, optics group."""

    index: int
    count: int
    first: int
    group: int


@dataclass(frozen=True)
class GroupPlan:
    """What the images of one optics group share: maps of the classes, box, and factor from rad to noise units."""

    maps: tuple[Path, ...]
    box_px: int
    pixel_size_A: float
    scale: float


def micrograph_tasks(options: SimulateParticlesOptions) -> list[MicrographTask]:
    """Deal the particles to micrographs, and the micrographs to optics groups in turn."""
    per = options.particles_per_micrograph
    tasks = []
    for index, first in enumerate(range(1, options.particles + 1, per), start=1):
        count = min(per, options.particles - first + 1)
        tasks.append(MicrographTask(index, count, first, 1 + (index - 1) % len(options.pixel_size_A)))
    return tasks


def stack_file(folder: Path, index: int) -> Path:
    """Stack of the particles of a micrograph, numbered from 1."""
    return folder / "stacks" / f"micrograph_{index:05d}.mrcs"


def micrograph_name(index: int) -> str:
    """Name of the micrograph that the particles would come from; there is no such file."""
    return f"micrographs/micrograph_{index:05d}.mrc"


@lru_cache(maxsize=4)
def _projector(maps: tuple[Path, ...], options: SimulateParticlesOptions) -> Projector:
    """Projector of the maps that were written with these options."""
    return Projector([read_volume(path) for path in maps])


def _draw(count: int, options: SimulateParticlesOptions, generator: np.random.Generator) -> dict[str, FloatArray]:
    """True values of the particles of one micrograph under the names of their columns."""
    defocus = random_defocus(options.defocus_min_A, options.defocus_max_A, options.astigmatism_A, generator)
    euler = random_euler_rad(count, options.orientation_concentration, generator)
    shift = options.shift_A * generator.standard_normal((count, 2))
    offset = options.defocus_spread_A * generator.standard_normal(count)
    return {
        "rot_rad": euler[:, 0],
        "tilt_rad": euler[:, 1],
        "psi_rad": euler[:, 2],
        "shift_x_A": shift[:, 0],
        "shift_y_A": shift[:, 1],
        "defocus_u_A": defocus.u_A + offset,
        "defocus_v_A": defocus.v_A + offset,
        "defocus_angle_rad": np.full(count, defocus.angle_rad),
        "class_number": random_classes(count, options.class_weights, generator),
    }


def _clean_images(
    truth: Mapping[str, FloatArray], plan: GroupPlan, options: SimulateParticlesOptions, diameter_A: float
) -> Iterator[FloatArray]:
    """Noise-free images in batches ``[n, y, x]``, protein positive, in rad times the group's scale."""
    projector = _projector(plan.maps, options)
    optics = Optics(options.voltage_kV, options.cs_mm, options.amplitude_contrast, options.phase_shift_deg * DEG)
    sigma = interaction_constant_rad_per_VA(options.voltage_kV)
    largest = float(np.abs(truth["defocus_u_A"]).max())
    wide_px = max(contrast_box_px(diameter_A, largest, plan.pixel_size_A, options.voltage_kV), plan.box_px)
    wide_px += (wide_px - plan.box_px) % 2
    cut = wide_px // 2 - plan.box_px // 2
    for start in range(0, len(truth["rot_rad"]), _BATCH):
        value = {name: torch.from_numpy(np.array(column[start : start + _BATCH])) for name, column in truth.items()}
        rotations = matrix_from_euler(value["rot_rad"], value["tilt_rad"], value["psi_rad"])
        images = contrast_images(
            projector.project(rotations, value["class_number"].numpy()),
            wide_px,
            plan.pixel_size_A,
            defocus_u_A=value["defocus_u_A"],
            defocus_v_A=value["defocus_v_A"],
            defocus_angle_rad=value["defocus_angle_rad"],
            displacement_A=-torch.stack([value["shift_x_A"], value["shift_y_A"]], dim=1),
            optics=optics,
        )
        inner = slice(cut, cut + plan.box_px)
        yield (plan.scale * sigma) * images[:, inner, inner].numpy()


def circle_mask(box_px: int, diameter_px: float) -> Bool[np.ndarray, "{box_px} {box_px}"]:
    """Mask ``[y, x]`` of the pixels within a circle about the origin of an image."""
    axis = np.arange(box_px) - box_px // 2
    inside: Array = np.hypot(axis[:, None], axis[None]) <= diameter_px / 2.0
    return inside


def signal_variance(
    images: Float[np.ndarray, "n y x"], pixel_size_A: float, diameter_A: float
) -> Float[np.ndarray, " n"]:
    """Variance of each image ``[n, y, x]`` within the circle of the particle, ``[n]``."""
    inside = circle_mask(images.shape[-1], diameter_A / pixel_size_A)
    variance: FloatArray = images[:, inside].var(axis=1, dtype=np.float64)
    return variance


def plan_groups(
    options: SimulateParticlesOptions, maps: Sequence[tuple[Path, ...]], diameter_A: float, seed: int
) -> list[GroupPlan]:
    """Find the scale that gives the signal-to-noise ratio asked for.

    In optics group 1 the mean variance of the clean images within the particle's circle, over 200 probe
    particles, becomes ``snr`` times the variance of the noise, which is 1 in every group. The other groups have
    the same exposure per area, so their noise per pixel falls, and their scale grows, with the pixel size.
    """
    boxes = options.box_px if len(options.box_px) > 1 else options.box_px * len(options.pixel_size_A)
    unscaled = [
        GroupPlan(files, box, pixel, 1.0) for files, box, pixel in zip(maps, boxes, options.pixel_size_A, strict=True)
    ]
    generator = np.random.default_rng([seed, 4])
    probes = [_draw(1, options, generator) for _ in range(_PROBED)]
    probe = {name: np.concatenate([one[name] for one in probes]) for name in probes[0]}
    variances = [
        signal_variance(images, unscaled[0].pixel_size_A, diameter_A)
        for images in _clean_images(probe, unscaled[0], options, diameter_A)
    ]
    first = float(np.sqrt(options.snr / np.concatenate(variances).mean()))
    return [replace(plan, scale=first * plan.pixel_size_A / unscaled[0].pixel_size_A) for plan in unscaled]


def noise_amplitude(box_px: int, pixel_size_A: float, kind: str) -> Float[np.ndarray, "y x_half"]:
    """Amplitude ``[y, x//2+1]`` that turns white noise into noise of the kind asked for, of variance 1.

    Coloured noise has six times the power at low frequency, falling to white by about 1/15 Å.
    """
    fx, fy = frequencies_2d((box_px, box_px), pixel_size_A)
    k2 = (fx.square() + fy.square()).numpy()
    power = 1.0 + (_COLOUR_STRENGTH * np.exp(-k2 * _COLOUR_A**2) if kind == "coloured" else np.zeros_like(k2))
    weight = friedel_weight((box_px, box_px)).numpy()
    amplitude: FloatArray = np.sqrt(power / ((power * weight).sum() / box_px**2)).astype(np.float32)
    return amplitude


def simulate_micrograph(
    task: MicrographTask,
    *,
    options: SimulateParticlesOptions,
    plans: Sequence[GroupPlan],
    diameter_A: float,
    folder: Path,
    seed: int,
) -> Mapping[str, Any]:
    """Write the stack of the particles of one micrograph; return their true values, a list a column.

    The result depends on the options, the seed and the number of the micrograph alone.
    """
    generator = np.random.default_rng([seed, 5, task.index])
    plan = plans[task.group - 1]
    truth = _draw(task.count, options, generator)
    amplitude = torch.from_numpy(noise_amplitude(plan.box_px, plan.pixel_size_A, options.noise))
    shape = (plan.box_px, plan.box_px)
    with StackWriter(stack_file(folder, task.index), task.count, shape, plan.pixel_size_A) as writer:
        for images in _clean_images(truth, plan, options, diameter_A):
            white = torch.from_numpy(generator.standard_normal(images.shape, dtype=np.float32))
            noise = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=shape).numpy()
            writer.write(images + noise)
    return {name: column.tolist() for name, column in truth.items()}


def write_particle_tables(
    folder: Path,
    tasks: Sequence[MicrographTask],
    facts: Sequence[Mapping[str, Any]],
    options: SimulateParticlesOptions,
    plans: Sequence[GroupPlan],
    seed: int,
) -> int:
    """Write ``particles.star`` (images, optics, defocus, half-sets) and ``truth.star`` (poses and classes as well).

    Returns the number of particles.
    """
    groups = np.concatenate([[task.group] * task.count for task in tasks])
    names = [micrograph_name(task.index) for task in tasks for _ in range(task.count)]
    images = [f"{number:06d}@{stack_file(folder, task.index)}" for task in tasks for number in range(1, task.count + 1)]
    columns = {name: np.concatenate([fact[name] for fact in facts]) for name in facts[0]}
    rows = Table.of(
        uid=np.concatenate([task.first + np.arange(task.count) for task in tasks]),
        image_name=images,
        micrograph_name=names,
        optics_group=groups,
        half_set=assign_half_sets(names, seed),
        phase_shift_rad=[options.phase_shift_deg * DEG] * len(groups),
        **columns,
    )
    n = len(plans)
    optics = Table.of(
        optics_group=np.arange(1, n + 1),
        optics_group_name=[f"opticsGroup{number}" for number in range(1, n + 1)],
        voltage_kV=[options.voltage_kV] * n,
        cs_mm=[options.cs_mm] * n,
        amplitude_contrast=[options.amplitude_contrast] * n,
        image_pixel_size_A=[plan.pixel_size_A for plan in plans],
        box_px=[plan.box_px for plan in plans],
        image_dimensions=[2] * n,
    )
    write_image_set(folder / "truth.star", ImageSet("particles", rows, optics))
    write_image_set(folder / "particles.star", ImageSet("particles", rows.without(_TRUTH_ONLY), optics))
    return len(rows)
