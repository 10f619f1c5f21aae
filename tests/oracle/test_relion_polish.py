"""Bayesian polishing (relion_motion_refine) starts from our trajectories; its particles are as good as ours."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.data.records import ImageSet, Volume
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.mrc import open_stack, read_volume, write_volume
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.io.star import StarBlock, read_star
from halfmap.motion.surface import LocalModel
from halfmap.simulate.projection import Optics, Projector, contrast_images

pytestmark = pytest.mark.oracle

MOVIES, FRAMES, EDGE_PX, PIXEL_A, BOX_PX = 2, 12, 576, 2.5, 128
ENVELOPE_A2 = 50.0


def halfmap(*arguments: str | Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "halfmap", *map(str, arguments), "--threads", "1"],
        cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def polish(relion: Path, folder: Path, out: str, *more: str) -> Path:
    command = [
        str(relion / "relion_motion_refine"), "--i", "extract/particles.star", "--f", "postprocess/fsc.star",
        "--m1", "half1.mrc", "--m2", "half2.mrc", "--mask", "postprocess/mask.mrc", "--corr_mic",
        "motion/micrographs.star", "--o", f"{out}/", "--s_vel", "0.2", "--s_div", "5000", "--s_acc", "2", "--j", "1",
        *more,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / out


@pytest.fixture(scope="module")
def session(relion, tmp_path_factory):
    """Movies that bend, our motion, our particles at their true poses, and a reference in two halves with its FSC."""
    folder = tmp_path_factory.mktemp("polish")
    halfmap(
        "simulate", "movies", "--model", "asymmetric", "--movies", MOVIES, "--pixel-size", PIXEL_A, "--width", EDGE_PX,
        "--height", EDGE_PX, "--frames", FRAMES, "--dose-per-frame", 3, "--particles", 40, "--local-motion", 8,
        "--envelope", ENVELOPE_A2, "--seed", 5, "--out", "raw", folder=folder,
    )  # fmt: skip
    halfmap("motion", "raw/movies.star", "--out", "motion", folder=folder)
    truth = read_image_set(folder / "raw" / "truth" / "particles.star", "coordinates")
    micrographs = [f"motion/micrographs/{Path(name).stem}.mrc" for name in truth["micrograph_name"].tolist()]
    named = ImageSet("coordinates", truth.rows.with_columns(micrograph_name=micrographs), truth.optics)
    write_image_set(folder / "places.star", named)
    halfmap("extract", "places.star", "--diameter", 170, "--box", BOX_PX, "--binned-box", BOX_PX, "--out", "extract",
            folder=folder)  # fmt: skip
    true_map = read_volume(folder / "raw" / "truth" / "map.mrc")
    padded = np.pad(true_map.data, (BOX_PX - len(true_map.data)) // 2)
    for half in (1, 2):
        noise = 0.5 * np.random.default_rng(half).standard_normal(padded.shape)
        write_volume(folder / f"half{half}.mrc", Volume((padded + noise).astype(np.float32), PIXEL_A))
    halfmap("postprocess", "half1.mrc", "half2.mrc", "--out", "postprocess", folder=folder)
    return folder


def displacement_A(star: dict[str, StarBlock], places: np.ndarray) -> np.ndarray:
    """Motion of the specimen ``[particle, frame, 2]`` at places (px), from a motion STAR file."""
    whole = np.stack([star["global_shift"][f"rlnMicrographShift{axis}"].astype(float) for axis in "XY"], axis=1)
    model = LocalModel(star["local_motion_model"]["rlnMotionModelCoeff"].astype(float).reshape(2, 6, 3))
    return -(whole + model.shifts_px(np.arange(FRAMES), places / EDGE_PX - 0.5)) * PIXEL_A


def tracks_A(folder: Path, number: int) -> np.ndarray:
    """RELION's trajectories ``[particle, frame, 2]`` of one micrograph."""
    star = read_star(folder / "motion" / "micrographs" / f"movie_{number:04d}_tracks.star")
    count = int(star["general"]["rlnParticleNumber"][0])
    columns = [[star[str(i)][f"rlnOrigin{axis}Angst"].astype(float) for axis in "XY"] for i in range(count)]
    return np.array(columns).transpose(0, 2, 1)


