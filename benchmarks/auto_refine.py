"""One refinement from a starting map, by `halfmap refine` or by RELION's auto-refinement, with its cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from beside import Facts, figures_of, halfmap, relion, timed

from halfmap.io.star import read_star

RANK = '"$0" "$@" && times > rank$OMPI_COMM_WORLD_RANK'


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """What is refined, in ``folder``; paths are relative to it. RELION refines within ``mask``, if there is one."""

    folder: Path
    particles: str
    reference: str
    symmetry: str
    diameter_A: float
    start_A: float
    threads: int = 2
    accelerated: Path | None = None
    mask: str | None = None

    def ours(self) -> Facts:
        """Refine with this program; what it took, and the resolution that it states."""
        spent = halfmap(
            self.folder, "refine", self.particles, "--reference", self.reference, "--symmetry", self.symmetry,
            "--diameter", str(self.diameter_A), "--initial-resolution", str(self.start_A),
            "--threads", str(self.threads), "--out", "ours",
        )  # fmt: skip
        figures = figures_of(self.folder / "ours")
        return spent | {"fsc_0.143_A": round(figures["resolution_A"], 2), "iterations": figures["iterations"]}

    def relions(self) -> Facts:
        """Refine with RELION: three MPI ranks, one of which leads; what the other two took, and what it states."""
        (self.folder / "relion").mkdir(exist_ok=True)
        command = [
            "mpirun", "--allow-run-as-root", "--oversubscribe", "--mca", "mpi_yield_when_idle", "1", "-np", "3",
            "bash", "-c", RANK,
            *relion(
                "relion_refine_mpi", self.accelerated,
                "--auto_refine", "--split_random_halves", "--i", self.particles, "--o", "relion/run",
                "--ref", self.reference, "--firstiter_cc", "--ini_high", str(self.start_A), "--ctf",
                "--flatten_solvent", "--zero_mask", "--particle_diameter", f"{self.diameter_A:.0f}",
                "--sym", self.symmetry, "--oversampling", "1", "--healpix_order", "2",
                "--auto_local_healpix_order", "4", "--offset_range", "5", "--offset_step", "2",
                "--low_resol_join_halves", "40", "--norm", "--scale", "--pad", "2",
                "--dont_combine_weights_via_disc", "--preread_images", "--j", "1", "--random_seed", "1",
                *(["--solvent_mask", self.mask, "--solvent_correct_fsc"] if self.mask else ()),
            ),
        ]  # fmt: skip
        spent = timed(command, self.folder)
        spent["cpu_s"] = round(sum(_cpu_s(self.folder / f"rank{rank}") for rank in (1, 2)), 1)
        general = read_star(self.folder / "relion" / "run_model.star")["model_general"]
        stated_A = float(np.ravel(general["rlnCurrentResolution"])[0])
        iterations = len(list((self.folder / "relion").glob("run_it*_optimiser.star"))) - 1
        return spent | {"fsc_0.143_A": round(stated_A, 2), "iterations": iterations}


def _cpu_s(file: Path) -> float:
    """CPU seconds of the children, from what the shell's ``times`` printed."""
    spent = file.read_text().splitlines()[1].split()
    return sum(60 * float(minutes) + float(seconds[:-1]) for minutes, seconds in (part.split("m") for part in spent))
