"""`halfmap refine` and RELION's auto-refinement on the same simulated particles, from the same start, in one run.

    python benchmarks/refine_beside_relion.py --particles 1000 --box 96 --pixel-size 2 --model cage --symmetry O

Prints, for both: CPU seconds, wall seconds, FSC = 0.143 of the halves, FSC = 0.5 with the truth, and the median error
of the poses. RELION runs with three MPI ranks (one leads, one for each half), `--auto_refine --split_random_halves
--firstiter_cc --flatten_solvent --zero_mask --oversampling 1`, starting at HEALPix order 2 (7.5 degrees), with local
searches from order 4 on: what its interface offers for a first refinement. The leading rank does nothing but wait, in a
loop that spends CPU time; it is not counted. Times depend on what else the machine does; compare their ratio.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from halfmap.geometry.rotations import angular_distance_rad, matrix_from_euler
from halfmap.geometry.symmetry import nearest_equivalent, point_group
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.units import DEG

DIAMETER_FRAC = 0.8
RANK = 'relion_refine_mpi "$@" && times > rank$OMPI_COMM_WORLD_RANK'


def timed(command: list[str], folder: Path) -> dict[str, float]:
    """CPU and wall seconds of a program."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_s": round(cpu_s, 1), "wall_s": round(time.monotonic() - started, 1)}


def halfmap(folder: Path, *arguments: str) -> dict[str, float]:
    """Time a step of this program."""
    return timed([sys.executable, "-m", "halfmap", *arguments], folder)


def pose_error_deg(found: Path, truth: Path, symmetry: str) -> float:
    """Median angle between the poses of two files, matched by image."""
    one, other = read_image_set(found, "particles"), read_image_set(truth, "particles")
    number = [{str(n).lstrip("0"): i for i, n in enumerate(s["image_name"])} for s in (one, other)]
    common = [name for name in number[1] if name in number[0]]
    matrices = []
    for images, index in zip((one, other), number, strict=True):
        rows = np.array([index[name] for name in common])
        angles = (torch.as_tensor(np.array(images[n])[rows]) for n in ("rot_rad", "tilt_rad", "psi_rad"))
        matrices.append(matrix_from_euler(*angles))
    nearest = nearest_equivalent(matrices[0], matrices[1], point_group(symmetry))
    return float(angular_distance_rad(nearest, matrices[1]).median()) / DEG


def judged(folder: Path, volume: str, star: str, symmetry: str) -> dict[str, float | None]:
    """FSC = 0.5 of a map with the truth (None if it never is above), and the error of the poses."""
    out = "compared_" + Path(volume).stem
    halfmap(folder, "compare", volume, "sim/truth/map.mrc", "--symmetry", symmetry, "--out", out)
    figures = json.loads((folder / out / "job.json").read_text())["figures"]
    error_deg = pose_error_deg(folder / star, folder / "sim/truth.star", symmetry)
    return {"truth_0.5_A": figures["resolution_reference_A"], "pose_error_deg": round(error_deg, 2)}


def relion(folder: Path, symmetry: str, diameter_A: float, start_A: float) -> tuple[dict[str, float], float]:
    """Time RELION's auto-refinement; the resolution that it states."""
    (folder / "relion").mkdir()
    command = [
        "mpirun", "--allow-run-as-root", "--oversubscribe", "-np", "3", "bash", "-c", RANK, "relion_refine_mpi",
        "--auto_refine", "--split_random_halves", "--i", "sim/particles.star", "--o", "relion/run",
        "--ref", "sim/truth/map.mrc", "--firstiter_cc", "--ini_high", str(start_A), "--ctf", "--flatten_solvent",
        "--zero_mask", "--particle_diameter", f"{diameter_A:.0f}", "--sym", symmetry, "--oversampling", "1",
        "--healpix_order", "2", "--auto_local_healpix_order", "4", "--offset_range", "5", "--offset_step", "2",
        "--low_resol_join_halves", "40", "--norm", "--scale", "--pad", "2", "--dont_combine_weights_via_disc",
        "--preread_images", "--j", "1", "--random_seed", "1",
    ]  # fmt: skip
    spent = timed(command, folder)
    spent["cpu_s"] = round(sum(_cpu_s(folder / f"rank{rank}") for rank in (1, 2)), 1)
    general = read_star(folder / "relion" / "run_model.star")["model_general"]
    return spent, float(np.ravel(general["rlnCurrentResolution"])[0])


def _cpu_s(file: Path) -> float:
    """CPU seconds of the children, from what the shell's ``times`` printed."""
    spent = file.read_text().splitlines()[1].split()
    return sum(60 * float(minutes) + float(seconds[:-1]) for minutes, seconds in (part.split("m") for part in spent))


def main() -> None:
    """Simulate, refine twice, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, default=1000)
    parser.add_argument("--box", type=int, default=96, help="px")
    parser.add_argument("--pixel-size", type=float, default=2.0, help="Å")
    parser.add_argument("--snr", type=float, default=0.1)
    parser.add_argument("--model", default="cage")
    parser.add_argument("--symmetry", default="O")
    parser.add_argument("--start", type=float, default=30.0, help="low-pass of the starting map, Å")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    diameter_A = DIAMETER_FRAC * given.box * given.pixel_size
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        halfmap(
            folder, "simulate", "particles", "--model", given.model, "--particles", str(given.particles),
            "--box", str(given.box), "--pixel-size", str(given.pixel_size), "--snr", str(given.snr),
            "--seed", "1", "--out", "sim",
        )  # fmt: skip
        ours = halfmap(
            folder, "refine", "sim/particles.star", "--reference", "sim/truth/map.mrc", "--symmetry", given.symmetry,
            "--diameter", str(diameter_A), "--initial-resolution", str(given.start), "--threads", str(given.threads),
            "--out", "ours",
        )  # fmt: skip
        figures = json.loads((folder / "ours" / "job.json").read_text())["figures"]
        theirs, stated_A = relion(folder, given.symmetry, diameter_A, given.start)
        found = {
            "halfmap": ours
            | {"fsc_0.143_A": round(figures["resolution_A"], 2)}
            | judged(folder, "ours/map.mrc", "ours/particles.star", given.symmetry),
            "relion": theirs
            | {"fsc_0.143_A": round(stated_A, 2)}
            | judged(folder, "relion/run_class001.mrc", "relion/run_data.star", given.symmetry),
        }
        found["cpu_ratio"] = round(theirs["cpu_s"] / ours["cpu_s"], 2)
        print(json.dumps(vars(given) | found, indent=1))


if __name__ == "__main__":
    main()