def both_motions_A(session: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Our motion and the true one at the particles of a micrograph, in the order of their rows."""
    particles = read_image_set(session / "extract" / "particles.star", "particles")
    mine = np.array([name.endswith(f"_{number:04d}.mrc") for name in particles["micrograph_name"].tolist()])
    places = np.stack([particles[f"coordinate_{axis}_px"][mine] for axis in "xy"], axis=1)
    ours = read_star(session / "motion" / "micrographs" / f"movie_{number:04d}.star")
    truth = read_star(session / "raw" / "truth" / f"motion_{number:04d}.star")
    return displacement_A(ours, places), displacement_A(truth, places)


def root_mean_square_A(difference: np.ndarray) -> float:
    return float(np.sqrt((difference**2).sum(axis=-1).mean()))


def test_polishing_starts_from_our_trajectories(relion, session):
    start = polish(relion, session, "start", "--max_iters", "0")
    for number in range(1, MOVIES + 1):
        ours, truth = both_motions_A(session, number)
        theirs = tracks_A(start, number)
        assert theirs.shape == ours.shape
        assert np.abs(theirs - ours).max() < 0.01
        bending = truth - truth.mean(axis=0)
        assert root_mean_square_A(theirs - theirs.mean(axis=0) - bending) < 0.5 * root_mean_square_A(bending)


@pytest.fixture(scope="module")
def polished(relion, session):
    return polish(relion, session, "polished", "--combine_frames", "--bfac_minfreq", "30")


def test_polished_tracks_lie_about_the_truth_without_an_offset(session, polished):
    """A place is a coordinate less its shift: with the fraction of a pixel counted twice, tracks lie 1.3 Å off."""
    for number in range(1, MOVIES + 1):
        _, truth = both_motions_A(session, number)
        miss = tracks_A(polished, number) - truth
        assert np.abs(miss.mean(axis=(0, 1))).max() < 0.3
        assert root_mean_square_A(miss) < 0.6 * PIXEL_A


def images_of(session: Path, particles: ImageSet) -> np.ndarray:
    numbers = [name.split("@") for name in particles["image_name"].tolist()]
    stacks = {name: open_stack(session / name) for _, name in numbers}
    return np.array([stacks[name][int(number) - 1] for number, name in numbers])


def true_images(session: Path, particles: ImageSet) -> np.ndarray:
    """Projections of the true map at the true poses, through the true CTF, at the particles' shifts."""

    def column(name: str) -> torch.Tensor:
        return torch.from_numpy(particles[name].astype(np.float64))

    projector = Projector([read_volume(session / "raw" / "truth" / "map.mrc")])
    rotations = matrix_from_euler(column("rot_rad"), column("tilt_rad"), column("psi_rad"))
    return contrast_images(
        projector.project(rotations, np.ones(len(particles), np.int64)), BOX_PX, PIXEL_A,
        defocus_u_A=column("defocus_u_A"), defocus_v_A=column("defocus_v_A"),
        defocus_angle_rad=column("defocus_angle_rad"),
        displacement_A=-torch.stack([column("shift_x_A"), column("shift_y_A")], dim=1),
        optics=Optics(300.0, 2.7, 0.1, 0.0, ENVELOPE_A2),
    ).numpy()  # fmt: skip


def correlation(images: np.ndarray, truth: np.ndarray, coarse_A: float, fine_A: float) -> float:
    """Correlation of all images with all true ones between two resolutions."""
    frequency = np.hypot(np.fft.fftfreq(BOX_PX, PIXEL_A)[:, None], np.fft.rfftfreq(BOX_PX, PIXEL_A)[None])
    band = (frequency > 1.0 / coarse_A) & (frequency < 1.0 / fine_A)
    a, b = (np.fft.rfft2(stack)[:, band] for stack in (images, truth))
    return float(np.vdot(b, a).real / np.sqrt(np.vdot(a, a).real * np.vdot(b, b).real))


def test_polished_particles_are_the_same_and_agree_with_the_truth_at_least_as_well(session, polished):
    ours = read_image_set(session / "extract" / "particles.star", "particles")
    theirs = read_image_set(polished / "shiny.star", "particles")
    assert theirs["uid"].tolist() == ours["uid"].tolist()
    assert theirs["half_set"].tolist() == ours["half_set"].tolist()
    truth, before, after = true_images(session, ours), images_of(session, ours), images_of(session, theirs)
    assert correlation(after, truth, 12.5, 5.3) > correlation(before, truth, 12.5, 5.3) > 0.02
    assert correlation(after, truth, 50.0, 12.5) > 0.9 * correlation(before, truth, 50.0, 12.5) > 0.2
