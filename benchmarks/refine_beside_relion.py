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

from auto_refine import Refinement
from beside import (
    Facts,
    figures_of,
    halfmap,
    kept,
    particles_beside_truth,
    relion_options,
    rotations,
    shifts_A,
    simulated,
)

from halfmap.geometry.rotations import angular_distance_rad
from halfmap.geometry.symmetry import nearest_equivalent, point_group
from halfmap.units import DEG


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


def truth_mask(folder: Path) -> str:
    """A mask made from the truth: the best that a user could draw."""
    if not (folder / "mask" / "mask.mrc").exists():
        halfmap(folder, "mask", "sim/truth/map.mrc", "--out", "mask")
    return "mask/mask.mrc"


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
    given = parser.parse_args()
    folder = given.folder.resolve()
    boxes = [word for box in given.box or [128] for word in ("--box", str(box))]
    pixels = [word for pixel in given.pixel_size or [1.8] for word in ("--pixel-size", str(pixel))]
    simulated(
        folder, "--model", given.model, "--particles", str(given.particles), *boxes, *pixels, "--snr", str(given.snr)
    )
    task = Refinement(
        folder=folder,
        particles="sim/particles.star",
        reference="sim/truth/map.mrc",
        symmetry=given.symmetry,
        diameter_A=figures_of(folder / "sim")["diameter_A"] + 10,
        start_A=given.start,
        threads=given.threads,
        accelerated=given.accelerated,
        mask=truth_mask(folder) if given.mask else None,
    )
    runs: dict[str, tuple[Callable[[], Facts], str, str]] = {
        "halfmap": (task.ours, "ours/map.mrc", "ours/particles.star"),
        "relion": (task.relions, "relion/run_class001.mrc", "relion/run_data.star"),
    }
    found = {
        name: kept(folder, name, run) | judged(folder, volume, star, given.symmetry)
        for name, (run, volume, star) in runs.items()
        if given.who in (name, "both")
    }
    if len(found) == 2:
        found["relion_over_halfmap_cpu"] = round(found["relion"]["cpu_s"] / found["halfmap"]["cpu_s"], 1)
    facts = {name: value for name, value in vars(given).items() if name not in ("folder", "who", "accelerated")}
    print(json.dumps(facts | found, indent=1))


if __name__ == "__main__":
    main()
