"""How often `halfmap abinitio` finds the map, over seeds, on small simulated sets.

    python benchmarks/abinitio_seeds.py --case asymmetric --seeds 8
    python benchmarks/abinitio_seeds.py --case symmetric --seeds 8
    python benchmarks/abinitio_seeds.py --case asymmetric --junk-frac 0.3 --seeds 8
    python benchmarks/abinitio_seeds.py --case asymmetric --junk-frac 0.3 --classes 2 --seeds 6

Every seed makes its own particles and its own search. A search counts as a success if the FSC of `map.mrc` with the
truth, after alignment in either hand and within a mask made from the truth (`halfmap compare`), stays above 0.5 to
`--margin` times the resolution that was asked for. With `--junk-frac` a share of the images is replaced: half of
them by noise alone, the other half by the projection of other random blobs in each image, with the variance of a
particle. Prints one line a seed and one JSON object at the end.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from beside import figures_of, halfmap

from halfmap.io.images import ParticleImages
from halfmap.io.mrc import write_stack
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.simulate.particles import signal_variance
from halfmap.simulate.phantoms import GaussianPhantom

MODELS = {
    "asymmetric": ("asymmetric", "C1", 150.0),
    "symmetric": ("cage", "O", 132.0),
}
"""Model, point group and diameter (Å) of each case."""
BLOBS = 12


def replace_by_junk(folder: Path, junk_frac: float, diameter_A: float, snr: float, seed: int) -> np.ndarray:
    """Replace a share of the images of ``sim``; writes ``mixed.star``; whether each image is junk."""
    star = folder / "sim" / "particles.star"
    particles = read_image_set(star, "particles")
    names = [f"{folder}/{name.partition('@')[2]}" for name in particles["image_name"]]
    numbers = [name.partition("@")[0] for name in particles["image_name"]]
    particles = particles.with_columns(image_name=[f"{n}@{f}" for n, f in zip(numbers, names, strict=True)])
    images = ParticleImages(particles, star).read(np.arange(len(particles))).astype(np.float32)
    pixel_size_A = float(particles.optics["image_pixel_size_A"][0])
    generator = np.random.default_rng([seed, 7])
    chosen = np.sort(generator.permutation(len(particles))[: round(junk_frac * len(particles))])
    for number, row in enumerate(chosen):
        images[row] = generator.standard_normal(images[row].shape)
        if number % 2:
            blobs = GaussianPhantom.random(BLOBS, 0.4 * diameter_A, (6.0, 15.0), int(generator.integers(1 << 31)))
            picture = blobs.projection(np.eye(3), images.shape[-1], pixel_size_A)
            variance = signal_variance(picture[None], pixel_size_A, diameter_A)[0]
            images[row] += (math.sqrt(snr / variance) * picture).astype(np.float32)
    write_stack(folder / "mixed.mrcs", images, pixel_size_A)
    write_image_set(
        folder / "mixed.star",
        particles.with_columns(image_name=[f"{i + 1}@mixed.mrcs" for i in range(len(particles))]),
    )
    is_junk = np.zeros(len(particles), bool)
    is_junk[chosen] = True
    return is_junk


def one(given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Simulate, search, compare."""
    model, symmetry, diameter_A = MODELS[given.case]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        halfmap(
            folder, "simulate", "particles", "--model", model, "--particles", str(given.particles),
            "--box", str(given.box), "--pixel-size", str(given.pixel_size), "--snr", str(given.snr),
            "--seed", str(seed), "--out", "sim",
        )  # fmt: skip
        star, is_junk = "sim/particles.star", np.zeros(given.particles, bool)
        if given.junk_frac > 0:
            is_junk = replace_by_junk(folder, given.junk_frac, diameter_A, given.snr, seed)
            star = "mixed.star"
        classes = ["--classes", str(given.classes)] if given.classes > 1 else []
        spent = halfmap(
            folder, "abinitio", star, "--symmetry", symmetry, "--diameter", str(diameter_A), "--resolution",
            str(given.resolution), "--starts", str(given.starts), "--seed", str(seed), "--threads", str(given.threads),
            *classes, "--out", "found",
        )  # fmt: skip
        found = figures_of(folder / "found")
        halfmap(folder, "compare", "found/map.mrc", "sim/truth/map.mrc", "--symmetry", symmetry, "--out", "compared")
        truth_A = figures_of(folder / "compared")["resolution_reference_A"]
        result = {
            "seed": seed, "truth_0.5_A": None if truth_A is None else round(truth_A, 1),
            "success": truth_A is not None and truth_A <= given.margin * given.resolution,
            "agreeing_starts": found["agreeing_starts"], "gain": found["shape_gain"], "cpu_s": spent["cpu_s"],
        }  # fmt: skip
        if given.classes > 1:
            result |= _sorted_out(folder / "found" / "particles.star", is_junk)
        return result


def _sorted_out(star: Path, is_junk: np.ndarray) -> dict[str, float]:
    """Shares of the particles and of the junk that are in the class of ``map.mrc``."""
    first = np.asarray(read_image_set(star, "particles")["class_number"]) == 1
    shares = {"particles_in_map": round(float(first[~is_junk].mean()), 3)}
    if is_junk.any():
        shares["junk_in_map"] = round(float(first[is_junk].mean()), 3)
    return shares


def search_options(parser: argparse.ArgumentParser) -> None:
    """What is simulated, and what is asked of the search."""
    parser.add_argument("--case", choices=sorted(MODELS), default="asymmetric")
    parser.add_argument("--particles", type=int, default=500)
    parser.add_argument("--box", type=int, default=64, help="px")
    parser.add_argument("--pixel-size", type=float, default=3.0, help="Å")
    parser.add_argument("--snr", type=float, default=0.05)
    parser.add_argument("--resolution", type=float, default=15.0, help="asked for, Å")
    parser.add_argument("--threads", type=int, default=1)


def main() -> None:
    """Print a line a seed, and what they come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    search_options(parser)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--junk-frac", type=float, default=0.0, help="share of images that show no particle")
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--starts", type=int, default=4)
    parser.add_argument("--margin", type=float, default=1.25, help="times the resolution asked for")
    given = parser.parse_args()
    results = []
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        results.append(one(given, seed))
        print(json.dumps(results[-1]), flush=True)
    summary = {
        "successes": sum(result["success"] for result in results),
        "median_cpu_s": round(statistics.median(result["cpu_s"] for result in results), 1),
    }
    print(json.dumps(vars(given) | summary))


if __name__ == "__main__":
    main()
