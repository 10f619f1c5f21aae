"""RELION's own programs read the STAR files and stacks that we write, and we read theirs."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import write_stack
from halfmap.io.relion import read_image_set, write_image_set

pytestmark = pytest.mark.oracle
N, BOX = 12, 16
RNG = np.random.default_rng(2)
IMAGES = RNG.normal(size=(N, BOX, BOX)).astype(np.float32)

# RELION writes eight to ten characters a number: what it keeps of degrees, Å and defocus.
RELION_KEEPS = {"rot_rad": 1e-6, "tilt_rad": 1e-6, "psi_rad": 1e-6, "defocus_angle_rad": 1e-6, "shift_x_A": 1e-5,
                "shift_y_A": 1e-5, "defocus_u_A": 1e-5, "defocus_v_A": 1e-5}  # fmt: skip


def particles() -> ImageSet:
    rows = {
        "image_name": [f"{i + 1:06d}@stack.mrcs" for i in RNG.permutation(N)],
        "micrograph_name": [f"mic{i % 3}.mrc" for i in range(N)],
        "optics_group": [1, 2] * (N // 2),
        "uid": RNG.integers(0, 2**63, N),
        "coordinate_x_px": RNG.uniform(0, 4000, N),
        "coordinate_y_px": RNG.uniform(0, 4000, N),
        "rot_rad": RNG.uniform(-np.pi, np.pi, N),
        "tilt_rad": RNG.uniform(0, np.pi, N),
        "psi_rad": RNG.uniform(-np.pi, np.pi, N),
        "shift_x_A": RNG.normal(size=N) * 3,
        "shift_y_A": RNG.normal(size=N) * 3,
        "defocus_u_A": RNG.uniform(10000, 20000, N),
        "defocus_v_A": RNG.uniform(10000, 20000, N),
        "defocus_angle_rad": RNG.uniform(0, np.pi, N),
        "half_set": RNG.integers(1, 3, N),
        "class_number": RNG.integers(1, 5, N),
    }
    optics = {
        "optics_group": [1, 2],
        "optics_group_name": ["first", "second"],
        "voltage_kV": [300, 200],
        "cs_mm": [2.7, 0.01],
        "amplitude_contrast": [0.1, 0.07],
        "image_pixel_size_A": [1.5, 1.5],
        "box_px": [BOX, BOX],
        "image_dimensions": [2, 2],
    }
    return ImageSet("particles", Table(rows, {"rlnUnheardOf": [f"v{i}" for i in range(N)]}), Table(optics))


@pytest.fixture
def written(tmp_path: Path) -> ImageSet:
    images = particles()
    write_image_set(tmp_path / "ours.star", images)
    write_stack(tmp_path / "stack.mrcs", IMAGES, 1.5)
    return images


def run(relion: Path, folder: Path, program: str, *arguments: str) -> str:
    result = subprocess.run(
        [str(relion / program), *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout + result.stderr


def assert_same(ours: ImageSet, theirs: ImageSet) -> None:
    """Equal to the digits that RELION writes, unknown columns and unknown labels included."""
    assert len(theirs) == len(ours)
    for name, values in ours.rows.columns.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(theirs[name], values, atol=RELION_KEEPS.get(name, 1e-6), err_msg=name)
        else:
            assert theirs[name].tolist() == values.tolist(), name
    for name, values in ours.optics.columns.items():
        assert theirs.optics[name].tolist() == pytest.approx(values.tolist()), name
    for name, values in ours.rows.foreign.items():
        assert theirs.rows.foreign[name].tolist() == values.tolist()


def test_star_handler_passes_our_particles_on_whole(tmp_path: Path, relion: Path, written: ImageSet) -> None:
    run(relion, tmp_path, "relion_star_handler", "--i", "ours.star", "--o", "theirs.star")
    assert_same(written, read_image_set(tmp_path / "theirs.star"))


def test_star_handler_combines_ours_with_theirs(tmp_path: Path, relion: Path, written: ImageSet) -> None:
    for name, half in (("a.star", slice(0, 5)), ("b.star", slice(5, N))):
        write_image_set(tmp_path / name, written.select(np.arange(N)[half]))
    run(relion, tmp_path, "relion_star_handler", "--combine", "--i", "a.star b.star", "--o", "all.star")
    assert_same(written, read_image_set(tmp_path / "all.star"))


def test_star_handler_selects_by_our_numbers(tmp_path: Path, relion: Path, written: ImageSet) -> None:
    select = ["--select", "rlnDefocusU", "--minval", "15000", "--maxval", "18000"]
    run(relion, tmp_path, "relion_star_handler", "--i", "ours.star", "--o", "some.star", *select)
    kept = read_image_set(tmp_path / "some.star")
    defocus = written["defocus_u_A"]
    assert kept["uid"].tolist() == written["uid"][(defocus >= 15000) & (defocus <= 18000)].tolist()
    assert 0 < len(kept) < N


def test_star_handler_finds_no_difference_after_a_round_trip(tmp_path: Path, relion: Path, written: ImageSet) -> None:
    run(relion, tmp_path, "relion_star_handler", "--i", "ours.star", "--o", "theirs.star")
    write_image_set(tmp_path / "back.star", read_image_set(tmp_path / "theirs.star"))
    compare = ["--compare", "back.star", "--label1", "rlnDefocusU", "--max_dist", "0.0001"]
    output = run(relion, tmp_path, "relion_star_handler", "--i", "theirs.star", "--o", "cmp", *compare)
    assert f"{N} entries occur in both" in output
    assert "0 entries occur only in the 1st" in output
    assert "0 entries occur only in the 2nd" in output


def test_stack_create_takes_our_pixels_in_our_order(tmp_path: Path, relion: Path, written: ImageSet) -> None:
    run(relion, tmp_path, "relion_stack_create", "--i", "ours.star", "--o", "made")
    ours = ParticleImages(written, tmp_path).read(np.arange(N))
    theirs = read_image_set(tmp_path / "made.star")
    np.testing.assert_array_equal(ParticleImages(theirs, tmp_path).read(np.arange(N)), ours)
    order = [int(name.split("@")[0]) - 1 for name in written["image_name"].tolist()]
    np.testing.assert_array_equal(ours, IMAGES[order])


@pytest.mark.parametrize("kind", ["movies", "micrographs", "coordinates"])
def test_star_handler_reads_the_other_kinds(tmp_path: Path, relion: Path, kind: str) -> None:
    rows = {"optics_group": [1, 1], "micrograph_name": ["a.mrc", "b.mrc"]}
    optics = {"optics_group": [1], "optics_group_name": ["g"], "voltage_kV": [300], "cs_mm": [2.7]}
    optics |= {"amplitude_contrast": [0.1], "original_pixel_size_A": [0.83], "micrograph_pixel_size_A": [1.66]}
    if kind == "movies":
        rows["movie_name"] = rows.pop("micrograph_name")
    elif kind == "coordinates":
        rows |= {"coordinate_x_px": [1.5, 2], "coordinate_y_px": [3, 4], "uid": [1, 2]}
    else:
        rows |= {"defocus_u_A": [1e4, 2e4], "ctf_fit_resolution_A": [3.1, 4.2]}
    images = ImageSet(kind, Table(rows), Table(optics))  # type: ignore[arg-type]
    write_image_set(tmp_path / "ours.star", images)
    run(relion, tmp_path, "relion_star_handler", "--i", "ours.star", "--o", "theirs.star")
    assert_same(images, read_image_set(tmp_path / "theirs.star"))
