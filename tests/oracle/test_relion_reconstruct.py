"""Particles that we write, reconstructed and refined by RELION: images, CTF, poses and STAR in one go."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.data.records import ImageSet, Volume
from halfmap.data.table import Table
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.rotations import angular_distance_rad, euler_from_matrix, matrix_from_euler, random_rotations
from halfmap.geometry.symmetry import point_group
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import read_volume, write_stack, write_volume
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import Observations
from halfmap.refine.refine3d.half import first_noise
from halfmap.refine.rings.transform import shift_phases
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.refine.volume.regularise import masked_fsc
from halfmap.simulate.projection import Optics, Projector, contrast_images
from halfmap.units import DEG

pytestmark = pytest.mark.oracle

BOX_PX, PIXEL_SIZE_A, DIAMETER_A = 48, 2.5, 80.0


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def phantom() -> Volume:
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(25, 3))
    centres *= 0.42 * DIAMETER_A * rng.uniform(size=(25, 1)) ** (1 / 3) / np.linalg.norm(centres, axis=1, keepdims=True)
    axis = (np.arange(BOX_PX) - BOX_PX // 2) * PIXEL_SIZE_A
    x, y, z = np.exp(-((axis[None, None] - centres.T[:, :, None]) ** 2) / (2 * 2.2**2))
    return Volume(np.einsum("nz,ny,nx->zyx", z, y, x, optimize=True).astype(np.float32), PIXEL_SIZE_A)


def write_particles(folder: Path, n: int, snr: float) -> tuple[Volume, ImageSet]:
    """A stack and its STAR file, with the true poses as columns."""
    volume, rng = phantom(), np.random.default_rng(1)
    rot = random_rotations(n, torch.Generator().manual_seed(0))
    u = rng.uniform(8000, 18000, n)
    v, angle, shift = u - rng.uniform(500, 3000, n), rng.uniform(0, np.pi, n), rng.normal(0, 3.0, (n, 2))
    clean = contrast_images(
        Projector([volume]).project(rot, np.ones(n, int)), BOX_PX, PIXEL_SIZE_A,
        defocus_u_A=torch.as_tensor(u), defocus_v_A=torch.as_tensor(v), defocus_angle_rad=torch.as_tensor(angle),
        displacement_A=-torch.as_tensor(shift), optics=Optics(300.0, 2.7, 0.1),
    ).numpy()  # fmt: skip
    noisy = clean / clean.std() + rng.normal(0, np.sqrt(1 / snr), clean.shape)
    write_stack(folder / "particles.mrcs", ((noisy - noisy.mean()) / noisy.std()).astype(np.float32), PIXEL_SIZE_A)
    euler = euler_from_matrix(rot).numpy()
    rows = Table.of(
        image_name=[f"{i + 1:06d}@particles.mrcs" for i in range(n)], optics_group=[1] * n, uid=np.arange(n) + 100,
        micrograph_name=[f"micrograph{i // 10}.mrc" for i in range(n)], defocus_u_A=u, defocus_v_A=v,
        defocus_angle_rad=angle, rot_rad=euler[:, 0], tilt_rad=euler[:, 1], psi_rad=euler[:, 2],
        shift_x_A=shift[:, 0], shift_y_A=shift[:, 1],
    )  # fmt: skip
    optics = Table.of(
        optics_group=[1], optics_group_name=["opticsGroup1"], voltage_kV=[300.0], cs_mm=[2.7],
        amplitude_contrast=[0.1], image_pixel_size_A=[PIXEL_SIZE_A], box_px=[BOX_PX], image_dimensions=[2],
    )  # fmt: skip
    particles = ImageSet("particles", rows, optics)
    write_image_set(folder / "particles.star", particles)
    return volume, particles


def test_relion_reconstruct_gives_our_map(relion: Path, tmp_path: Path) -> None:
    volume, _ = write_particles(tmp_path, 400, snr=10.0)
    run(tmp_path, str(relion / "relion_reconstruct"), "--i", "particles.star", "--o", "theirs.mrc", "--ctf")
    theirs = torch.as_tensor(np.array(read_volume(tmp_path / "theirs.mrc").data))
    particles = read_image_set(tmp_path / "particles.star")
    grid = MapGrid(BOX_PX, PIXEL_SIZE_A)
    rows = np.arange(len(particles))
    observations = Observations(particles, ParticleImages(particles, tmp_path / "particles.star"), grid, DIAMETER_A)
    lattice, batch = observations.lattice, observations.batch(rows, grid.nyquist_px)
    weighted, weights = first_noise(observations, rows).weighted(batch, lattice)
    shift = torch.as_tensor(np.stack([particles["shift_x_A"], particles["shift_y_A"]], axis=1))
    phases = shift_phases(lattice.kx_px, lattice.ky_px, shift, lattice.length_A)
    rot = matrix_from_euler(*(np.array(particles[name]) for name in ("rot_rad", "tilt_rad", "psi_rad")))
    sums = Accumulator.empty(grid, grid.nyquist_px)
    sums.insert(lattice, weighted * phases, weights, rot, point_group("C1"))
    ours = sums.volume()
    mask = soft_ball((BOX_PX,) * 3, DIAMETER_A / PIXEL_SIZE_A, 4.0)
    truth = torch.as_tensor(volume.data)
    last = int(0.9 * grid.nyquist_px)
    assert float(masked_fsc(ours, theirs, mask)[1:last].min()) > 0.99
    loss = masked_fsc(theirs, truth, mask) - masked_fsc(ours, truth, mask)
    assert float(loss[1:last].max()) < 0.01, "as near to the truth as RELION's gridding"
    inside = mask > 0.5
    assert float(torch.corrcoef(torch.stack([ours[inside], theirs[inside]]))[0, 1]) > 0.995


def test_relion_refine_accepts_our_particles_and_finds_our_poses(relion: Path, tmp_path: Path) -> None:
    volume, particles = write_particles(tmp_path, 60, snr=0.3)
    write_volume(tmp_path / "reference.mrc", volume)
    (tmp_path / "run").mkdir()
    run(
        tmp_path, str(relion / "relion_refine"), "--i", "particles.star", "--o", "run/run", "--ref", "reference.mrc",
        "--ini_high", "15", "--ctf", "--particle_diameter", f"{DIAMETER_A:g}", "--flatten_solvent", "--zero_mask",
        "--sym", "C1", "--iter", "2", "--healpix_order", "2", "--offset_range", "4", "--offset_step", "2",
        "--oversampling", "1", "--tau2_fudge", "4", "--norm", "--scale", "--j", "1", "--random_seed", "1",
    )  # fmt: skip
    found = read_image_set(tmp_path / "run" / "run_it002_data.star", "particles")
    assert sorted(found["image_name"].tolist()) == sorted(particles["image_name"].tolist())
    row_of = {name: row for row, name in enumerate(particles["image_name"].tolist())}
    order = [row_of[name] for name in found["image_name"].tolist()]
    angles = ("rot_rad", "tilt_rad", "psi_rad")
    truth = matrix_from_euler(*(np.array(particles[name])[order] for name in angles))
    turned = angular_distance_rad(matrix_from_euler(*(np.array(found[name]) for name in angles)), truth) / DEG
    moved = np.hypot(*(found[name] - particles[name][order] for name in ("shift_x_A", "shift_y_A")))
    assert float(turned.median()) < 7.5, "RELION's grid of 15 degrees, oversampled once"
    assert float(np.median(moved)) < 2.5
    assert "rlnHalfmapUid" in found.rows.foreign or "uid" in found.rows
