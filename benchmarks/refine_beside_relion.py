"""`halfmap refine` and RELION's auto-refinement on the same simulated particles, from the same start.

    python benchmarks/refine_beside_relion.py --particles 3000 --box 128 --model asymmetric --folder bench/c1
    python benchmarks/refine_beside_relion.py --particles 1000 --box 200 --model cage --symmetry O --folder bench/o
    python benchmarks/refine_beside_relion.py --particles 5000 --box 256 --box 216 --pixel-size 1 --pixel-size 1.2 \
        --model asymmetric --folder bench/groups

Prints, for both: CPU seconds, wall seconds, peak memory of a process, FSC = 0.143 of the halves, FSC = 0.5 with the
truth, and the median errors of the poses. RELION runs with three MPI ranks (one leads, one for each half),
`--auto_refine --split_random_halves --firstiter_cc --flatten_solvent --zero_mask --oversampling 1`, starting at
HEALPix order 2 (7.5 degrees), with local searches from order 4 on: what its interface offers for a first refinement.
`--mask` gives RELION a mask made from the truth and `--solvent_correct_fsc`, as users do in a second refinement.
Debian's RELION has no vectorised code for CPUs; `--accelerated` runs one that has. The leading rank does nothing but
wait, in a loop that spends CPU time; it is not counted. A folder keeps what was measured in it, so that either program
can be run alone (`--who`). Times depend on what else the machine does; compare their ratio.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
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

from halfmap.geometry.rotations import angular_distance_rad
from halfmap.geometry.symmetry import nearest_equivalent, point_group
from halfmap.io.star import read_star
from halfmap.units import DEG

RANK = 'relion_refine_mpi "$@" && times > rank$OMPI_COMM_WORLD_RANK'


def judged(folder: Path, volume: str, star: str, symmetry: str) -> Facts:
    """FSC = 0.5 of a map with the truth (None if it never is above), and the median errors of the poses."""
    out = "compared_" + Path(volume).stem
    if not (folder / out / "job.json").exists():
        halfmap(folder, "compare", volume, "sim/truth/map.mrc", "--symmetry", symmetry, "--out", out)
    figures = figures_of(folder / out)
    found, truth, rows, true_rows = particles_beside_truth(folder / star, folder / "sim/truth.star")
    true_rot = rotations(truth, true_rows)
    nearest = nearest_equivalent(rotations(found, rows), true_rot, point_group(symmetry))
    error_deg = angular_distance_rad(nearest, true_rot) / DEG
    moved_A = shifts_A(found, rows) - shifts_A(truth, true_rows)
    return {
        "truth_0.5_A": figures["resolution_reference_A"],
        "pose_error_deg": round(float(error_deg.median()), 2),
        "astray_frac": round(float((error_deg > 10).double().mean()), 3),
        "shift_error_A": round(float(moved_A.norm(dim=1).median()), 2),
    }


def ours(folder: Path, given: argparse.Namespace, diameter_A: float) -> Facts:
    """Time our refinement; the resolution that it states."""
    spent = halfmap(
        folder, "refine", "sim/particles.star", "--reference", "sim/truth/map.mrc", "--symmetry", given.symmetry,
        "--diameter", str(diameter_A), "--initial-resolution", str(given.start), "--threads", str(given.threads),
        "--out", "ours",
    )  # fmt: skip
    figures = figures_of(folder / "ours")
    return spent | {"fsc_0.143_A": round(figures["resolution_A"], 2), "iterations": figures["iterations"]}


def relions(folder: Path, given: argparse.Namespace, diameter_A: float) -> Facts:
    """Time RELION's auto-refinement; the resolution that it states."""
    (folder / "relion").mkdir(exist_ok=True)
    command = [
        "mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-np", "3",
        "bash", "-c", RANK,
        *relion(
            "relion_refine_mpi", given,
            "--auto_refine", "--split_random_halves", "--i", "sim/particles.star", "--o", "relion/run",
            "--ref", "sim/truth/map.mrc", "--firstiter_cc", "--ini_high", str(given.start), "--ctf",
            "--flatten_solvent", "--zero_mask", "--particle_diameter", f"{diameter_A:.0f}", "--sym", given.symmetry,
            "--oversampling", "1", "--healpix_order", "2", "--auto_local_healpix_order", "4", "--offset_range", "5",
            "--offset_step", "2", "--low_resol_join_halves", "40", "--norm", "--scale", "--pad", "2",
            "--dont_combine_weights_via_disc", "--preread_images", "--j", "1", "--random_seed", "1",
            *(masked(folder) if given.mask else ()),
        ),
    ]  # fmt: skip
    spent = timed(command, folder)
    spent["cpu_s"] = round(sum(_cpu_s(folder / f"rank{rank}") for rank in (1, 2)), 1)
    general = read_star(folder / "relion" / "run_model.star")["model_general"]
    stated_A = float(np.ravel(general["rlnCurrentResolution"])[0])
    iterations = len(list((folder / "relion").glob("run_it*_optimiser.star"))) - 1
    return spent | {"fsc_0.143_A": round(stated_A, 2), "iterations": iterations}


