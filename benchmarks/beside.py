"""What the benchmarks beside other programs share: simulated particles, time and memory of a command, true poses."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from halfmap.data.records import ImageSet
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.relion import read_image_set

Facts = dict[str, Any]


def timed(command: list[str], folder: Path) -> Facts:
    """CPU and wall seconds of a program with all its children, and the largest memory of one of its processes."""
    started = time.monotonic()
    with (folder / f"{Path(command[0]).name}.log").open("ab") as log:
        program = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        _, status, spent = os.wait4(program.pid, 0)
    program.returncode = os.waitstatus_to_exitcode(status)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, command)
    return {
        "cpu_s": round(spent.ru_utime + spent.ru_stime, 1),
        "wall_s": round(time.monotonic() - started, 1),
        "peak_GB": round(spent.ru_maxrss * 1024 / 1e9, 2),
    }


def halfmap(folder: Path, *arguments: str) -> Facts:
    """Time a step of this program."""
    return timed([sys.executable, "-m", "halfmap", *arguments], folder)


def relion_options(parser: argparse.ArgumentParser) -> None:
    """Which of the two programs runs, which RELION that is (one built with its vectorised code?), and where."""
    parser.add_argument(
        "--accelerated", type=Path, help="folder with programs of RELION built with -DALTCPU=ON; they run with --cpu"
    )
    parser.add_argument("--who", choices=["halfmap", "relion", "both"], default="both")
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")


def relion(program: str, accelerated: Path | None, *arguments: str) -> list[str]:
    """The command of a program of RELION."""
    if accelerated is None:
        return [program, *arguments]
    return [str(accelerated.resolve() / program), *arguments, "--cpu"]


def figures_of(job: Path) -> Facts:
    """Figures in the record of a job."""
    figures: Facts = json.loads((job / "job.json").read_text())["figures"]
    return figures


def simulated(folder: Path, *arguments: str) -> None:
    """Particles in ``folder/sim``, made once."""
    if not (folder / "sim" / "truth.star").exists():
        folder.mkdir(parents=True, exist_ok=True)
        halfmap(folder, "simulate", "particles", *arguments, "--seed", "1", "--out", "sim")


def kept(folder: Path, name: str, measure: Callable[[], Facts]) -> Facts:
    """Facts that were measured in this folder before, or are now: long runs need not be repeated for the short ones."""
    file = folder / f"{name}.json"
    if not file.exists():
        file.write_text(json.dumps(measure(), indent=1) + "\n")
    found: Facts = json.loads(file.read_text())
    return found


def particles_beside_truth(found: Path, truth: Path) -> tuple[ImageSet, ImageSet, np.ndarray, np.ndarray]:
    """Two tables of particles and the rows of each that show the same image, in the order of the truth."""
    one, other = read_image_set(found, "particles"), read_image_set(truth, "particles")
    rows = [{str(name).lstrip("0"): row for row, name in enumerate(s["image_name"])} for s in (one, other)]
    common = [name for name in rows[1] if name in rows[0]]
    first, second = (np.array([index[name] for name in common]) for index in rows)
    return one, other, first, second


def rotations(images: ImageSet, rows: np.ndarray) -> torch.Tensor:
    """Poses ``rot_img_from_map`` of particles, ``[n, 3, 3]``."""
    return matrix_from_euler(*(torch.as_tensor(np.array(images[n])[rows]) for n in ("rot_rad", "tilt_rad", "psi_rad")))


def shifts_A(images: ImageSet, rows: np.ndarray) -> torch.Tensor:
    """Shifts (x, y) that centre particles, ``[n, 2]``."""
    return torch.stack([torch.as_tensor(np.array(images[n])[rows]) for n in ("shift_x_A", "shift_y_A")], dim=1)
