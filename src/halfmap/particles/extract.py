"""Cut particles out of micrographs."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from halfmap.fourier.crop import mirrored_index, resample_2d
from halfmap.fourier.grid import frequencies_2d
from halfmap.io.mrc import StackWriter, read_image
from halfmap.optics.ctf import ctf_2d
from halfmap.particles.box import BoxPlan
from halfmap.particles.contrast import contrast_evidence
from halfmap.particles.normalise import normalise_background
from halfmap.typing import Array, FloatArray

BATCH_BYTES = 256 * 2**20
CONTRAST_PIXELS_PER_DIAMETER = 24
CONTRAST_PARTICLES = 60
"""Particles of one micrograph that are looked at for the contrast."""


@dataclass(frozen=True, eq=False)
class MicrographTask:
    """The particles of one micrograph: their rows in the table, places, and how to cut them."""

    micrograph: str
    stem: str
    rows: Array
    x_px: FloatArray
    y_px: FloatArray
    plan: BoxPlan
    diameter_A: float
    optics: dict[str, float]
    """Voltage, Cs, amplitude contrast, and the defocus (columns of each particle) where it is known."""
    defocus: dict[str, FloatArray]

    @property
    def radius_px(self) -> float:
        """Radius of the particle in micrograph pixels."""
        return self.diameter_A / 2.0 / self.plan.micrograph_pixel_size_A


def fits(task: MicrographTask, shape: tuple[int, ...]) -> Array:
    """Which particles have their whole circle in a micrograph of that shape."""
    inside = np.ones(len(task.rows), dtype=bool)
    for position, size in ((task.y_px, shape[0]), (task.x_px, shape[1])):
        inside &= (position >= task.radius_px - 0.5) & (position <= size - 0.5 - task.radius_px)
    return inside


def cut(micrograph: FloatArray, x_px: FloatArray, y_px: FloatArray, size_px: int) -> FloatArray:
    """Square images ``[n, size, size]`` whose origin is the pixel nearest to each place.

    What a box would hold beyond the edge of the micrograph is mirrored.
    """
    columns, rows = np.rint(x_px).astype(np.int64), np.rint(y_px).astype(np.int64)
    half = size_px // 2
    offsets = np.arange(size_px) - half
    index_y = mirrored_index(rows[:, None] + offsets, micrograph.shape[0])
    index_x = mirrored_index(columns[:, None] + offsets, micrograph.shape[1])
    images: FloatArray = micrograph[index_y[:, :, None], index_x[:, None, :]].astype(np.float32)
    return images


def beyond_edge(task: MicrographTask, shape: tuple[int, ...]) -> Array:
    """Which boxes reach beyond the edge of the micrograph."""
    half = task.plan.cut_px // 2
    columns, rows = np.rint(task.x_px), np.rint(task.y_px)
    outside = (columns - half < 0) | (columns - half + task.plan.cut_px > shape[1])
    return np.asarray(outside | (rows - half < 0) | (rows - half + task.plan.cut_px > shape[0]), dtype=bool)


def particle_images(
    micrograph: FloatArray, task: MicrographTask, chosen: Array, box_px: int, device: str
) -> tuple[Tensor, Tensor]:
    """Cut, resample and normalise some particles of a task; images ``[n, y, x]`` and their spreads."""
    raw = torch.from_numpy(cut(micrograph, task.x_px[chosen], task.y_px[chosen], task.plan.cut_px)).to(device)
    raw = raw - raw.mean(dim=(1, 2), keepdim=True)
    images = resample_2d(raw, box_px)
    return normalise_background(images, task.radius_px * box_px / task.plan.cut_px)


def measure_contrast(task: MicrographTask, *, device: str) -> dict[str, Any]:
    """Evidence for white protein of some particles of a micrograph: ``{"evidence": [...]}``."""
    micrograph, _ = read_image(task.micrograph)
    chosen = np.flatnonzero(fits(task, micrograph.shape))
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), CONTRAST_PARTICLES)).round().astype(int)]
    if len(chosen) == 0:
        return {"evidence": []}
    coarse = CONTRAST_PIXELS_PER_DIAMETER * task.plan.cut_px / (2.0 * task.radius_px)
    box_px = min(task.plan.cut_px, 2 * max(8, round(coarse / 2.0)))
    images, spread = particle_images(micrograph, task, chosen, box_px, device)
    ctf = None
    if task.defocus:
        pixel_size_A = task.plan.micrograph_pixel_size_A * task.plan.cut_px / box_px
        fx, fy = frequencies_2d((box_px, box_px), pixel_size_A, device)
        values = {name: torch.from_numpy(column[chosen].copy()).to(device) for name, column in task.defocus.items()}
        ctf = ctf_2d(fx, fy, **values, **task.optics)
    evidence = contrast_evidence(images, task.radius_px * box_px / task.plan.cut_px, ctf)
    return {"evidence": evidence[(spread > 0).cpu().numpy()].round(4).tolist()}


def extract_micrograph(task: MicrographTask, *, folder: Path, sign: int, device: str) -> dict[str, Any]:
    """Write the stack of a micrograph's particles, protein white.

    Returns
    -------
    dict
        ``stack`` (file name, "" if no particle is left), ``rows`` of the table in the order of the
        stack, and counts: ``at_edge`` and ``constant`` (left out), ``mirrored`` (box reaches beyond
        the edge).
    """
    micrograph, _ = read_image(task.micrograph)
    inside = np.flatnonzero(fits(task, micrograph.shape))
    path = folder / "stacks" / f"{task.stem}.mrcs"
    batch = max(1, BATCH_BYTES // (8 * task.plan.cut_px**2))
    kept: list[int] = []
    with ExitStack() as closing:
        writer: StackWriter | None = None
        for start in range(0, len(inside), batch):
            chosen = inside[start : start + batch]
            images, spread = particle_images(micrograph, task, chosen, task.plan.box_px, device)
            good = (spread > 0).cpu().numpy()
            if good.any() and writer is None:
                edge_px = task.plan.box_px
                writer = closing.enter_context(StackWriter(path, None, (edge_px, edge_px), task.plan.pixel_size_A))
            if writer is not None and good.any():
                writer.write((sign * images).cpu().numpy()[good])
            kept += chosen[good].tolist()
    return {
        "stack": str(path) if kept else "",
        "rows": task.rows[kept].tolist(),
        "at_edge": len(task.rows) - len(inside),
        "constant": len(inside) - len(kept),
        "mirrored": int(beyond_edge(task, micrograph.shape)[kept].sum()),
    }
