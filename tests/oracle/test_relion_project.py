"""ADR-0001 against RELION's own projector: rotation, shift and astigmatic CTF, pixel by pixel."""

import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from halfmap.fourier.fsc import frc
from halfmap.fourier.grid import frequencies_2d
from halfmap.fourier.shift import shift_images
from halfmap.fourier.slices import prepare_volume
from halfmap.fourier.slicing import extract_slices
from halfmap.fourier.transform import centred_irfft2
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.geometry.symmetry import point_group
from halfmap.optics.ctf import ctf_2d
from halfmap.units import DEG

pytestmark = pytest.mark.oracle

N, PIXEL_SIZE_A = 48, 2.0
BLOBS = ((6.0, 1.0, -3.0, 1.0), (-5.0, 7.0, 2.0, 0.7), (2.0, -8.0, 5.0, 0.5), (-3.0, -2.0, -9.0, 0.8))  # x y z height
LABELS = [
    "AngleRot",
    "AngleTilt",
    "AnglePsi",
    "OriginXAngst",
    "OriginYAngst",
    "DefocusU",
    "DefocusV",
    "DefocusAngle",
    "PhaseShift",
]
VIEWS = np.array(
    [
        [0, 0, 0, 0, 0, 15000, 15000, 0, 0],
        [90, 0, 0, 0, 0, 15000, 12000, 30, 0],
        [30, 50, 0, 0, 0, 18000, 14000, -40, 0],
        [10, 20, 70, 4.0, -6.0, 20000, 19000, 80, 0],
        [-100, 130, 25, -3.3, 2.1, 9000, 7000, 120, 60],
        [200, 90, -160, 7.5, 5.0, 25000, 20000, 10, 0],
    ]
)


def phantom() -> np.ndarray:
    axis = np.arange(N) - N // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    density = sum(h * np.exp(-((x - a) ** 2 + (y - b) ** 2 + (z - c) ** 2) / 12.0) for a, b, c, h in BLOBS)
    return density.astype(np.float32)


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def relion_projections(folder: Path, relion: Path, *flags: str) -> np.ndarray:
    with mrcfile.new(folder / "map.mrc") as mrc:
        mrc.set_data(phantom())
        mrc.voxel_size = PIXEL_SIZE_A
    optics = "data_optics\n\nloop_\n_rlnOpticsGroup\n_rlnOpticsGroupName\n_rlnVoltage\n_rlnSphericalAberration\n"
    optics += "_rlnAmplitudeContrast\n_rlnImagePixelSize\n_rlnImageSize\n_rlnImageDimensionality\n"
    optics += f"1 g1 300 2.7 0.1 {PIXEL_SIZE_A} {N} 2\n\ndata_particles\n\nloop_\n_rlnOpticsGroup\n"
    rows = "".join(f"1 {' '.join(map(str, row))}\n" for row in VIEWS)
    (folder / "views.star").write_text(optics + "".join(f"_rln{label}\n" for label in LABELS) + rows)
    run(folder, str(relion / "relion_project"), "--i", "map.mrc", "--ang", "views.star", "--o", "proj", *flags)
    with mrcfile.open(folder / "proj.mrcs") as mrc:
        return np.array(mrc.data)


def our_projections(ctf: bool) -> np.ndarray:
    views = torch.from_numpy(VIEWS)
    rot = matrix_from_euler(*(views[:, :3] * DEG).unbind(-1))
    slices = extract_slices(prepare_volume(torch.from_numpy(phantom()), N / 2 - 1), rot, N, N / 2 - 1)
    images_ft = shift_images(slices, -views[:, 3:5] / PIXEL_SIZE_A)  # the shift centres; the particle lies opposite
    if ctf:
        fx, fy = frequencies_2d((N, N), PIXEL_SIZE_A)
        u, v, angle, phase = views[:, 5], views[:, 6], views[:, 7] * DEG, views[:, 8] * DEG
        images_ft = images_ft * ctf_2d(fx, fy, u, v, angle, 300.0, 2.7, 0.1, phase)
    return centred_irfft2(images_ft, N).numpy()


@pytest.mark.parametrize("ctf", [False, True])
def test_projections_equal_relions_pixel_by_pixel(tmp_path, relion, ctf):
    theirs = relion_projections(tmp_path, relion, *(["--ctf"] if ctf else []))
    ours = our_projections(ctf)
    assert theirs.shape == ours.shape
    error = np.linalg.norm(ours - theirs, axis=(1, 2)) / np.linalg.norm(theirs, axis=(1, 2))
    assert error.max() < 0.01
    # The comparison would notice any other convention: mirrored, transposed and negated images are far off.
    for wrong in (theirs[..., ::-1], theirs[:, ::-1], theirs.transpose(0, 2, 1), -theirs):
        assert np.linalg.norm(ours[2:] - wrong[2:]) / np.linalg.norm(theirs[2:]) > 0.3


def test_projections_correlate_with_relions_to_the_last_ring(tmp_path, relion):
    theirs, ours = torch.from_numpy(relion_projections(tmp_path, relion)), torch.from_numpy(our_projections(ctf=False))
    for a, b in zip(ours, theirs, strict=True):
        # The phantom's own signal ends where exp(-2π² 6 s²) is lost in float32 noise, near ring 18.
        assert float(frc(a, b)[:15].min()) > 0.999


@pytest.mark.parametrize("name", ["C5", "D3", "T", "O", "I1", "I2", "I3", "I4", "I"])
def test_point_groups_are_relions(tmp_path, relion, name):
    printed = run(tmp_path, str(relion / "relion_refine"), "--print_symmetry_ops", "--sym", name)
    lines = printed.splitlines()
    starts = [i for i, line in enumerate(lines) if line.strip().startswith("R(")]
    theirs = torch.tensor([[[float(v) for v in lines[i + r].split()] for r in (1, 2, 3)] for i in starts]).double()
    ours = point_group(name)
    assert theirs.shape == ours.shape
    distance = (ours[:, None] - theirs).abs().amax(dim=(-2, -1))
    assert distance.amin(dim=0).max() < 1e-4
    assert distance.amin(dim=1).max() < 1e-4
