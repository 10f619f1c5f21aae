"""The motion that relion_run_motioncorr finds in a bending movie, read by our formula, and ours in the same form."""

import subprocess

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from halfmap.io.movies import write_movie
from halfmap.io.star import read_star
from halfmap.motion.correct import MovieSettings
from halfmap.motion.files import MovieFiles, process_movie
from halfmap.motion.surface import LocalModel
from halfmap.simulate.motion import warp

pytestmark = pytest.mark.oracle

SHAPE, FRAMES, PIXEL_A = (640, 768), 9, 2.0


def displacement_px(progress, x, y):
    """Of the specimen, at positions from -0.5 to 0.5: along x and y."""
    return progress * (3.0 + 8.0 * x - 3.0 * y), progress * (-2.0 + 6.0 * y * x)


@pytest.fixture(scope="module")
def both(relion, tmp_path_factory):
    """The STAR files of RELION and of ours for one movie."""
    folder = tmp_path_factory.mktemp("motion")
    rng = np.random.default_rng(0)
    specimen = gaussian_filter(rng.normal(size=SHAPE), 1.5)
    specimen = (1.0 + 0.35 * specimen / specimen.std()).astype(np.float32)
    x, y = np.meshgrid(np.arange(SHAPE[1]) / SHAPE[1] - 0.5, np.arange(SHAPE[0]) / SHAPE[0] - 0.5)
    counts = []
    for frame in range(FRAMES):
        dx, dy = (np.asarray(d, np.float32) for d in displacement_px(frame / (FRAMES - 1), x, y))
        counts.append(rng.poisson(np.clip(warp(specimen, dx, dy), 0, None) * 3.0).astype(np.int8))
    write_movie(folder / "a.mrcs", counts, pixel_size_A=PIXEL_A)
    optics = "OpticsGroupName OpticsGroup MicrographOriginalPixelSize Voltage SphericalAberration AmplitudeContrast"
    labels = "".join(f"_rln{name}\n" for name in optics.split())
    (folder / "movies.star").write_text(
        f"data_optics\n\nloop_\n{labels}o 1 {PIXEL_A} 300 2.7 0.1\n\n"
        "data_movies\n\nloop_\n_rlnMicrographMovieName\n_rlnOpticsGroup\na.mrcs 1\n"
    )
    command = [
        str(relion / "relion_run_motioncorr"), "--i", "movies.star", "--o", "relion/", "--use_own", "--j", "1",
        "--patch_x", "5", "--patch_y", "5", "--dose_per_frame", "1.0", "--voltage", "300", "--angpix", str(PIXEL_A),
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    settings = MovieSettings(pixel_size_A=PIXEL_A, voltage_kV=300.0, dose_per_frame_e_per_A2=1.0)
    process_movie(MovieFiles(folder / "a.mrcs", None, folder / "ours", settings), device="cpu", float16=False)
    return read_star(next((folder / "relion").rglob("a.star"))), read_star(folder / "ours.star")


def shifts_px(star, places):
    whole = np.stack([star["global_shift"][f"rlnMicrographShift{axis}"].astype(float) for axis in "XY"], axis=1)
    coefficients = star["local_motion_model"]["rlnMotionModelCoeff"].astype(float).reshape(2, 6, 3)
    return whole[None] + LocalModel(coefficients).shifts_px(np.arange(FRAMES), places)


def test_our_formula_reads_relions_shifts_with_their_sign_and_scale(both):
    edge = np.linspace(-0.4, 0.4, 5)
    places = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    progress = np.arange(FRAMES)[None] / (FRAMES - 1)
    truth = -np.stack(displacement_px(progress, *places.T[..., None]), axis=-1)
    for star, most_px in zip(both, (0.6, 0.15), strict=True):
        error = shifts_px(star, places) - truth
        error -= error.mean(axis=1, keepdims=True)
        assert np.sqrt((error**2).sum(-1).mean()) < most_px


def test_our_file_has_all_that_relions_has(both):
    theirs, ours = both
    assert ours["general"]["rlnMotionModelVersion"][0] == theirs["general"]["rlnMotionModelVersion"][0]
    for block in ("general", "global_shift", "local_motion_model"):
        assert set(theirs[block]) <= set(ours[block])
    for block, label in (
        ("local_motion_model", "rlnMotionModelCoeffsIdx"),
        ("global_shift", "rlnMicrographFrameNumber"),
    ):
        assert ours[block][label].astype(int).tolist() == theirs[block][label].astype(int).tolist()
