"""`halfmap refine` and RELION's auto-refinement on real particles, judged by an atomic model.

    python benchmarks/apoferritin_beside_relion.py --data empiar-10146 --model 6z6u.pdb --folder bench/apoferritin

``--data`` holds micrographs of EMPIAR-10146 (frame sums, 1.5 Å a pixel) and ``manual_picks.star``. The particles are
cut out at those picks with CTFs of `halfmap ctf`, and binned to ``--binned`` Å. Both programs start from the map of the
model, low-passed to ``--start`` Å, under O; RELION within a mask of the model and with `--solvent_correct_fsc` (the
other options: `auto_refine.py`). The half-maps of both are then judged alike, by `halfmap postprocess` within that
mask, and the maps by `halfmap compare` with the model. What was measured is kept in the folder, so that either program
can be run alone.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from auto_refine import Refinement
from beside import Facts, figures_of, halfmap, kept, relion_options

from halfmap.io.relion import read_image_set

DIAMETER_A, BOX_PX, PIXEL_A = 130.0, 288, 1.5
OPTICS = ("--pixel-size", str(PIXEL_A), "--voltage", "300", "--cs", "2.7", "--amplitude-contrast", "0.07")


def prepared(folder: Path, data: Path, model: Path, binned_A: float) -> None:
    """CTFs, particles at the manual picks, and the model's map and mask, on the particles' grid."""
    folder.mkdir(parents=True, exist_ok=True)
    micrographs = sorted(str(file) for file in data.glob("*.mrc"))
    if not (folder / "extract" / "job.json").exists():
        halfmap(folder, "ctf", *micrographs, *OPTICS, "--out", "ctf")
        halfmap(
            folder, "extract", str(data / "manual_picks.star"), "--micrographs", "ctf/micrographs.star",
            "--diameter", str(DIAMETER_A), "--box", str(BOX_PX), "--binned-pixel-size", str(binned_A),
            "--out", "extract",
        )  # fmt: skip
    if not (folder / "mask" / "job.json").exists():
        box = str(round(BOX_PX * PIXEL_A / binned_A))
        halfmap(
            folder, "simulate", "map", "--model-file", str(model), "--pixel-size", str(binned_A), "--box", box,
            "--out", "model",
        )  # fmt: skip
        halfmap(folder, "mask", "model/map.mrc", "--out", "mask")


def judged(folder: Path, name: str, volume: str, halves: tuple[str, str], model: Path) -> Facts:
    """Resolution of the halves within the model's mask, corrected, and how far the map agrees with the model."""
    if not (folder / f"compared_{name}" / "job.json").exists():
        halfmap(folder, "postprocess", *halves, "--mask", "mask/mask.mrc", "--out", f"post_{name}")
        halfmap(folder, "compare", volume, str(model), "--symmetry", "O", "--out", f"compared_{name}")
    found = figures_of(folder / f"compared_{name}")
    return {
        "corrected_0.143_A": round(figures_of(folder / f"post_{name}")["resolution_A"], 2),
        "model_0.5_A": round(found["resolution_reference_A"], 2),
        "model_0.5_finest_A": round(found["resolution_reference_finest_A"], 2),
        "correlation": round(found["correlation"], 3),
    }


def main() -> None:
    """Prepare, refine twice, judge, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--binned", type=float, default=3.0, help="Å a pixel")
    parser.add_argument("--start", type=float, default=12.0, help="low-pass of the starting map, Å")
    parser.add_argument("--threads", type=int, default=2)
    relion_options(parser)
    given = parser.parse_args()
    folder = given.folder.resolve()
    prepared(folder, given.data.resolve(), given.model.resolve(), given.binned)
    task = Refinement(
        folder=folder,
        particles="extract/particles.star",
        reference="model/map.mrc",
        symmetry="O",
        diameter_A=DIAMETER_A,
        start_A=given.start,
        threads=given.threads,
        accelerated=given.accelerated,
        mask="mask/mask.mrc",
    )
    runs = {
        "halfmap": (task.ours, "ours/map.mrc", ("ours/half1.mrc", "ours/half2.mrc")),
        "relion": (
            task.relions,
            "relion/run_class001.mrc",
            ("relion/run_half1_class001_unfil.mrc", "relion/run_half2_class001_unfil.mrc"),
        ),
    }
    found: Facts = {"particles": len(read_image_set(folder / "extract/particles.star", "particles"))}
    for name, (run, volume, halves) in runs.items():
        if given.who in (name, "both"):
            found[name] = kept(folder, name, run) | judged(folder, name, volume, halves, given.model.resolve())
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
