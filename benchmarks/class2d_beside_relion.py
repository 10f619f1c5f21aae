"""`halfmap class2d` and RELION's 2D classification of the same simulated particles.

    python benchmarks/class2d_beside_relion.py --particles 3000 --box 128 --classes 50 --folder bench/class2d

Prints, for both: CPU seconds, wall seconds, peak memory, how many classes hold particles, how well a class is of one
view, and how fine the averages are. The view of a class is found from the truth alone: each particle's true pose,
turned back by the in-plane angle that the program gave it, says how the class would have to lie in the map; the mean of
these is the view. A particle belongs to its class if its true direction is within 20 degrees of that view (50 caps of
16 degrees cover the sphere). The average is compared with the projection of the true map at that view, centred
likewise: where the ring correlation falls below 0.5, median over particles; and, since the transform of a molecule has
rings of little power where a curve dips and recovers, its mean in bands of resolution, over particles. RELION runs with
the options that its interface offers for 2D classification (25 iterations, T = 2, in-plane steps of 12 degrees
oversampled once, shifts within 5 px in steps of 2), in one process, all images read beforehand; `--accelerated` runs
one with vectorised code for CPUs. A folder keeps what was measured in it, so that either program can be run alone
(`--who`); times depend on what else the machine does; compare their ratio.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from beside import (
    Facts,
    figures_of,
    halfmap,
    kept,
    particles_beside_truth,
    relion,
    relion_options,
    rotations,
    shifts_A,
    simulated,
    timed,
)

from halfmap.fourier.fsc import frc, resolution_A
from halfmap.fourier.shift import shift_images
from halfmap.fourier.slices import prepare_volume
from halfmap.fourier.slicing import extract_slices
from halfmap.fourier.transform import centred_irfft2
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.rotations import in_plane
from halfmap.io.mrc import open_stack, read_volume
from halfmap.units import DEG

ONE_VIEW_DEG = 20.0
BANDS_A = (200.0, 30.0, 20.0, 15.0, 12.0, 10.0, 8.0, 6.0)
LEAST_PARTICLES = 3
"""A class with fewer has no view to be found."""


def judged(folder: Path, found: str, averages: str, diameter_A: float) -> Facts:
    """Purity by view and resolution of the averages."""
    ours, truth, rows, true_rows = particles_beside_truth(folder / found, folder / "sim/truth.star")
    psi = torch.as_tensor(np.array(ours["psi_rad"])[rows])
    # Image = in_plane(psi) · class, and image = R · map: the class lies at in_plane(-psi) · R in the map.
    class_from_map = in_plane(-psi) @ rotations(truth, true_rows)
    # What is left of the shift after the program's centring, in the frame of the class.
    left = shifts_A(ours, rows) - shifts_A(truth, true_rows)
    centre_A = (in_plane(-psi)[:, :2, :2] @ left[..., None])[..., 0]
    members = np.array(ours["class_number"])[rows]
    volume = read_volume(folder / "sim/truth/map.mrc")
    stack = open_stack(folder / averages)
    n = stack[0].shape[-1]
    transform = prepare_volume(torch.as_tensor(np.array(volume.data)), n / 2 - 1)
    disc = soft_ball((n, n), diameter_A / volume.pixel_size_A, 4.0)
    edges = [math.ceil(n * volume.pixel_size_A / band_A) for band_A in BANDS_A]
    near, limit_A, in_bands, used = [], [], np.zeros(len(BANDS_A) - 1), 0
    for number in np.unique(members):
        rows_here = torch.as_tensor(np.flatnonzero(members == number))
        if len(rows_here) < LEAST_PARTICLES:
            near += [False] * len(rows_here)
            limit_A += [math.inf] * len(rows_here)
            continue
        used += 1
        view = mean_rotation(class_from_map[rows_here])
        cosine = class_from_map[rows_here][:, 2] @ view[2]
        near += (cosine > math.cos(ONE_VIEW_DEG * DEG)).tolist()
        at_view = torch.as_tensor(np.flatnonzero((cosine > math.cos(ONE_VIEW_DEG * DEG)).numpy()))
        offset_A = centre_A[rows_here][at_view].mean(dim=0) if len(at_view) else torch.zeros(2)
        projection = extract_slices(transform, view[None], n, n / 2 - 2)
        moved = centred_irfft2(shift_images(projection, (offset_A / volume.pixel_size_A)[None]), n)[0]
        curve = frc(torch.as_tensor(np.array(stack[int(number) - 1])).float() * disc, moved.float() * disc)
        limit_A += [resolution_A(curve, 0.5, n, volume.pixel_size_A)] * len(rows_here)
        means = [float(curve[first:end].mean()) for first, end in pairwise(edges)]
        in_bands += len(rows_here) / len(members) * np.array(means)
    names = [f"{coarse_A:g}-{fine_A:g} A" for coarse_A, fine_A in pairwise(BANDS_A)]
    return {
        "classes_used": used,
        "purity_by_view": round(float(np.mean(near)), 3),
        "truth_0.5_A": round(float(np.median(limit_A)), 2),
        "frc_in_bands": dict(zip(names, in_bands.round(2).tolist(), strict=True)),
    }


def mean_rotation(matrices: torch.Tensor) -> torch.Tensor:
    """The rotation nearest to most of many: the chordal mean, twice more of those within 45 degrees of it."""
    chosen = matrices
    for _ in range(3):
        u, _, vh = torch.linalg.svd(chosen.sum(dim=0))
        sign = torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ vh))], dtype=u.dtype))
        mean: torch.Tensor = u @ sign @ vh
        trace = torch.einsum("nij,ij->n", matrices, mean)
        inside = trace > 1 + 2 * math.cos(45 * DEG)
        chosen = matrices[inside] if bool(inside.any()) else matrices
    return mean


def relions(folder: Path, given: argparse.Namespace, diameter_A: float) -> Facts:
    """Time RELION's 2D classification."""
    (folder / "relion").mkdir(exist_ok=True)
    command = relion(
        "relion_refine", given.accelerated, "--i", "sim/particles.star", "--o", "relion/run",
        "--K", str(given.classes), "--iter", "25",
        "--tau2_fudge", "2", "--particle_diameter", f"{diameter_A:.0f}", "--ctf", "--flatten_solvent", "--zero_mask",
        "--oversampling", "1", "--psi_step", "12", "--offset_range", "5", "--offset_step", "2", "--norm", "--scale",
        "--pad", "2", "--dont_combine_weights_via_disc", "--preread_images", "--j", "1", "--random_seed", "1",
    )  # fmt: skip
    return timed(command, folder)


