"""Memory: what the plan says, that the plan is kept, and that a low limit changes nothing but the time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.io.mrc import write_stack, write_volume
from halfmap.refine.abinitio.files import reconstruct_particles
from halfmap.refine.abinitio.options import AbInitioOptions
from halfmap.refine.class2d.files import classify_particles
from halfmap.refine.class2d.options import Class2DOptions
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.images.row_store import RowsInFile, RowsInMemory, row_store
from halfmap.refine.memory import (
    PARTICLE_BYTES,
    Need,
    Stage,
    planned,
    references_bytes,
    refinement_need,
    ring_sums_bytes,
    sums_bytes,
    transform_bytes,
    transforms_bytes,
)
from halfmap.refine.refine3d.files import refine_particles
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.rings.average import empty_sums
from halfmap.refine.rings.transform import RingTransform, ring_grid, ring_references
from halfmap.refine.volume.reconstruct import Accumulator

GROWTH = Path(__file__).with_name("growth_of_memory.py")


def bytes_of(*tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def test_formulae_are_those_of_what_is_allocated():
    grid = MapGrid(40, 2.0)
    sums = Accumulator.empty(grid, 15)
    assert sums_bytes(15) == bytes_of(sums.numerator, sums.denominator)
    lattice = Lattice.of(grid.length_A, grid.nyquist_px)
    assert transforms_bytes(7, grid) == pytest.approx(7 * 8 * len(lattice), rel=0.02)
    rings = ring_grid(12.5, 0.4)
    polar = torch.zeros(9, rings.n_rings, rings.n_angles // 2, dtype=torch.complex64)
    made = ring_references(rings, polar)
    kept = bytes_of(made.real, made.imag, made.power_real, made.power_imag)
    assert kept < references_bytes(rings, 9) < 2 * kept
    on_rings = empty_sums(rings, 9, torch.device("cpu"))
    assert ring_sums_bytes(rings, 9) == bytes_of(on_rings.numerator, on_rings.normal)
    inner = lattice.within(12)
    transform = RingTransform(rings, inner.kx_px.double().numpy(), inner.ky_px.double().numpy(), torch.device("cpu"))
    parts = [part for ring in (*transform._rings, *transform._power_rings) for part in (ring.even, ring.odd)]
    assert bytes_of(transform._normal, *parts) < transform_bytes(rings, len(inner))


def test_what_grows_with_particles_alone_goes_to_a_file_and_then_threads_are_given_up(session):
    need = Need({"the program": 1e9}, {"the search": Stage(1e9, 0.5e9), "the maps": Stage(2.2e9)}, 3e9, 1e9)
    everything, filed, few, least = (planned(need, limit_GB, 4) for limit_GB in (8.0, 4.0, 3.3, 1.0))
    assert (everything.in_file, everything.threads, everything.peak_GB) == (False, 4, 8.0)
    assert (filed.in_file, filed.threads, filed.peak_GB) == (True, 4, 4.0)
    assert (few.in_file, few.threads, few.peak_GB) == (True, 2, 3.2)
    assert (least.in_file, least.threads, least.peak_GB) == (True, 1, 3.2)
    told = session()
    for plan in (everything, filed, few):
        plan.tell(told)
    assert not told.warnings
    assert "at most 8 GB expected of 8 GB" in told.messages[0]
    assert any("2 of 4 threads" in message for message in told.messages)
    least.tell(told)
    assert (
        "3.2 GB of memory will be needed and 1 GB may be used: most of it (2.2 GB) is for the maps"
        in (told.warnings[0])
    )


def test_a_plan_grows_with_the_box_and_hardly_with_particles():
    def peak_GB(n_images, box_px, symmetry="C1"):
        grid = MapGrid(box_px, 2.0)
        need = refinement_need(n_images, grid, 0.7 * grid.length_A, symmetry, 12.0)
        return planned(need, 0.5, 1).peak_GB  # So little that transforms wait in a file, however few they are.

    assert peak_GB(100_000, 96) - peak_GB(1000, 96) == pytest.approx(99_000 * PARTICLE_BYTES / 1e9)
    assert 5 < peak_GB(1000, 512) / peak_GB(1000, 256) < 8.5
    # The target: a million particles of 256 px on a machine of 24 GiB.
    assert peak_GB(1_000_000, 256) < 0.8 * 24


@pytest.mark.parametrize("dtype", [np.complex64, np.float32])
def test_rows_in_a_file_are_those_in_memory(tmp_path, dtype):
    values = np.random.default_rng(0).normal(size=(9, 12)).astype(dtype)
    stores = [row_store((9, 12), dtype, memory_GB, tmp_path) for memory_GB in (1.0, 0.0)]
    assert [type(store) for store in stores] == [RowsInMemory, RowsInFile]
    for store in stores:
        store.write(np.array([4, 0, 8]), values[[4, 0, 8]])
        store.write(np.arange(1, 4), values[1:4])
        assert np.array_equal(store.read(np.array([8, 2, 4]), 5), values[[8, 2, 4], :5])
        assert store.read(np.array([3]), 12).flags.c_contiguous
    assert not list(tmp_path.iterdir())


@pytest.fixture
def in_a_folder(phantom, simulated, tmp_path):
    """60 particles of an octahedral phantom on disk."""
    volume = phantom(24, 5.0, 80.0, symmetry="O", n=4, sigma_A=5.0)
    data = simulated([volume], [60], snr=1.0, diameter_A=80.0)
    write_stack(tmp_path / "particles.mrcs", np.stack(data.images).astype(np.float32), 5.0)
    write_volume(tmp_path / "reference.mrc", volume)
    return data.image_set, tmp_path


JOBS = {
    "refine": (
        lambda folder: RefineOptions(
            reference=folder / "reference.mrc", diameter_A=80.0, symmetry="O", max_iterations=1
        ),
        refine_particles,
        ("half1.mrc", "map.mrc", "particles.star"),
    ),
    "class2d": (
        lambda folder: Class2DOptions(classes=3, diameter_A=80.0, resolution_A=15.0, iterations=3),
        classify_particles,
        ("classes.mrcs", "particles.star"),
    ),
    "abinitio": (
        lambda folder: AbInitioOptions(
            symmetry="O", diameter_A=80.0, resolution_A=16.0, start_resolution_A=30.0, starts=2, iterations=8
        ),
        reconstruct_particles,
        ("map.mrc", "particles.star"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_a_low_limit_gives_the_same_bits(name, in_a_folder, session):
    images, folder = in_a_folder
    options, job, outputs = JOBS[name]
    told = {}
    for memory_GB in (8.0, 0.01):
        out = folder / f"at{memory_GB}"
        out.mkdir()
        told[memory_GB] = session(memory_GB=memory_GB, threads=2)
        figures = job(images, folder / "p.star", options(folder), out, "cpu", told[memory_GB])
        assert figures["planned_memory_GB"] > 0.4
    assert any("transforms of the particles in memory" in message for message in told[8.0].messages)
    assert any("transforms of the particles in a file" in message for message in told[0.01].messages)
    assert any("1 of 2 threads" in message for message in told[0.01].messages)
    assert any("GB of memory will be needed and 0.01 GB may be used" in warning for warning in told[0.01].warnings)
    for file in outputs:
        skipped = 0 if file.endswith(".star") else 1024  # the header of a map has the time in it
        one, other = ((folder / f"at{memory_GB}" / file).read_bytes()[skipped:] for memory_GB in (8.0, 0.01))
        assert one == other, file


def peak_and_plan(n, memory_GB):
    """Peak of a process that refines ``n`` particles, and what was planned, in bytes.

    The process gives back what it frees at once (glibc else keeps up to 32 MiB blocks): the peak is of what it holds.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    command = [sys.executable, str(GROWTH), str(n), str(memory_GB)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    found = json.loads(done.stdout.splitlines()[-1])
    return found["peak_bytes"], found["planned_bytes"]


@pytest.mark.truth
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="NOT TESTED: peak memory is read from /proc")
def test_ten_times_the_particles_take_little_more_memory():
    """The peak of a whole process, with the transforms in a file; the control keeps them in memory."""
    few, many = 400, 4000
    (one, planned_one), (ten, planned_ten) = peak_and_plan(few, 0.01), peak_and_plan(many, 0.01)
    control, planned_control = peak_and_plan(many, 8.0)
    assert (ten - one) / (many - few) < PARTICLE_BYTES
    assert control - ten > 0.8 * transforms_bytes(many, MapGrid(64, 5.0))
    for peak, plan in ((one, planned_one), (ten, planned_ten), (control, planned_control)):
        assert 0.3 * plan < peak < plan
