"""RELION reconstructs the true map from simulated particles and their true poses, shifts and defocus."""

import subprocess
from pathlib import Path

import pytest
import torch

from halfmap.fourier.fsc import fsc
from halfmap.io.mrc import read_volume
from halfmap.simulate.models import largest_diameter_A, load_model, write_maps
from halfmap.simulate.options import SimulateParticlesOptions
from halfmap.simulate.particles import micrograph_tasks, plan_groups, simulate_micrograph, write_particle_tables

pytestmark = pytest.mark.oracle


def test_relion_reconstructs_the_true_map(relion: Path, tmp_path: Path) -> None:
    options = SimulateParticlesOptions(
        model="asymmetric", particles=300, particles_per_micrograph=100, snr=5.0, pixel_size_A=(4.0,), box_px=(56,),
        astigmatism_A=3000.0, defocus_min_A=8000.0, defocus_max_A=20000.0,
    )  # fmt: skip
    conformations = load_model(options)[0][:1]
    diameter_A = largest_diameter_A(conformations)
    maps = [write_maps(tmp_path, conformations, options, 56, 4.0)]
    plans = plan_groups(options, maps, diameter_A, seed=1)
    tasks = micrograph_tasks(options)
    facts = [
        simulate_micrograph(task, options=options, plans=plans, diameter_A=diameter_A, folder=tmp_path, seed=1)
        for task in tasks
    ]
    assert write_particle_tables(tmp_path, tasks, facts, options, plans, seed=1) == 300
    command = [relion / "relion_reconstruct", "--i", tmp_path / "truth.star", "--o", tmp_path / "relion.mrc", "--ctf"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    theirs = torch.from_numpy(read_volume(tmp_path / "relion.mrc").data)
    truth = torch.from_numpy(read_volume(tmp_path / "truth" / "map.mrc").data)
    curve = fsc(theirs, truth)
    assert curve[1:12].min() > 0.97, "to 19 Å"
    assert curve[1:20].min() > 0.8, "to 11 Å"
    mirrored = fsc(theirs.flip(2), truth)
    assert mirrored[4:12].max() < 0.8, "the other hand does not fit"
