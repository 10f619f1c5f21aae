"""One stack after another: a sample compared with the map, and all images without a part of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.data.records import ImageSet
from halfmap.errors import BadInputError
from halfmap.fourier.crop import mirrored_index
from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.threads import single_threaded_torch
from halfmap.fourier.transform import centred_irfft2, centred_rfft2
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import StackWriter
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import background_levels, read_each
from halfmap.refine.subtract.options import Storage
from halfmap.refine.subtract.projections import ModelImages
from halfmap.typing import Array, FloatArray

BATCH_BYTES = 64 * 2**20
FLOAT16_STEP = 0.1
"""Largest step between grey values of float16, in standard deviations of the background."""
FLOAT16_LARGEST = 6.0e4
"""Grey value that float16 holds with some room."""


@dataclass(frozen=True, eq=False)
class StackTask:
    """Images of one optics group that stand in one stack: their rows in the whole table, and their own table."""

    stem: str
    rows: Array
    images: ImageSet
    star: Path

    @property
    def group(self) -> int:
        """Position of the optics group in the table of optics."""
        return int(self.images.optics_index()[0])

    @property
    def pixel_size_A(self) -> float:
        """Of the images."""
        return float(self.images.pixel_size_A()[0])


@dataclass(frozen=True, eq=False)
class SubtractionPlan:
    """What all stacks share.

    Attributes
    ----------
    grid
        Sampling of the map.
    diameter_A
        Of the whole particle: background lies outside.
    centre_A
        New origin relative to the old one, (x, y, z) in the frame of the map, or None to stay.
    box_A
        Edge of the new boxes, or None to keep their size.
    scale
        Grey scale by position of the optics group.
    folder
        Where stacks go.
    storage
        Number format.
    """

    grid: MapGrid
    diameter_A: float
    centre_A: tuple[float, float, float] | None
    box_A: float | None
    scale: Mapping[int, float]
    folder: Path
    storage: Storage

    def scaled(self, scale: FloatArray) -> SubtractionPlan:
        """The plan with the grey scales of the optics groups."""
        return replace(self, scale=dict(enumerate(scale.tolist())))


def new_origins(images: ImageSet, centre_A: tuple[float, float, float] | None) -> tuple[Array, FloatArray]:
    """Pixels (x, y) by which boxes move, and shifts in Å that are left.

    A place ``c`` of the map is seen at ``(A c)_xy - shift`` from the origin of the image (ADR-0001). The box moves by
    whole pixels to the one nearest to it, so that no image is interpolated; the rest is the new shift.
    """
    shift = np.stack([images.rows.get(name, 0.0) for name in ("shift_x_A", "shift_y_A")], axis=1)
    if centre_A is None:
        return np.zeros(shift.shape, np.int64), shift
    rot = matrix_from_euler(*(images[name].copy() for name in ("rot_rad", "tilt_rad", "psi_rad"))).numpy()
    seen_A = (rot @ np.array(centre_A))[:, :2] - shift
    pixel_A = images.pixel_size_A()[:, None]
    moved_px = np.rint(seen_A / pixel_A).astype(np.int64)
    return moved_px, moved_px * pixel_A - seen_A


def cut_about(images: FloatArray, moved_px: Array, box_px: int) -> FloatArray:
    """Square boxes ``[n, box, box]`` whose origins lie (x, y) pixels from those of the images.

    What a box would hold beyond the edge of an image is mirrored.
    """
    n, n_y, n_x = images.shape
    offsets = np.arange(box_px) - box_px // 2
    index_y = mirrored_index(n_y // 2 + moved_px[:, 1:] + offsets, n_y)
    index_x = mirrored_index(n_x // 2 + moved_px[:, :1] + offsets, n_x)
    cut: FloatArray = images[np.arange(n)[:, None, None], index_y[:, :, None], index_x[:, None, :]]
    return cut


def measure_stack(task: StackTask, *, plan: SubtractionPlan, slices: Path, device: str) -> dict[str, Any]:
    """Sums of image times projection of the whole map, and of its square, by shell of the map.

    Images have background 0 with standard deviation 1, as in refinement: ``{"group", "cross", "power"}``.
    """
    n_shells = plan.grid.nyquist_px + 1
    sums = np.zeros((2, n_shells))
    with single_threaded_torch():
        for batch in _usable_batches(task, plan, device, []):
            model = ModelImages(slices, plan.grid, batch.edge_px, task.pixel_size_A, device)
            normalised = (batch.images - batch.mean[:, None, None]) / batch.deviation[:, None, None]
            found = model.pixels.gather(centred_rfft2(normalised.float()))
            expected = model(task.images, batch.rows)
            # Parseval: these are sums over the pixels of the image.
            weight = model.pixels.multiplicity.double() / batch.edge_px**2
            products = (found.real * expected.real + found.imag * expected.imag).double().sum(dim=0) * weight
            squares = (expected.real.square() + expected.imag.square()).double().sum(dim=0) * weight
            shells = model.map_shells().clamp(max=n_shells - 1)
            for total, values in zip(sums, (products, squares), strict=True):
                total += sums_by_index(shells, values, n_shells).cpu().numpy()
    return {"group": task.group, "cross": sums[0].tolist(), "power": sums[1].tolist()}


def subtract_stack(task: StackTask, *, plan: SubtractionPlan, slices: Path, device: str) -> dict[str, Any]:
    """Write a stack of the images minus the projections of what ``slices`` holds, on the images' own grey scale.

    Returns
    -------
    dict
        ``stack`` (file name), ``rows`` of the whole table in the order of the stack, ``box_px``, and ``faults``:
        what is wrong with the images that were left out.

    Raises
    ------
    BadInputError
        If no image can be used, or float16 cannot tell the grey values apart.
    """
    path = plan.folder / "stacks" / f"{task.stem}.mrcs"
    box_px = 0
    moved_px, _ = new_origins(task.images, plan.centre_A)
    kept: list[int] = []
    faults: list[str] = []
    with single_threaded_torch(), ExitStack() as closing:
        writer: StackWriter | None = None
        for batch in _usable_batches(task, plan, device, faults):
            model = ModelImages(slices, plan.grid, batch.edge_px, task.pixel_size_A, device)
            projections = centred_irfft2(model.pixels.scatter(model(task.images, batch.rows)), batch.edge_px)
            grey = plan.scale[task.group] * batch.deviation
            rest = batch.images - grey.float()[:, None, None] * projections
            if plan.storage == "float16":
                _check_steps(batch, task)
            if writer is None:
                box_px = _new_edge_px(batch.edge_px, task, plan)
                writer = closing.enter_context(
                    StackWriter(path, None, (box_px, box_px), task.pixel_size_A, dtype=np.dtype(plan.storage))
                )
            writer.write(cut_about(rest.cpu().numpy(), moved_px[batch.rows], box_px))
            kept += batch.rows.tolist()
    if not kept:
        raise BadInputError(task.images["image_name"][0].rpartition("@")[2], "images", found="none that can be used",
                            expected="at least one", remedy=faults[0])  # fmt: skip
    return {"stack": str(path), "rows": task.rows[kept].tolist(), "box_px": box_px, "faults": faults}


def _new_edge_px(edge_px: int, task: StackTask, plan: SubtractionPlan) -> int:
    """Pixels along the new box: as many as its length needs, an even number."""
    if plan.box_A is None:
        return edge_px
    box_px = 2 * math.ceil(plan.box_A / task.pixel_size_A / 2 - 1e-3)
    if box_px > edge_px:
        raise BadInputError(task.images["image_name"][0], "box", found=f"{edge_px} px",
                            expected=f"at least the new box, {box_px} px of {task.pixel_size_A:g} Å",
                            remedy="Give a smaller --box.")  # fmt: skip
    return box_px


@dataclass(frozen=True, eq=False)
class _Batch:
    """Some images of a task, by row of its table, and the mean and deviation (float64) of their backgrounds."""

    rows: Array
    images: Float[Tensor, "n y x"]
    mean: Float[Tensor, " n"]
    deviation: Float[Tensor, " n"]

    @property
    def edge_px(self) -> int:
        return self.images.shape[-1]


def _usable_batches(task: StackTask, plan: SubtractionPlan, device: str, faults: list[str]) -> Iterator[_Batch]:
    """Images that can be used, a few at a time; what is wrong with the others is added to ``faults``."""
    reader = ParticleImages(task.images, task.star)
    n_y, n_x = reader.shape(0)
    if n_y != n_x:
        raise BadInputError(task.images["image_name"][0], "shape", found=f"{n_x} x {n_y}", expected="a square image",
                            remedy="Extract the particles again.")  # fmt: skip
    step = max(1, BATCH_BYTES // (4 * n_y * n_x))
    for start in range(0, len(task.images), step):
        rows, images, unreadable = read_each(reader, np.arange(start, min(start + step, len(task.images))))
        faults += unreadable
        if not len(rows):
            continue
        images = images.to(device)
        mean, deviation, usable = background_levels(images, plan.diameter_A / task.pixel_size_A)
        good = usable.cpu().numpy()
        faults += [f"{name}: the background is constant" for name in task.images["image_name"][rows[~good]]]
        if good.any():
            yield _Batch(rows[good], images[usable], mean[usable], deviation[usable])


def _check_steps(batch: _Batch, task: StackTask) -> None:
    """Refuse images whose grey values float16 cannot tell apart or not hold."""
    level = batch.mean.abs() + 3 * batch.deviation
    step = 2.0 ** (torch.floor(torch.log2(level)) - 10)
    bad = (step > FLOAT16_STEP * batch.deviation) | (batch.images.abs().amax(dim=(1, 2)) > FLOAT16_LARGEST)
    if bool(bad.any()):
        first = int(torch.nonzero(bad)[0])
        raise BadInputError(
            task.images["image_name"][batch.rows[first]], "grey values",
            found=f"{float(batch.mean[first]):g} with deviation {float(batch.deviation[first]):g}",
            expected="values that float16 can tell apart", remedy="Give --storage float32.",
        )  # fmt: skip
