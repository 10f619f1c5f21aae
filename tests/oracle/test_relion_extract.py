"""Our particle images against those that relion_preprocess cuts at the same places."""

import subprocess

import numpy as np
import pytest

from halfmap.io.mrc import open_stack, read_image, write_image
from halfmap.particles.box import BoxPlan
from halfmap.particles.extract import MicrographTask, particle_images

pytestmark = pytest.mark.oracle

PLACES_YX = np.array([(100.0, 100.0), (60.0, 150.0), (150.0, 62.0), (31.0, 100.0)])
OPTICS = (
    "OpticsGroupName OpticsGroup MicrographPixelSize Voltage SphericalAberration AmplitudeContrast "
    "MicrographOriginalPixelSize"
)


def labels(names):
    return "loop_\n" + "".join(f"_rln{name}\n" for name in names.split())


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory):
    folder = tmp_path_factory.mktemp("extract")
    rng = np.random.default_rng(0)
    y, x = np.indices((200, 220))
    image = 500 + rng.normal(0, 2, (200, 220)) + 0.2 * x - 0.1 * y
    for a, b in PLACES_YX:
        image -= 60 * np.exp(-((y - a) ** 2 + (x - b) ** 2) / 32)
    write_image(folder / "a.mrc", image.astype(np.float32), 2.0)
    (folder / "micrographs.star").write_text(
        f"data_optics\n\n{labels(OPTICS)}o 1 2.0 300 2.7 0.1 2.0\n\n"
        f"data_micrographs\n\n{labels('MicrographName OpticsGroup')}a.mrc 1\n"
    )
    rows = "".join(f"{x} {y}\n" for y, x in PLACES_YX)
    (folder / "a_pick.star").write_text(f"data_\n\n{labels('CoordinateX CoordinateY')}{rows}")
    return folder


def both(relion, folder, box_px):
    """RELION's images and ours, protein white, of one box."""
    command = [
        str(relion / "relion_preprocess"), "--i", "micrographs.star", "--coord_dir", "./",
        "--coord_suffix", "_pick.star", "--part_star", f"out{box_px}.star", "--part_dir", f"Ex{box_px}/",
        "--extract", "--extract_size", "64", "--scale", str(box_px), "--norm", "--bg_radius", str(box_px * 20 // 64),
        "--white_dust", "-1", "--black_dust", "-1", "--invert_contrast",
    ]  # fmt: skip
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    stack = open_stack(folder / f"Ex{box_px}" / "a.mrcs")
    task = MicrographTask(
        "a.mrc", "a", np.arange(4), PLACES_YX[:, 1], PLACES_YX[:, 0], BoxPlan(64, box_px, 2.0), 80.0, {}, {}
    )
    ours, _ = particle_images(read_image(folder / "a.mrc")[0], task, np.arange(4), box_px, "cpu")
    return np.stack([stack[i] for i in range(len(stack))]), -ours.numpy()


def test_images_are_those_of_relion_to_rounding(relion, micrograph):
    theirs, ours = both(relion, micrograph, 64)
    assert np.abs(theirs - ours)[:3].max() < 1e-4
    # The fourth box reaches beyond the edge: we mirror, RELION repeats the last row; the particle is the same.
    middle = slice(28, 37)
    assert np.abs(theirs - ours)[3, middle, middle].max() < 0.5


def test_binned_images_are_those_of_relion_below_nyquist(relion, micrograph):
    theirs, ours = (np.fft.rfft2(images[:3]) for images in both(relion, micrograph, 32))
    for transform in (theirs, ours):
        transform[:, 16, :] = 0
        transform[:, :, 16] = 0
    for a, b in zip(theirs, ours, strict=True):
        scale = np.vdot(b, a).real / np.vdot(b, b).real  # The spread that is divided by includes the Nyquist terms.
        assert scale == pytest.approx(1.0, abs=0.05)
        assert np.abs(a - scale * b).max() < 0.015 * np.abs(a).max()
