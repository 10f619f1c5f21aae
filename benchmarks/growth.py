"""Time and memory of `halfmap refine` and `halfmap class2d` as the number of particles grows.

    python benchmarks/growth.py --particles 1000 3000 10000

Simulates a few hundred particles once and repeats them under other names, up to the number that is asked for: each
repetition is read, kept and searched as a particle of its own. Resolutions mean nothing on such a table (both halves
hold the same images) and are not printed. Each step runs in a process of its own, for one iteration unless more are
asked for: the first one searches at the same resolution whatever the number of particles, and being the last one, too,
it inserts all shells. Further iterations search as far as the particles allow, which is further the more they are.
Prints, for each number: CPU and wall seconds, the largest memory of the process, and what was planned before the start;
and at the end how much each particle added.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from halfmap.io.star import read_star, write_star

DIAMETER_FRAC = 0.8
RECORDED = ("cpu_s", "wall_s", "peak_memory_GB")


def halfmap(folder: Path, *arguments: str) -> None:
    """Run a step of this program."""
    done = subprocess.run([sys.executable, "-m", "halfmap", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"halfmap {' '.join(arguments)}\n{done.stderr}")


def repeated(folder: Path, n: int) -> str:
    """A table of ``n`` particles: the simulated ones again and again, their stacks linked under other names."""
    blocks = dict(read_star(folder / "sim" / "particles.star"))
    rows = blocks["particles"]
    count = len(rows["rlnImageName"])
    source, copy = np.arange(n) % count, np.arange(n) // count
    table = {name: np.asarray(values)[source] for name, values in rows.items() if name != "rlnRandomSubset"}
    for number in range(int(copy[-1]) + 1):
        link = folder / f"copy{number}"
        if not link.exists():
            os.symlink("sim", link)
    for label, separator in (("rlnImageName", "@sim"), ("rlnMicrographName", "")):
        old = [str(name) for name in table[label]]
        table[label] = np.array(
            [
                name.replace(separator, f"@copy{k}", 1) if separator else f"copy{k}/{name}"
                for name, k in zip(old, copy, strict=True)
            ],
            dtype=object,
        )
    table["rlnHalfmapUid"] = np.arange(1, n + 1)
    name = f"particles{n}.star"
    write_star(folder / name, blocks | {"particles": table})
    return name


def measured(folder: Path, step: str, n: int, arguments: list[str], memory_GB: float, threads: int) -> dict[str, float]:
    """Run a step on so many particles; its figures."""
    out = f"{step}{n}"
    halfmap(
        folder, step, repeated(folder, n), *arguments, "--memory", str(memory_GB), "--threads", str(threads),
        "--out", out,
    )  # fmt: skip
    record = json.loads((folder / out / "job.json").read_text())
    figures = {name: record["runs"][-1][name] for name in RECORDED}
    return {"step": step, "particles": n, "planned_GB": record["figures"]["planned_memory_GB"], **figures}


def main() -> None:
    """Simulate, run each step on each number of particles, print a table and the growth."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--particles", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--simulated", type=int, default=500, help="different particles")
    parser.add_argument("--box", type=int, default=96, help="px")
    parser.add_argument("--pixel-size", type=float, default=2.0, help="Å")
    parser.add_argument("--symmetry", default="O")
    parser.add_argument("--start", type=float, default=30.0, help="low-pass of the starting map, Å")
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--memory", type=float, default=0.5, help="GB; so low that transforms go to a file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", nargs="+", choices=("refine", "class2d"), default=["refine", "class2d"])
    given = parser.parse_args()
    diameter = str(DIAMETER_FRAC * given.box * given.pixel_size)
    arguments = {
        "refine": ["--reference", "sim/truth/map.mrc", "--symmetry", given.symmetry, "--diameter", diameter,
                   "--initial-resolution", str(given.start), "--max-iterations", str(given.iterations)],
        "class2d": ["--classes", str(given.classes), "--diameter", diameter, "--resolution", str(given.start / 2),
                    "--iterations", str(given.iterations)],
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        halfmap(
            folder, "simulate", "particles", "--model", "cage", "--particles", str(given.simulated),
            "--box", str(given.box), "--pixel-size", str(given.pixel_size), "--snr", "0.1", "--seed", "1",
            "--out", "sim",
        )  # fmt: skip
        print(json.dumps(vars(given)))
        for step in given.steps:
            found = [measured(folder, step, n, arguments[step], given.memory, given.threads) for n in given.particles]
            for figures in found:
                print(json.dumps(figures), flush=True)
            more = given.particles[-1] - given.particles[0]
            if more > 0:
                added = {key: (found[-1][key] - found[0][key]) / more for key in ("cpu_s", "peak_memory_GB")}
                print(
                    f"{step}: {1e3 * added['cpu_s']:.2f} ms of CPU, {1e6 * added['peak_memory_GB']:.2f} kB a particle"
                )


if __name__ == "__main__":
    main()