def masked(folder: Path) -> list[str]:
    """Options for a mask made from the truth: the best that a user could draw."""
    if not (folder / "mask" / "mask.mrc").exists():
        halfmap(folder, "mask", "sim/truth/map.mrc", "--out", "mask")
    return ["--solvent_mask", "mask/mask.mrc", "--solvent_correct_fsc"]


def _cpu_s(file: Path) -> float:
    """CPU seconds of the children, from what the shell's ``times`` printed."""
    spent = file.read_text().splitlines()[1].split()
    return sum(60 * float(minutes) + float(seconds[:-1]) for minutes, seconds in (part.split("m") for part in spent))


def main() -> None:
    """Simulate, refine twice, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--box", type=int, action="append", help="px, once for each optics group")
    parser.add_argument("--pixel-size", type=float, action="append", help="Å, once for each optics group")
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--model", default="asymmetric")
    parser.add_argument("--symmetry", default="C1")
    parser.add_argument("--start", type=float, default=30.0, help="low-pass of the starting map, Å")
    parser.add_argument("--threads", type=int, default=2)
    relion_options(parser)
    parser.add_argument("--mask", action="store_true", help="give RELION a mask made from the truth")
    parser.add_argument("--who", choices=["halfmap", "relion", "both"], default="both")
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")
    given = parser.parse_args()
    folder = given.folder.resolve()
    boxes = [word for box in given.box or [128] for word in ("--box", str(box))]
    pixels = [word for pixel in given.pixel_size or [1.8] for word in ("--pixel-size", str(pixel))]
    simulated(
        folder, "--model", given.model, "--particles", str(given.particles), *boxes, *pixels, "--snr", str(given.snr)
    )
    diameter_A = figures_of(folder / "sim")["diameter_A"] + 10
    runs: dict[str, tuple[Callable[[argparse.Namespace], Facts], str, str]] = {
        "halfmap": (lambda g: ours(folder, g, diameter_A), "ours/map.mrc", "ours/particles.star"),
        "relion": (lambda g: relions(folder, g, diameter_A), "relion/run_class001.mrc", "relion/run_data.star"),
    }
    found = {
        name: kept(folder, name, lambda run=run: run(given)) | judged(folder, volume, star, given.symmetry)
        for name, (run, volume, star) in runs.items()
        if given.who in (name, "both")
    }
    if len(found) == 2:
        found["relion_over_halfmap_cpu"] = round(found["relion"]["cpu_s"] / found["halfmap"]["cpu_s"], 1)
    facts = {name: value for name, value in vars(given).items() if name not in ("folder", "who", "accelerated")}
    print(json.dumps(facts | found, indent=1))


if __name__ == "__main__":
    main()
