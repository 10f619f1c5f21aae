"""Symmetry expansion: rows for operators, the same map, halves and numbers that stay."""

import numpy as np
import pytest
import torch

from halfmap.errors import StepFailedError
from halfmap.exec.runner import run_job
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_euler
from halfmap.geometry.symmetry import point_group
from halfmap.io.mrc import write_stack
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.jobs.run_options import RunOptions
from halfmap.refine.expand.expansion import expanded
from halfmap.refine.expand.options import ExpandOptions
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.half import first_noise
from halfmap.refine.rings.transform import shift_phases
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.steps.expand import STEP


def poses(images):
    return matrix_from_euler(*(images[name].copy() for name in ("rot_rad", "tilt_rad", "psi_rad")))


def run(folder, out="expanded", star="particles.star", symmetry="D2"):
    options = ExpandOptions(symmetry=symmetry)
    record = run_job(STEP, {"particles": [folder / star]}, options, RunOptions(out=folder / out, threads=1))
    return record, read_image_set(folder / out / "particles.star", "particles")


@pytest.fixture
def d2(tmp_path, phantom, simulated):
    data = simulated([phantom(32, 3.0, 60.0, n=4, symmetry="D2")], [24], snr=1.0, diameter_A=60.0)
    write_stack(tmp_path / "particles.mrcs", np.array(data.images, np.float32), 3.0)
    write_image_set(tmp_path / "particles.star", data.image_set)
    return data


@pytest.mark.parametrize("symmetry", ["C3", "D2", "O", "I1"])
def test_a_row_for_every_operator_and_particle(tiny, symmetry):
    _, data, _ = tiny
    operators = point_group(symmetry)
    order = len(operators)
    copies = expanded(data.image_set, symmetry)
    assert len(copies) == 24 * order
    wanted = (data.rot_img_from_map[:, None] @ operators).reshape(-1, 3, 3)
    assert float(angular_distance_rad(poses(copies), wanted).max()) < 1e-6
    assert len(set(copies["uid"].tolist())) == len(copies)
    assert (copies["uid"] >= 0).all()
    assert np.array_equal(copies["source_uid"], np.repeat(data.image_set["uid"], order))
    for name in ("image_name", "shift_x_A", "shift_y_A", "defocus_u_A", "optics_group", "micrograph_name"):
        assert np.array_equal(copies[name], np.repeat(data.image_set[name], order)), name


def test_numbers_do_not_depend_on_the_other_particles(tiny):
    _, data, _ = tiny
    some = data.image_set.select([7, 3])
    found = expanded(some, "D2")["uid"].reshape(2, 4)
    every = expanded(data.image_set, "D2")["uid"].reshape(24, 4)
    assert np.array_equal(found, every[[7, 3]])
    assert not set(every.ravel().tolist()) & set(expanded(data.image_set, "C4")["uid"].tolist())


def reconstructed(data, images, reader_rows, symmetry):
    """Map from rows of a table; their pixels are those of the particles named by number."""
    grid = MapGrid(32, 3.0)
    observations = data.observations(grid, 60.0)
    batch, lattice = observations.batch(reader_rows, grid.nyquist_px), observations.lattice
    weighted, weights = first_noise(observations, np.arange(24)).weighted(batch, lattice)
    shift = torch.as_tensor(np.stack([images["shift_x_A"], images["shift_y_A"]], axis=1))
    phases = shift_phases(lattice.kx_px, lattice.ky_px, shift, grid.length_A)
    sums = Accumulator.empty(grid, grid.nyquist_px)
    sums.insert(lattice, weighted * phases, weights, poses(images), point_group(symmetry))
    return sums.volume()


def test_expanded_without_symmetry_gives_the_map_with_it(d2, tmp_path):
    """To rounding error of float32; without the copies the map differs."""
    _, copies = run(tmp_path)
    source = copies["source_uid"] - 1
    once = reconstructed(d2, d2.image_set, np.arange(24), "D2")
    found = reconstructed(d2, copies, source, "C1")
    assert float((found - once).abs().max()) < 1e-4 * float(once.abs().max())
    without = reconstructed(d2, d2.image_set, np.arange(24), "C1")
    assert float((without - once).abs().max()) > 0.1 * float(once.abs().max())


def test_copies_stay_in_the_half_of_their_particle(d2, tmp_path):
    """The half that is given, or one drawn before the particles are copied."""
    record, copies = run(tmp_path)
    assert (record.figures["items_in"], record.figures["items_out"]) == (24, 96)
    halves = copies["half_set"].reshape(24, 4)
    assert (halves == halves[:, :1]).all()
    assert set(halves.ravel().tolist()) == {1, 2}
    given = d2.image_set.with_columns(half_set=1 + np.arange(24) % 2)
    write_image_set(tmp_path / "given.star", given)
    _, copies = run(tmp_path, "given", "given.star")
    assert np.array_equal(copies["half_set"], np.repeat(given["half_set"], 4))


def test_the_table_is_read_as_it_was_written(d2, tmp_path):
    _, copies = run(tmp_path)
    write_image_set(tmp_path / "again.star", copies)
    assert (tmp_path / "again.star").read_text() == (tmp_path / "expanded" / "particles.star").read_text()
    assert "_rlnHalfmapSourceUid" in (tmp_path / "again.star").read_text()
    assert {name.rpartition("@")[2] for name in copies["image_name"]} == {str(tmp_path / "particles.mrcs")}


def test_nothing_to_do_and_nothing_done_twice(d2, tmp_path):
    with pytest.raises(StepFailedError) as caught:
        run(tmp_path, "c1", symmetry="c1")
    assert caught.value.code == "no-symmetry"
    run(tmp_path)
    with pytest.raises(StepFailedError, match="rlnHalfmapSourceUid") as caught:
        run(tmp_path, "twice", "expanded/particles.star")
    assert caught.value.code == "expanded"
    # As another program would write it: without our column.
    doubled = d2.image_set.select([0, 0, 1, 2])
    write_image_set(tmp_path / "doubled.star", doubled.with_columns(uid=np.arange(4)))
    with pytest.raises(StepFailedError, match="2 rows"):
        run(tmp_path, "foreign", "doubled.star")
