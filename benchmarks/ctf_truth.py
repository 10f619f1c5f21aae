"""How close `halfmap ctf` comes to the truth on simulated micrographs, and how much CPU time it takes.

    python benchmarks/ctf_truth.py defocus --repeats 8
    python benchmarks/ctf_truth.py defocus --kind carbon crystalline --defocus 3000 12000 40000
    python benchmarks/ctf_truth.py tilt --edge 2048 --tilt 0 5 30
    python benchmarks/ctf_truth.py thickness --voltage 200 300 --thickness 350 700 1500 3000
    python benchmarks/ctf_truth.py seconds

Micrographs of vitreous ice alone, which is the hardest specimen, are simulated at every defocus, voltage and exposure;
others hold an edge of carbon film or crystals of ice, or are tilted. ``defocus`` prints, for each condition, medians
and 95th percentiles of the error of the mean defocus and of the astigmatism vector (Å) and of its direction (degrees,
where the astigmatism is above 300 Å), and the share that missed by more than 200 Å; ``tilt`` those of the tilt, of the
defocus at the centre and at the corners, and the share of specimens that are reported as tilted; ``thickness`` those of
the thickness, where nodes are seen, and of the CTF with and without them; ``seconds`` the CPU time by parts.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from halfmap.ctffit.estimate import CtfEstimate, FitSettings, estimate_ctf, estimate_with_nodes
from halfmap.ctffit.files import on_finer_grid, thickness_of
from halfmap.ctffit.ice import ice_signal
from halfmap.ctffit.local import local_defocus, with_surface
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import micrograph_power, micrograph_spectrum, spectrum_of_power
from halfmap.ctffit.thick import estimate_of_thick_specimen
from halfmap.ctffit.thickness import CLEARLY
from halfmap.simulate.background import MovieKind, random_background
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field
from halfmap.units import DEG

PIXEL_SIZE_A = 1.2
MISSED_A = 200.0
ENVELOPE_A2 = 60.0
LAYER_A = 60.0
KINDS: tuple[MovieKind, ...] = ("ordinary", "carbon", "crystalline")
SETTINGS = FitSettings(max_defocus_A=70000.0)


@dataclass(frozen=True)
class Condition:
    """What a set of micrographs shares."""

    defocus_A: float
    voltage_kV: float
    dose_e_per_A2: float
    kind: MovieKind = "ordinary"
    tilt_deg: float = 0.0
    thickness_A: float = 350.0
    layers: int = 1

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

    @property
    def mean_A(self) -> float:
        """Mean of the two defoci at the centre."""
        return 0.5 * (self.defocus.u_A + self.defocus.v_A)


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
        (edge_px, edge_px), PIXEL_SIZE_A, kind=condition.kind, voltage_kV=condition.voltage_kV,
        ice_thickness_A=condition.thickness_A, contaminants=0.0, generator=generator, ice_layers=condition.layers,
    )  # fmt: skip
    relative = background_field(background, plane, defocus, optics, PIXEL_SIZE_A)
    image = generator.poisson(np.clip(relative, 0.0, None) * condition.dose_e_per_A2 * PIXEL_SIZE_A**2)
    return Truth(image.astype(np.float32), defocus, plane, Microscope(condition.voltage_kV, condition.cs_mm, 0.1))


def fitted(truth: Truth) -> CtfEstimate:
    """The CTF of a whole micrograph."""
    image = torch.from_numpy(truth.image)
    spectrum = micrograph_spectrum(image, PIXEL_SIZE_A)
    estimate = estimate_ctf(spectrum, truth.microscope, SETTINGS)
    return on_finer_grid(image, PIXEL_SIZE_A, spectrum, estimate, truth.microscope, SETTINGS)[1]


def defocus_errors(truth: Truth) -> dict[str, float]:
    """Errors of the fit of a whole micrograph."""
    found = fitted(truth)
    u, v, angle = truth.defocus.u_A, truth.defocus.v_A, truth.defocus.angle_rad
    vector = (found.defocus_u_A - found.defocus_v_A) * np.exp(2j * found.defocus_angle_rad)
    turned = (found.defocus_angle_rad - angle) / DEG
    mean = abs(0.5 * (found.defocus_u_A + found.defocus_v_A) - truth.mean_A)
    return {
        "mean Å": mean,
        "astigmatism Å": float(abs(vector - (u - v) * np.exp(2j * angle))),
        "angle deg": abs((turned + 90.0) % 180.0 - 90.0) if u - v > 300.0 else math.nan,
        "missed": float(mean > MISSED_A),
        "not told apart": float(found.ambiguous),
        "no rings": float(not found.has_rings),
        "fit to Å": found.fit_resolution_A,
    }


def tilt_errors(truth: Truth) -> dict[str, float]:
    """Errors of the surface of defocus; corners are the mean error over the four, as particles there would have it."""
    whole = fitted(truth)
    local = local_defocus(truth.image, PIXEL_SIZE_A, truth.microscope, SETTINGS, whole)
    if local is None:
        return {"not fitted": 1.0}
    found = with_surface(whole, local, truth.image, PIXEL_SIZE_A, truth.microscope, SETTINGS)
    centre_A = float(found.parameters[0])
    edge = truth.image.shape[0]
    x, y = (np.array(place, np.float64) for place in ((0, 0, edge - 1, edge - 1), (0, edge - 1, 0, edge - 1)))
    true = truth.plane.offset_A((x - edge // 2) * PIXEL_SIZE_A, (y - edge // 2) * PIXEL_SIZE_A) + truth.mean_A
    at_corners = local.surface.offset_A(x, y, PIXEL_SIZE_A) + centre_A
    tilt = math.atan(math.hypot(truth.plane.slope_x, truth.plane.slope_y))
    return {
        "tilt deg": abs(local.surface.tilt_rad - tilt) / DEG,
        "tilt / its error": abs(local.surface.tilt_rad - tilt) / max(local.tilt_error_rad, 1e-9),
        "centre Å": abs(centre_A - truth.mean_A),
        "corners Å": float(np.abs(at_corners - true).mean()),
        "told as tilted": float(local.kind != "level"),
        "curved": float(local.kind == "curved"),
        "whole fits to Å": whole.fit_resolution_A,
        "surface fits to Å": found.fit_resolution_A,
    }


def thickness_errors(truth: Truth, thickness_A: float) -> dict[str, float]:
    """Error of the thickness, where nodes are seen, and of the CTF with and without them."""
    image = torch.from_numpy(truth.image)
    spectrum = micrograph_spectrum(image, PIXEL_SIZE_A)
    first = estimate_ctf(spectrum, truth.microscope, SETTINGS)
    spectrum, first = on_finer_grid(image, PIXEL_SIZE_A, spectrum, first, truth.microscope, SETTINGS)
    first = estimate_of_thick_specimen(first, spectrum, truth.microscope, SETTINGS)
    seen = thickness_of(first, truth.microscope)
    last = first
    if seen.improvement >= CLEARLY:
        last = estimate_with_nodes(first, spectrum, truth.microscope, SETTINGS, seen.thickness_A)
        seen = thickness_of(last, truth.microscope)
    half = 0.5 * (truth.defocus.u_A - truth.defocus.v_A)
    vector = half * np.exp(2j * truth.defocus.angle_rad)
    return {
        "nodes seen": float(seen.improvement >= CLEARLY),
        "thickness Å": abs(seen.thickness_A - thickness_A),
        "stated Å": seen.error_A,
        "mean Å": abs(last.parameters[0] - truth.mean_A),
        "astigmatism Å": 2.0 * abs(complex(last.parameters[1], last.parameters[2]) - vector),
        "mean without Å": abs(first.parameters[0] - truth.mean_A),
        "astigmatism without Å": 2.0 * abs(complex(first.parameters[1], first.parameters[2]) - vector),
        "fit to Å": last.fit_resolution_A,
    }


def seconds(edge_px: int, defocus_A: float) -> dict[str, float]:
    """CPU seconds of the parts, for one micrograph."""
    truth = simulated(Condition(defocus_A, 300.0, 40.0), edge_px, 1)
    image, microscope = torch.from_numpy(truth.image), truth.microscope
    marks = [time.process_time()]
    power = micrograph_power(image)
    spectrum = spectrum_of_power(power, image.shape, PIXEL_SIZE_A)
    marks.append(time.process_time())
    found = estimate_ctf(spectrum, microscope, SETTINGS)
    marks.append(time.process_time())
    spectrum, found = on_finer_grid(image, PIXEL_SIZE_A, spectrum, found, microscope, SETTINGS, power)
    marks.append(time.process_time())
    local_defocus(truth.image, PIXEL_SIZE_A, microscope, SETTINGS, found)
    marks.append(time.process_time())
    ice_signal(spectrum, microscope, found.parameters)
    thickness_of(found, microscope)
    marks.append(time.process_time())
    names = "spectrum", "fit", "finer grid", "surface", "ice and nodes"
    return {**dict(zip(names, np.diff(marks).tolist(), strict=True)), "all": marks[-1] - marks[0]}


def show(name: str, rows: list[dict[str, float]]) -> None:
    """One line: medians and 95th percentiles, and shares where all values are zero or one."""
    cells = []
    for key in dict.fromkeys(key for row in rows for key in row):
        values = np.array([row.get(key, math.nan) for row in rows])
        values = values[np.isfinite(values)]
        if not values.size:
            cells.append(f"{key} -")
        elif set(values.tolist()) <= {0.0, 1.0}:
            cells.append(f"{key} {values.mean():.2f}")
        else:
            cells.append(f"{key} {np.median(values):.3g} / {np.percentile(values, 95):.3g}")
    print(f"{name:36s}" + " | ".join(cells), flush=True)


def main() -> None:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("defocus", "tilt", "thickness", "seconds"))
    parser.add_argument("--edge", type=int, default=1024, help="edge of the micrographs in px")
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--defocus", type=float, nargs="+")
    parser.add_argument("--voltage", type=float, nargs="+")
    parser.add_argument("--dose", type=float, nargs="+", default=[20])
    parser.add_argument("--kind", nargs="+", default=["ordinary"], choices=KINDS)
    parser.add_argument("--tilt", type=float, nargs="+", default=[0, 5, 15, 30, 45, 60])
    parser.add_argument("--thickness", type=float, nargs="+", default=[350, 700, 1000, 1500, 2000, 3000])
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "seconds":
        for edge, df in itertools.product((1024, 4096), (15000.0, 30000.0)):
            show(f"{edge} px, {df:.0f} Å", [seconds(edge, df) for _ in range(3)])
        return
    if given.what == "thickness":
        defoci = given.defocus or [15000]
        for kV, df, dose, t in itertools.product(given.voltage or [200], defoci, given.dose, given.thickness):
            condition = Condition(df, kV, dose, thickness_A=t, layers=math.ceil(t / LAYER_A))
            rows = [thickness_errors(simulated(condition, given.edge, seed), t) for seed in range(given.repeats)]
            show(f"{t:.0f} Å thick {df:.0f} Å {kV:.0f} kV {dose:g} e/Å²", rows)
        return
    tilts = given.tilt if given.what == "tilt" else [0.0]
    measure = tilt_errors if given.what == "tilt" else defocus_errors
    voltages = given.voltage or ([300] if given.what == "tilt" else [100, 120, 200, 300])
    defoci = given.defocus or ([15000] if given.what == "tilt" else [3000, 6000, 12000, 25000, 40000, 60000])
    for kind, kV, df, dose, tilt in itertools.product(given.kind, voltages, defoci, given.dose, tilts):
        condition = Condition(df, kV, dose, kind, tilt)
        name = f"{kind} {df:.0f} Å {kV:.0f} kV {dose:g} e/Å² {tilt:g}°"
        show(name, [measure(simulated(condition, given.edge, seed)) for seed in range(given.repeats)])


if __name__ == "__main__":
    main()
