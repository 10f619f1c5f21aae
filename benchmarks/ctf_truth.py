"""How close `halfmap ctf` comes to the truth on simulated micrographs, and how much CPU time it takes.

    python benchmarks/ctf_truth.py --edge 1024 --repeats 3
    python benchmarks/ctf_truth.py --only tilt --edge 2048

Micrographs of vitreous ice alone, which is the hardest specimen, are simulated at every defocus, voltage and exposure;
others hold an edge of carbon film or crystals of ice. Prints, for each condition, medians and 95th percentiles of the
error of the mean defocus and of the astigmatism vector (Å) and of its direction (degrees, where the astigmatism is
above 300 Å), the share that missed by more than 200 Å, and CPU seconds by parts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import micrograph_spectrum
from halfmap.simulate.background import MovieKind, random_background
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field
from halfmap.units import DEG

PIXEL_SIZE_A = 1.2
MISSED_A = 200.0
ENVELOPE_A2 = 60.0
KINDS: tuple[MovieKind, ...] = ("ordinary", "carbon", "crystalline")


@dataclass(frozen=True)
class Condition:
    """What a set of micrographs shares."""

    defocus_A: float
    voltage_kV: float
    dose_e_per_A2: float
    kind: MovieKind = "ordinary"
    tilt_deg: float = 0.0

    @property
    def cs_mm(self) -> float:
        """Spherical aberration usual at the voltage."""
        return 2.7 if self.voltage_kV >= 200 else 1.6


@dataclass(frozen=True)
class Truth:
    """A simulated micrograph and what it was made with."""

    image: np.ndarray
    defocus: Defocus
    plane: IcePlane
    microscope: Microscope


def simulated(condition: Condition, edge_px: int, seed: int) -> Truth:
    """A micrograph without particles: ice (and what the kind of micrograph adds), as a counting detector sees it."""
    generator = np.random.default_rng([seed, round(condition.defocus_A), round(condition.voltage_kV)])
    optics = Optics(condition.voltage_kV, condition.cs_mm, 0.1, 0.0, ENVELOPE_A2)
    astigmatism, angle = generator.uniform(0.0, 800.0), generator.uniform(0.0, math.pi)
    mean = condition.defocus_A * generator.uniform(0.95, 1.05)
    defocus = Defocus(mean + 0.5 * astigmatism, mean - 0.5 * astigmatism, angle)
    direction, slope = generator.uniform(0.0, 2.0 * math.pi), math.tan(condition.tilt_deg * DEG)
    plane = IcePlane(slope * math.cos(direction), slope * math.sin(direction))
    background = random_background(
        (edge_px, edge_px), PIXEL_SIZE_A, kind=condition.kind, voltage_kV=condition.voltage_kV, ice_thickness_A=350.0,
        contaminants=0.0, generator=generator,
    )  # fmt: skip
    relative = background_field(background, plane, defocus, optics, PIXEL_SIZE_A)
    image = generator.poisson(np.clip(relative, 0.0, None) * condition.dose_e_per_A2 * PIXEL_SIZE_A**2)
    return Truth(image.astype(np.float32), defocus, plane, Microscope(condition.voltage_kV, condition.cs_mm, 0.1))


def measured(truth: Truth) -> dict[str, float]:
    """Errors of one fit, and its CPU seconds."""
    settings = FitSettings(max_defocus_A=70000.0)
    started = time.process_time()
    spectrum = micrograph_spectrum(torch.from_numpy(truth.image), PIXEL_SIZE_A)
    transformed = time.process_time()
    found = estimate_ctf(spectrum, truth.microscope, settings)
    ended = time.process_time()
    u, v, angle = truth.defocus.u_A, truth.defocus.v_A, truth.defocus.angle_rad
    vector = (found.defocus_u_A - found.defocus_v_A) * np.exp(2j * found.defocus_angle_rad)
    turned = abs((found.defocus_angle_rad - angle) / DEG + 90.0) % 180.0 - 90.0
    return {
        "mean_A": abs(found.defocus_u_A + found.defocus_v_A - u - v) / 2.0,
        "astigmatism_A": float(abs(vector - (u - v) * np.exp(2j * angle))),
        "angle_deg": abs(turned) if u - v > 300.0 else math.nan,
        "evidence": found.evidence,
        "fit_A": found.fit_resolution_A,
        "spectrum_s": transformed - started,
        "fit_s": ended - transformed,
    }


def report(name: str, rows: list[dict[str, float]]) -> None:
    """One line: medians and 95th percentiles."""
    column = {key: np.array([row[key] for row in rows]) for key in rows[0]}
    cells = []
    for key in ("mean_A", "astigmatism_A", "angle_deg"):
        finite = column[key][np.isfinite(column[key])]
        low, high = np.percentile(finite, (50, 95)) if finite.size else (math.nan, math.nan)
        cells.append(f"{low:7.1f}{high:8.1f}")
    missed = np.mean(column["mean_A"] > MISSED_A)
    tail = f"{np.median(column['evidence']):9.0f}{np.median(column['fit_A']):7.2f}"
    seconds = f"{np.median(column['spectrum_s']):7.2f}{np.median(column['fit_s']):6.2f}"
    print(f"{name:34s}{''.join(cells)}{missed:8.2f}{tail}{seconds}", flush=True)


def run(conditions: Iterable[Condition], edge_px: int, repeats: int) -> None:
    """Measure and print every condition."""
    print(f"{'':34s}   mean defocus Å  astigmatism Å    angle deg  missed evidence fit to  CPU s (spectrum, fit)")
    print(f"{'':34s}" + "    50 %    95 %"[1:] * 3)
    for c in conditions:
        name = f"{c.kind} {c.defocus_A:.0f} Å {c.voltage_kV:.0f} kV {c.dose_e_per_A2:g} e/Å²"
        report(name, [measured(simulated(c, edge_px, seed)) for seed in range(repeats)])


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edge", type=int, default=1024, help="edge of the micrographs in px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--defocus", type=float, nargs="+", default=[3000, 6000, 12000, 25000, 40000, 60000])
    parser.add_argument("--voltage", type=float, nargs="+", default=[100, 120, 200, 300])
    parser.add_argument("--dose", type=float, nargs="+", default=[10, 40])
    parser.add_argument("--kind", nargs="+", default=list(KINDS), choices=KINDS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = itertools.product(given.kind, given.voltage, given.defocus, given.dose)
    run((Condition(df, kV, dose, kind) for kind, kV, df, dose in every), given.edge, given.repeats)


if __name__ == "__main__":
    main()
