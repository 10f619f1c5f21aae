"""2D classification of images whose class, in-plane angle and shift are known."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.mrc import open_stack, write_stack
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.refine.class2d.classification import Classification, centre_of_mass_px, class_radius_px
from halfmap.refine.class2d.files import classify_particles, warn_of_one_class
from halfmap.refine.class2d.options import Class2DOptions
from halfmap.refine.class2d.schedule import schedule
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.rings.expectation import disc_of_shifts, shrunk_correlation
from halfmap.refine.rings.transform import ring_grid

DIAMETER_A = 70.0
GRID = MapGrid(32, 3.0)
VIEWS = np.array([[0.2, 0.3], [1.0, 1.4], [2.5, 1.2], [4.0, 2.2]])
OPTIONS = Class2DOptions(classes=6, diameter_A=DIAMETER_A, resolution_A=9.0, iterations=12, offset_range_A=6.0)


@pytest.fixture(scope="module")
def views(phantom, simulated):
    """240 images of four views of one phantom, at random in-plane angles and shifts."""
    volume = phantom(32, 3.0, DIAMETER_A, n=14, sigma_A=4.0, seed=2)
    n = 240
    psi = np.random.default_rng(3).uniform(0, 2 * np.pi, n)
    rot = matrix_from_euler(*VIEWS[np.arange(n) % len(VIEWS)].T, psi)
    return simulated([volume], [n], snr=0.3, diameter_A=DIAMETER_A, shift_sigma_A=2.0, rot=rot), psi


@pytest.fixture(scope="module")
def run(views):
    made, _ = views
    observations = made.observations(GRID, DIAMETER_A)
    return Classification(observations, 1 + np.arange(len(observations)) % 2, OPTIONS, seed=4)


@pytest.fixture(scope="module")
def states(run):
    """The state after each pass."""
    state = run.start()
    found = [state]
    for _ in run.passes:
        state = run.advance(state)
        found.append(state)
    return found


def purity(classes, truth):
    table = np.zeros((classes.max() + 1, truth.max() + 1))
    np.add.at(table, (classes, truth), 1)
    return table.max(axis=1).sum() / table.sum()


@pytest.mark.truth
def test_classes_are_the_views(states):
    assert purity(states[-1].assignment.class_index, np.arange(240) % len(VIEWS)) > 0.95


@pytest.mark.truth
def test_in_plane_angles_and_shifts_within_a_class_are_those_of_the_truth(states, views):
    made, psi = views
    assignment = states[-1].assignment
    largest = np.bincount(assignment.class_index).argmax()
    members = np.flatnonzero(assignment.class_index == largest)
    turn = assignment.psi_rad[members] - psi[members]
    common = np.angle(np.exp(1j * turn).mean())
    assert np.degrees(np.median(np.abs(np.angle(np.exp(1j * (turn - common)))))) < 5
    # A class is centred on its own centre of mass: shifts may differ by one vector that turns with the image.
    error = assignment.shift_A[members] - made.shift_A.numpy()[members]
    cosine, sine = np.cos(assignment.psi_rad[members]), np.sin(assignment.psi_rad[members])
    in_class = np.stack([cosine * error[:, 0] - sine * error[:, 1], sine * error[:, 0] + cosine * error[:, 1]], axis=1)
    assert np.median(np.linalg.norm(in_class - np.median(in_class, axis=0), axis=1)) < 1.5


@pytest.mark.truth
def test_noise_is_found(states, run):
    """The images have noise of variance 1 in each of 32 x 32 pixels; what classes cannot explain adds a little."""
    sigma2 = states[-1].sigma2[0] / 32**2
    power = states[0].sigma2[0] / 32**2
    assert power[2:5].mean() > 2
    assert sigma2[2:].mean() == pytest.approx(1, abs=0.2)
    assert np.all(np.abs(sigma2[2:] - 1) < 0.5)


@pytest.mark.truth
def test_likelihood_grows(states):
    log_likelihood = [s.assignment.log_likelihood[s.assignment.class_index >= 0].mean() for s in states[1:]]
    assert log_likelihood[-1] > 1.5 * log_likelihood[0]


def test_one_pass_twice_gives_the_same_bits_whatever_the_threads(run):
    state = run.start()
    other = Classification(run.observations, run.half_set, OPTIONS, seed=4, threads=3)
    one, two = run.advance(state), other.advance(other.start())
    assert torch.equal(one.images, two.images)
    assert np.array_equal(one.assignment.psi_rad, two.assignment.psi_rad)
    assert np.array_equal(one.sigma2, two.sigma2)


@pytest.fixture
def on_disk(views, tmp_path):
    made, _ = views
    few = made.image_set.select(np.arange(60))
    write_stack(tmp_path / "particles.mrcs", np.stack(made.images[:60]).astype(np.float32), GRID.pixel_size_A)
    return few, tmp_path


QUICK = Class2DOptions(classes=3, diameter_A=DIAMETER_A, resolution_A=15.0, iterations=3)


def test_killed_and_continued_is_the_same_as_undisturbed(on_disk, session):
    images, folder = on_disk
    for name in ("whole", "killed"):
        (folder / name).mkdir()
    classify_particles(images, folder / "p.star", QUICK, folder / "whole", "cpu", session())
    broken = session(die_at=2)
    with pytest.raises(KeyboardInterrupt):
        classify_particles(images, folder / "p.star", QUICK, folder / "killed", "cpu", broken)
    broken.die_at = 0
    classify_particles(images, folder / "p.star", QUICK, folder / "killed", "cpu", broken)
    assert (folder / "whole/classes.mrcs").read_bytes()[1024:] == (folder / "killed/classes.mrcs").read_bytes()[1024:]
    assert (folder / "whole/particles.star").read_bytes() == (folder / "killed/particles.star").read_bytes()


def test_files_hold_what_the_next_steps_need(on_disk, session):
    images, folder = on_disk
    figures = classify_particles(images, folder / "p.star", QUICK, folder, "cpu", session())
    particles = read_image_set(folder / "particles.star", "particles")
    table = read_star(folder / "classes.star")["model_classes"]
    counts = np.asarray(table["rlnHalfmapClassParticles"], dtype=int)
    stack = open_stack(folder / "classes.mrcs")
    assert figures["items_in"] == figures["items_out"] == len(particles) == 60
    assert stack.shape == (32, 32)
    assert np.array_equal(np.bincount(particles["class_number"], minlength=4)[1:], counts)
    assert np.array_equal(counts, np.sort(counts)[::-1])
    assert np.asarray(table["rlnClassDistribution"], dtype=float).sum() == pytest.approx(1)
    assert np.array_equal(particles["defocus_u_A"].round(3), images["defocus_u_A"].round(3))
    assert particles["micrograph_name"].tolist() == images["micrograph_name"].tolist()


def test_too_many_classes_are_refused(run):
    with pytest.raises(HalfmapError, match="too few"):
        Classification(run.observations, run.half_set, OPTIONS.model_copy(update={"classes": 200}), seed=0)


def test_moving_a_class_moves_its_particles(run):
    """Centring a class and shifting its particles leaves the likelihood of every particle as it is."""
    state = run.start()
    state = replace(state, images=torch.roll(state.images, (2, -3), dims=(1, 2)))
    step = replace(run.passes[0], centre=True, reseed=False)
    assert step.centre
    before = centre_of_mass_px(state.images).norm(dim=1)
    moved = replace(run.advance(state))
    after = centre_of_mass_px(moved.images).norm(dim=1)
    assert float(before.min()) > 2.0
    assert float(after.max()) < 1.0


def test_schedule_grows_to_everything():
    passes = schedule(Class2DOptions(), 30_000, 200.0, 60)
    counts, radii = [p.n_images for p in passes], [p.radius_px for p in passes]
    assert counts == sorted(counts)
    assert counts[0] < 2000
    assert counts[-1] == 30_000
    assert radii == sorted(radii)
    assert radii[0] == 6
    assert radii[-1] == 33
    assert [p.last for p in passes] == [False] * 19 + [True]
    assert not passes[-1].reseed


def test_shifts_of_a_disc():
    shifts = disc_of_shifts(2.0, 4.0)
    assert len(shifts) == 13
    assert shifts[0].tolist() == [0.0, 0.0]
    assert np.hypot(*shifts.T).max() <= 4.0


def test_radius_of_a_class_is_where_its_halves_part():
    curves = np.array([[1.0] * 6 + [0.2] * 4, [1.0] * 10])
    assert class_radius_px(curves, 0.5).tolist() == [5.0, 9.0]


def test_correlations_of_small_classes_are_drawn_to_what_all_show():
    """Classes alike up to noise come nearer to the truth; those that really differ stay apart; empty ones count not."""
    grid = ring_grid(30.5, 0.4)
    radius = torch.arange(grid.n_rings).clamp_min(1)
    chance = 1 / (math.pi * radius * 0.8**2)
    truth = torch.exp(-radius / 15.0)
    noise = chance.sqrt() * torch.randn(40, grid.n_rings, generator=torch.Generator().manual_seed(3))
    noise[:, :3] = 0.0
    alike = truth + noise
    found = shrunk_correlation(grid, alike)
    assert float((found - truth).square().mean()) < 0.25 * float((alike - truth).square().mean())
    flat = torch.exp(-radius / 60.0)
    kept = shrunk_correlation(grid, torch.cat([flat + noise[:20], 0.1 * flat + noise[20:]]))
    difference = (kept[:20] - kept[20:])[:, 15:25].mean()
    assert float(difference) > 0.75 * float((0.9 * flat)[15:25].mean())
    with_empty = torch.cat([alike, torch.zeros(40, grid.n_rings)])
    torch.testing.assert_close(shrunk_correlation(grid, with_empty)[:40], found)


def test_centre_of_mass():
    image = torch.zeros(2, 17, 17)
    image[0, 10, 5] = 2.0
    image[1, 8, 8] = 1.0
    assert centre_of_mass_px(image).tolist() == [[-3.0, 2.0], [0.0, 0.0]]


def test_one_class_for_most_particles_is_told(session):
    told = session()
    warn_of_one_class(0.77, 14, told)
    assert "77% of the particles are in one of 14 classes" in told.warnings[0]
    for share, classes in ((0.3, 14), (0.9, 2)):
        warn_of_one_class(share, classes, told)
    assert len(told.warnings) == 1
