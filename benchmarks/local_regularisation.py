"""`halfmap refine` with uniform and with local regularisation, on simulated particles that are not rigid all over.

    python benchmarks/local_regularisation.py --specimen belt --particles 800 --snr 0.05

Two specimens, both made of the rigid domains of the built-in asymmetric complex, 64 px of 3 Å:

- ``belt``: the rigid domains lie in a belt of disordered density, different in every conformation, as detergent is
  around a membrane protein;
- ``floppy``: the head of the complex hangs on the rest by a hinge, at another random turn in every conformation.

The two halves of the particles have conformations of their own, so that disorder which has not averaged out cannot
correlate. Prints for each way of regularising: FSC = 0.143 of the half-maps within a mask of the rigid domains
(corrected for the mask), FSC = 0.5 of the map with the truth within the same mask, the FSC of the half-maps with random
phases at that resolution, the same two figures within the sphere that the refinement itself uses, the median error of
the poses, and the refinement's CPU seconds. All are of the same particles and the same start. Areas under the FSC to
8.5 Å are in shells; what the halves promise for the truth, sqrt(2 FSC / (1 + FSC)), should not grow more than what is
measured.

With ``--randomise-beyond 13`` the phases of every image beyond 13 Å are replaced by those of noise before refining
(Chen et al. 2013, Ultramicroscopy 135, 24): agreement of the halves beyond that, ``fsc_beyond`` within the
rigid domains and the sphere, is made by the refinement alone.
Takes 3 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beside import figures_of, halfmap
from jaxtyping import Float
from torch import Tensor

from halfmap.data.halves import assign_half_sets
from halfmap.data.records import Volume
from halfmap.fourier.fsc import fsc, resolution_A
from halfmap.fourier.grid import radius_px, real_space_radius_px
from halfmap.fourier.windows import cosine_edge, soft_ball
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_euler, matrix_from_rotation_vector
from halfmap.io.mrc import open_stack, read_volume, write_stack, write_volume
from halfmap.io.relion import read_image_set
from halfmap.simulate.atoms import Atoms, join
from halfmap.simulate.form_factors import ICE_POTENTIAL_V
from halfmap.simulate.options import SimulateParticlesOptions
from halfmap.simulate.particles import (
    micrograph_name,
    micrograph_tasks,
    plan_groups,
    simulate_micrograph,
    write_particle_tables,
)
from halfmap.simulate.phantoms import asymmetric
from halfmap.simulate.potential import scattering_potential
from halfmap.units import DEG
from halfmap.validation.fsc_curves import fsc_curves
from halfmap.validation.options import MaskOptions
from halfmap.validation.solvent_mask import make_mask

BOX_PX, PIXEL_SIZE_A = 64, 3.0
DIAMETER_A = 150.0
CONFORMATIONS = 40
"""In each half."""
HINGE_A = (0.0, 8.0, 18.0)
HINGE_SIGMA_RAD = 20.0 * DEG
BELT_RADIUS_A, BELT_HEIGHT_A, BELT_EDGE_A = 64.0, 40.0, 8.0
BELT_TEXTURE_A = 7.0
"""Resolution that the disorder of the belt ends at."""
AREA_TO_A = 8.5
"""Areas under the FSC end here: beyond, the promise of mere noise is positive."""
BELT_LEVEL, BELT_SPREAD = 0.3, 1.0
"""Mean and standard deviation of the belt, in standard deviations of the rigid domains within their mask."""


@dataclass(frozen=True, eq=False)
class Specimen:
    """Maps of all conformations, those of half 1 first; the rigid domains; a soft mask around them."""

    conformations: list[Volume]
    rigid: Float[Tensor, "z y x"]
    mask: Float[Tensor, "z y x"]


def potential(atoms: Atoms) -> Float[Tensor, "z y x"]:
    volume = scattering_potential(atoms, BOX_PX, PIXEL_SIZE_A, solvent_V=ICE_POTENTIAL_V, bfactor_A2=40.0)
    return torch.as_tensor(np.array(volume.data))


def domains() -> tuple[Atoms, Atoms]:
    """The rigid domains and the head of the asymmetric complex: what is alike and what is not in its conformations."""
    first, second = asymmetric(1), asymmetric(2)
    moves = np.abs(first.position_A - second.position_A).max(axis=1) > 1e-6

    def chosen(rows: np.ndarray) -> Atoms:
        return Atoms(first.element[rows], first.position_A[rows], first.bfactor_A2[rows], first.occupancy[rows])

    return chosen(~moves), chosen(moves)


def specimen(kind: str, seed: int) -> Specimen:
    rigid_atoms, head = domains()
    rigid = potential(rigid_atoms)
    mask = make_mask(rigid, PIXEL_SIZE_A, MaskOptions()).mask
    generator = np.random.default_rng(seed)
    parts = []
    for _ in range(2 * CONFORMATIONS):
        if kind == "floppy":
            turn = matrix_from_rotation_vector(HINGE_SIGMA_RAD * torch.as_tensor(generator.standard_normal(3)))
            hinge = np.array(HINGE_A)
            turned = head.moved(np.eye(3), -hinge).moved(turn.numpy(), hinge)
            parts.append(potential(join([rigid_atoms, turned])))
        else:
            parts.append(rigid + _belt(generator, float(rigid[mask > 0.5].std())) * (1 - mask))
    return Specimen([Volume(part.numpy(), PIXEL_SIZE_A) for part in parts], rigid, mask)


def _belt(generator: np.random.Generator, unit: float) -> Float[Tensor, "z y x"]:
    """Random density of limited resolution in a flat cylinder about the z axis of the box."""
    shape = (BOX_PX,) * 3
    axis = (torch.arange(BOX_PX) - BOX_PX // 2).float() * PIXEL_SIZE_A
    across = real_space_radius_px(shape[1:]) * PIXEL_SIZE_A
    sides = cosine_edge((across - BELT_RADIUS_A) / BELT_EDGE_A + 0.5)
    faces = cosine_edge((axis.abs() - BELT_HEIGHT_A / 2) / BELT_EDGE_A + 0.5)
    shell = BOX_PX * PIXEL_SIZE_A / BELT_TEXTURE_A
    noise_ft = torch.fft.rfftn(torch.as_tensor(generator.standard_normal(shape, dtype=np.float32)))
    texture: Tensor = torch.fft.irfftn(noise_ft * cosine_edge((radius_px(shape) - shell) / 2.0 + 0.5), s=shape)
    return unit * (BELT_LEVEL + BELT_SPREAD * texture / texture.std()) * sides * faces[:, None, None]


def simulate(folder: Path, sample: Specimen, particles: int, snr: float, seed: int) -> None:
    """Write particles of which each half has its own conformations."""
    options = SimulateParticlesOptions(
        particles=particles, particles_per_micrograph=20, snr=snr, box_px=(BOX_PX,), pixel_size_A=(PIXEL_SIZE_A,),
        class_weights=(1.0,) * len(sample.conformations),
    )  # fmt: skip
    files = tuple(folder / "truth" / f"map{number}.mrc" for number in range(len(sample.conformations)))
    for file, volume in zip(files, sample.conformations, strict=True):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_volume(file, volume)
    plans = plan_groups(options, [files], DIAMETER_A, seed)
    tasks = micrograph_tasks(options)
    (folder / "stacks").mkdir()
    halves = assign_half_sets([micrograph_name(task.index) for task in tasks], seed)
    facts = []
    for task, half in zip(tasks, halves, strict=True):
        of_half = tuple(float(half == 1 + number // CONFORMATIONS) for number in range(2 * CONFORMATIONS))
        chosen = options.model_copy(update={"class_weights": of_half})
        facts.append(
            simulate_micrograph(task, options=chosen, plans=plans, diameter_A=DIAMETER_A, folder=folder, seed=seed)
        )
    write_particle_tables(folder, tasks, facts, options, plans, seed)


def randomise(folder: Path, beyond_A: float, seed: int) -> None:
    """Give the images of all stacks the phases of noise beyond a resolution; amplitudes stay."""
    generator = np.random.default_rng(seed)
    beyond = radius_px((BOX_PX, BOX_PX)) > BOX_PX * PIXEL_SIZE_A / beyond_A
    for file in sorted((folder / "stacks").glob("*.mrcs")):
        stack = open_stack(file)
        images_ft = torch.fft.rfft2(torch.as_tensor(stack.read(np.arange(len(stack)))))
        noise = torch.as_tensor(generator.standard_normal((len(stack), BOX_PX, BOX_PX), dtype=np.float32))
        mixed = torch.where(beyond, images_ft.abs() * torch.sgn(torch.fft.rfft2(noise)), images_ft)
        write_stack(file, torch.fft.irfft2(mixed, s=(BOX_PX, BOX_PX)).numpy(), PIXEL_SIZE_A)


def refine(folder: Path, regularisation: str, seed: int) -> dict[str, Any]:
    """Refine from the rigid domains at 25 Å; CPU seconds and the number of iterations."""
    spent = halfmap(
        folder, "refine", "sim/particles.star", "--reference", "rigid.mrc",
        "--diameter", str(DIAMETER_A), "--initial-resolution", "25", "--regularisation", regularisation,
        "--seed", str(seed), "--threads", "1", "--out", regularisation,
    )  # fmt: skip
    figures = figures_of(folder / regularisation)
    return {"iterations": figures["iterations"], "cpu_s": spent["cpu_s"]}


def read(path: Path) -> Float[Tensor, "z y x"]:
    return torch.as_tensor(np.array(read_volume(path).data))


def judged(folder: Path, regularisation: str, sample: Specimen, mask: Float[Tensor, "z y x"]) -> dict[str, Any]:
    """Agreement of the halves with each other and of their mean with the truth, within a mask."""
    half1, half2 = (read(folder / regularisation / f"half{half}.mrc") for half in (1, 2))
    curves = fsc_curves(half1, half2, PIXEL_SIZE_A, mask)
    mean = torch.as_tensor(np.mean([volume.data for volume in sample.conformations], axis=0, dtype=np.float64)).float()
    with_truth = fsc((half1 + half2) / 2 * mask, mean * mask)
    beyond = min(int(np.ceil(curves.resolution_shell())), BOX_PX // 2)
    inner = slice(1, round(BOX_PX * PIXEL_SIZE_A / AREA_TO_A))
    return {
        "half_0.143_A": round(curves.resolution_A(), 2),
        "truth_0.5_A": round(resolution_A(with_truth, 0.5, BOX_PX, PIXEL_SIZE_A), 2),
        "randomised_fsc": round(float(curves.phase_randomised[beyond]), 3),
        "half_area_shells": round(float(curves.corrected[inner].sum()), 2),
        "truth_area_shells": round(float(with_truth[inner].sum()), 2),
        "promised_area_shells": round(float(_promised(curves.corrected)[inner].sum()), 2),
    }


def _promised(curve: np.ndarray) -> np.ndarray:
    """FSC with the truth of the map from both halves, if theirs is to be believed (Rosenthal & Henderson 2003)."""
    positive = np.clip(curve, 0.0, 1.0)
    return np.asarray(np.sqrt(2 * positive / (1 + positive)))


def agreement_beyond(folder: Path, regularisation: str, mask: Float[Tensor, "z y x"], beyond_A: float) -> float:
    """Mean FSC of the half-maps within a mask, from two shells beyond a resolution to 1.7 times its frequency."""
    half1, half2 = (read(folder / regularisation / f"half{half}.mrc") for half in (1, 2))
    shell = BOX_PX * PIXEL_SIZE_A / beyond_A
    return round(float(fsc(half1 * mask, half2 * mask)[round(shell) + 2 : round(1.7 * shell)].mean()), 3)


def pose_errors_deg(folder: Path, regularisation: str) -> Float[Tensor, " n"]:
    """Angles between found and true poses."""
    matrices = []
    for file in (folder / regularisation / "particles.star", folder / "sim" / "truth.star"):
        images = read_image_set(file, "particles")
        order = np.argsort(images["uid"])
        angles = (torch.as_tensor(np.array(images[name])[order]) for name in ("rot_rad", "tilt_rad", "psi_rad"))
        matrices.append(matrix_from_euler(*angles))
    return angular_distance_rad(*matrices) / DEG


def main() -> None:
    """Simulate, refine both ways, print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--specimen", choices=("belt", "floppy"), default="belt")
    parser.add_argument("--particles", type=int, default=800)
    parser.add_argument("--snr", type=float, default=0.05)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--randomise-beyond", type=float, help="Å")
    given = parser.parse_args()
    sample = specimen(given.specimen, given.seed)
    sphere = soft_ball((BOX_PX,) * 3, DIAMETER_A / PIXEL_SIZE_A, 2.0)
    result: dict[str, Any] = dict(vars(given))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sim").mkdir()
        simulate(folder / "sim", sample, given.particles, given.snr, given.seed)
        if given.randomise_beyond is not None:
            randomise(folder / "sim", given.randomise_beyond, given.seed)
        write_volume(folder / "rigid.mrc", Volume(sample.rigid.numpy(), PIXEL_SIZE_A))
        for regularisation in ("uniform", "local"):
            spent = refine(folder, regularisation, given.seed)
            error_deg = pose_errors_deg(folder, regularisation)
            result[regularisation] = {
                **spent,
                "pose_error_deg": round(float(error_deg.median()), 2),
                "astray_frac": round(float((error_deg > 10).double().mean()), 3),
                "rigid": judged(folder, regularisation, sample, sample.mask),
                "sphere": judged(folder, regularisation, sample, sphere),
            }
            if given.randomise_beyond is not None:
                result[regularisation]["fsc_beyond"] = [
                    agreement_beyond(folder, regularisation, mask, given.randomise_beyond)
                    for mask in (sample.mask, sphere)
                ]
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
