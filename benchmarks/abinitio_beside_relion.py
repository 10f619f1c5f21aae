"""`halfmap abinitio` and RELION's initial model (stochastic gradient descent) on the same simulated particles.

    python benchmarks/abinitio_beside_relion.py --case asymmetric --folder bench/ab_c1
    python benchmarks/abinitio_beside_relion.py --case symmetric --folder bench/ab_o

No reference is given to either. Ours searches from several random starts, as it comes; RELION from its own random
start, with the options that its interface writes for an initial model: 50, 200 and 50 iterations from 35 to 15 Å, with
100 to 500 particles each, in steps of 15 degrees (once oversampled). Prints, for both, CPU seconds, and where the FSC
with the truth falls below 0.5, after `halfmap compare` has aligned the map in either hand, within a mask of the truth.
What was measured is kept in the folder, so that either program can be run alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from abinitio_seeds import MODELS, search_options
from beside import Facts, figures_of, halfmap, kept, relion, relion_options, simulated, timed


def ours(folder: Path, given: argparse.Namespace) -> Facts:
    """Time our search."""
    _, symmetry, diameter_A = MODELS[given.case]
    return halfmap(
        folder, "abinitio", "sim/particles.star", "--symmetry", symmetry, "--diameter", str(diameter_A),
        "--resolution", str(given.resolution), "--seed", str(given.seed), "--threads", str(given.threads),
        "--out", "ours",
    )  # fmt: skip


def relions(folder: Path, given: argparse.Namespace) -> Facts:
    """Time RELION's initial model."""
    _, symmetry, diameter_A = MODELS[given.case]
    (folder / "relion").mkdir(exist_ok=True)
    command = relion(
        "relion_refine", given.accelerated, "--i", "sim/particles.star", "--o", "relion/run", "--sgd",
        "--denovo_3dref", "--ctf", "--K", "1", "--sym", symmetry, "--sgd_ini_iter", "50",
        "--sgd_inbetween_iter", "200", "--sgd_fin_iter", "50", "--sgd_write_iter", "300", "--sgd_ini_resol", "35",
        "--sgd_fin_resol", str(given.resolution), "--sgd_ini_subset", "100", "--sgd_fin_subset", "500",
        "--flatten_solvent", "--zero_mask", "--particle_diameter", f"{diameter_A:.0f}", "--oversampling", "1",
        "--healpix_order", "1", "--offset_range", "6", "--offset_step", "2", "--pad", "1", "--preread_images",
        "--dont_combine_weights_via_disc", "--j", str(given.threads), "--random_seed", str(given.seed),
    )  # fmt: skip
    return timed(command, folder)


def truth_A(folder: Path, volume: str, symmetry: str) -> float | None:
    """Where the FSC of a map with the truth falls below 0.5; None if it never is above."""
    out = "compared_" + Path(volume).parent.name
    if not (folder / out / "job.json").exists():
        halfmap(folder, "compare", volume, "sim/truth/map.mrc", "--symmetry", symmetry, "--out", out)
    found: float | None = figures_of(folder / out)["resolution_reference_A"]
    return found


def main() -> None:
    """Simulate, search twice, compare, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    search_options(parser)
    parser.add_argument("--seed", type=int, default=1)
    relion_options(parser)
    given = parser.parse_args()
    folder = given.folder.resolve()
    model, symmetry, _ = MODELS[given.case]
    simulated(
        folder, "--model", model, "--particles", str(given.particles), "--box", str(given.box),
        "--pixel-size", str(given.pixel_size), "--snr", str(given.snr),
    )  # fmt: skip
    runs = {"halfmap": (ours, "ours/map.mrc"), "relion": (relions, "relion/run_it300_class001.mrc")}
    found: Facts = {}
    for name, (run, volume) in runs.items():
        if given.who in (name, "both"):
            found[name] = kept(folder, name, lambda run=run: run(folder, given)) | {
                "truth_0.5_A": truth_A(folder, volume, symmetry)
            }
    print(json.dumps({"case": given.case, "particles": given.particles, "box": given.box} | found, indent=1))


if __name__ == "__main__":
    main()
