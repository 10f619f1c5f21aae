"""Refine ``n`` particles of noise that are made where they are read, and print the process's largest memory."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from halfmap.data.records import ImageSet, Volume
from halfmap.data.table import Table
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import Observations
from halfmap.refine.memory import planned, refinement_need
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.refine3d.refinement import Refinement, shift_range_A

BOX_PX, PIXEL_A, DIAMETER_A = 64, 5.0, 200.0


class Noise:
    """Images that are nowhere but in the batch that is read."""

    def read(self, indices):
        return np.stack([np.random.default_rng(int(i)).normal(size=(BOX_PX,) * 2) for i in indices]).astype(np.float32)


class Quiet:
    """A session that keeps nothing."""

    seed, threads = 1, 1

    def __init__(self, memory_GB):
        self.memory_GB = memory_GB

    def log(self, message):
        print(message)

    warn = log

    def progress(self, label, total):
        return nullcontext(self)

    def advance(self, count=1, note=""):
        pass

    def show(self, write):
        pass

    def save_checkpoint(self, name, index, arrays, facts):
        pass

    def load_checkpoint(self, name):
        return None


def main(n, memory_GB):
    rng = np.random.default_rng(0)
    rows = Table.of(
        image_name=[f"{i + 1}@noise.mrcs" for i in range(n)], uid=np.arange(n), optics_group=np.ones(n, int),
        defocus_u_A=rng.uniform(8000, 20000, n), defocus_v_A=rng.uniform(8000, 20000, n), defocus_angle_rad=np.zeros(n),
    )  # fmt: skip
    optics = Table.of(
        optics_group=[1], optics_group_name=["one"], voltage_kV=[300.0], cs_mm=[2.7], amplitude_contrast=[0.1],
        image_pixel_size_A=[PIXEL_A], box_px=[BOX_PX],
    )  # fmt: skip
    axis = (np.arange(BOX_PX) - BOX_PX // 2) * PIXEL_A
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    blob = np.exp(-(x**2 + 2 * y**2 + 3 * z**2) / (2 * 40.0**2)).astype(np.float32)
    options = RefineOptions(
        reference=Path("unread.mrc"), diameter_A=DIAMETER_A, symmetry="O", initial_resolution_A=60.0, max_iterations=1
    )
    grid, session = MapGrid(BOX_PX, PIXEL_A), Quiet(memory_GB)
    need = refinement_need(n, grid, DIAMETER_A, "O", shift_range_A(options, PIXEL_A))
    plan = planned(need, memory_GB, 1)
    plan.tell(session)
    observations = Observations(
        ImageSet("particles", rows, optics), Noise(), grid, DIAMETER_A, memory_GB=plan.transforms_GB
    )
    Refinement(observations, np.arange(n) % 2 + 1, Volume(blob, PIXEL_A), None, options, session).run()
    # Of the memory map since the program began: the largest of getrusage may be that of the process it was forked from.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    peak_bytes = int(status["VmHWM"].split()[0]) * 1024
    print(json.dumps({"peak_bytes": peak_bytes, "planned_bytes": plan.peak_GB * 1e9}))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