def main() -> None:
    """Simulate, classify twice, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=3000)
    parser.add_argument("--box", type=int, default=128, help="px")
    parser.add_argument("--pixel-size", type=float, default=1.8, help="Å")
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    relion_options(parser)
    given = parser.parse_args()
    folder = given.folder.resolve()
    simulated(
        folder, "--model", "asymmetric", "--particles", str(given.particles), "--box", str(given.box),
        "--pixel-size", str(given.pixel_size), "--snr", str(given.snr),
    )  # fmt: skip
    diameter_A = figures_of(folder / "sim")["diameter_A"] + 10
    runs: dict[str, tuple[Callable[[], Facts], str, str]] = {
        "halfmap": (
            lambda: halfmap(
                folder, "class2d", "sim/particles.star", "--classes", str(given.classes), "--diameter",
                str(diameter_A), "--threads", str(given.threads), "--out", "ours",
            ),
            "ours/particles.star", "ours/classes.mrcs",
        ),
        "relion": (
            lambda: relions(folder, given, diameter_A),
            "relion/run_it025_data.star", "relion/run_it025_classes.mrcs",
        ),
    }  # fmt: skip
    found = {
        name: kept(folder, name, run) | judged(folder, star, averages, diameter_A)
        for name, (run, star, averages) in runs.items()
        if given.who in (name, "both")
    }
    if len(found) == 2:
        found["relion_over_halfmap_cpu"] = round(found["relion"]["cpu_s"] / found["halfmap"]["cpu_s"], 1)
    print(json.dumps({"particles": given.particles, "box": given.box, "classes": given.classes} | found, indent=1))


if __name__ == "__main__":
    main()
