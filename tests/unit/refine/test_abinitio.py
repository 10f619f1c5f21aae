"""A first map from particles alone, against the map that they were made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import fsc
from halfmap.fourier.grid import real_space_radius_px
from halfmap.geometry.rotations import angular_distance_rad, matrix_from_euler
from halfmap.geometry.symmetry import point_group
from halfmap.io.mrc import read_volume, write_stack
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.refine.abinitio import fine, search
from halfmap.refine.abinitio.files import TOLD_APART, reconstruct_particles
from halfmap.refine.abinitio.options import AbInitioOptions
from halfmap.refine.abinitio.rounds import Tournament
from halfmap.refine.abinitio.schedule import Round, Step, fine_steps, schedule
from halfmap.refine.abinitio.search import AbInitio, centre_of_mass_px, free_part, pushed, rolled, spherical_average
from halfmap.refine.images.lattice import MapGrid
from halfmap.validation.align_maps import align_maps, aligned_map

DIAMETER_A = 90.0
GRID = MapGrid(32, 4.0)
QUICK = AbInitioOptions(
    symmetry="O", diameter_A=DIAMETER_A, resolution_A=16.0, start_resolution_A=30.0, starts=2, iterations=8
)


def in_a_folder(made, folder):
    write_stack(folder / "particles.mrcs", np.stack(made.images).astype(np.float32), GRID.pixel_size_A)
    return made.image_set, folder / "p.star"


@pytest.fixture(scope="module")
def cage(phantom, simulated):
    volume = phantom(32, 4.0, DIAMETER_A, symmetry="O", n=5, sigma_A=5.0, seed=1)
    return volume, simulated([volume], [150], snr=0.3, diameter_A=DIAMETER_A, shift_sigma_A=2.0)


def fsc_with_truth(volume, truth, symmetry):
    alignment = align_maps(volume, truth, GRID.pixel_size_A, symmetry=symmetry, resolution_A=24.0)
    return fsc(aligned_map(volume, alignment, GRID.pixel_size_A), truth).numpy(), alignment


@pytest.mark.truth
@pytest.mark.parametrize(("symmetry", "blobs", "count"), [("O", 5, 150), ("C1", 40, 200)])
def test_the_map_comes_out_of_the_particles(symmetry, blobs, count, phantom, simulated, session, tmp_path):
    volume = phantom(32, 4.0, DIAMETER_A, symmetry=symmetry, n=blobs, sigma_A=5.0, seed=1)
    made = simulated([volume], [count], snr=0.3, diameter_A=DIAMETER_A, shift_sigma_A=2.0)
    options = QUICK.model_copy(update={"symmetry": symmetry, "starts": 2, "iterations": 40})
    images, star = in_a_folder(made, tmp_path)
    figures = reconstruct_particles(images, star, options, tmp_path, "cpu", session())
    found = torch.as_tensor(np.array(read_volume(tmp_path / "map.mrc").data))
    curve, alignment = fsc_with_truth(found, torch.as_tensor(volume.data), symmetry)
    resolution = GRID.length_A / np.argmax(curve < 0.5)
    assert resolution < 22, curve
    assert figures["hand"] == "undetermined"
    assert figures.get("symmetry_found", "C1") == "C1"
    poses = read_image_set(tmp_path / "particles.star", "particles")
    rot = matrix_from_euler(*(np.array(poses[name]) for name in ("rot_rad", "tilt_rad", "psi_rad")))
    # In the frame of the truth (for the right hand) and up to the point group poses are those of the truth.
    if not alignment.mirrored:
        in_truth = rot @ torch.as_tensor(alignment.rot_map_from_ref)
        equivalent = in_truth[:, None] @ point_group(symmetry)
        error = angular_distance_rad(equivalent, made.rot_img_from_map[:, None]).min(dim=1).values
        assert np.degrees(float(error.median())) < 15


@pytest.mark.truth
def test_symmetry_that_was_not_given_is_found_and_the_map_is_in_its_frame(phantom, simulated, session, tmp_path):
    diameter_A = 104.0
    volume = phantom(32, 4.0, diameter_A, symmetry="O", n=4, sigma_A=5.0, seed=1)
    made = simulated([volume], [400], snr=0.6, diameter_A=diameter_A, shift_sigma_A=2.0)
    options = QUICK.model_copy(update={"symmetry": "C1", "diameter_A": diameter_A, "starts": 1, "iterations": 40})
    images, star = in_a_folder(made, tmp_path)
    figures = reconstruct_particles(images, star, options, tmp_path, "cpu", session())
    assert figures["symmetry"] == "C1"
    assert figures["symmetry_found"] == "O"
    found = torch.as_tensor(np.array(read_volume(tmp_path / "map.mrc").data))
    quarter = torch.roll(found.transpose(1, 2).flip(2), 1, dims=2)  # (x, y) becomes (-y, x)
    assert float(fsc(found, quarter)[1:6].min()) > 0.8
    tilted = torch.roll(found.transpose(0, 1).flip(1), 1, dims=1)
    assert float(fsc(found, tilted)[1:6].min()) > 0.8


def rounds_of(count):
    return schedule(QUICK, 16.0, count, GRID.length_A, GRID.nyquist_px)


@pytest.fixture(scope="module")
def run(cage):
    _, made = cage
    return AbInitio(made.observations(GRID, DIAMETER_A), 1 + np.arange(150) % 2, QUICK, seed=3)


def test_truth_stays_truth(run, cage):
    """Started from the truth on a wrong grey scale, the map keeps its shape."""
    truth = torch.as_tensor(cage[0].data)
    step = Step(150, 7, False, True, False)
    first = run.advance(run.start(0, step), step)
    started = replace(first, steps_done=1, volumes=(truth * float(first.volume.norm() / truth.norm()) * run.mask,))
    for _ in range(3):
        started = run.advance(started, step)
    curve = fsc(started.volume, truth).numpy()
    assert curve[2:6].min() > 0.95
    assert started.log_likelihood > 1.3 * first.log_likelihood
    assert run.shape_gain(started, step) > 2 * TOLD_APART


def test_a_step_twice_gives_the_same_bits_whatever_the_threads(run):
    other = AbInitio(run.observations, run.half_set, QUICK, seed=3, threads=2)
    step = rounds_of(150)[0].steps[0]
    one, two = run.advance(run.start(1, step), step), other.advance(other.start(1, step), step)
    assert torch.equal(one.volume, two.volume)
    assert np.array_equal(one.rot_img_from_map, two.rot_img_from_map)


def test_starts_differ_and_maps_have_the_symmetry(run):
    step = rounds_of(150)[0].steps[0]
    one, two = run.start(0, step), run.start(1, step)
    assert float((one.volume - two.volume).abs().max()) > 0.1 * float(one.volume.abs().max())
    volume = run.advance(one, step).volume
    # A fourfold axis lies along z.
    turned = torch.roll(volume.transpose(1, 2).flip(2), 1, dims=2)
    inside = slice(4, -4)
    difference = (turned - volume)[inside, inside, inside]
    assert float(difference.norm()) < 0.05 * float(volume.norm())


def test_only_free_directions_are_centred():
    vector = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    for symmetry, expected in (("C1", [1, 2, 3]), ("C4", [0, 0, 3]), ("D2", [0, 0, 0]), ("O", [0, 0, 0])):
        free = free_part(vector, point_group(symmetry))
        assert torch.allclose(free, torch.tensor(expected, dtype=torch.float64), atol=1e-12)


def test_killed_and_continued_is_the_same_as_undisturbed(cage, session, tmp_path):
    images, star = in_a_folder(cage[1], tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    reconstruct_particles(images, star, QUICK, whole, "cpu", session())
    n_trial = len(rounds_of(150)[0].steps)
    broken = session()
    for moment in (2, n_trial, 2 * n_trial, 2 * n_trial + 1):
        broken.die_at = moment
        with pytest.raises(KeyboardInterrupt):
            reconstruct_particles(images, star, QUICK, killed, "cpu", broken)
    broken.die_at = 0
    reconstruct_particles(images, star, QUICK, killed, "cpu", broken)
    assert (whole / "map.mrc").read_bytes()[1024:] == (killed / "map.mrc").read_bytes()[1024:]
    assert (whole / "particles.star").read_bytes() == (killed / "particles.star").read_bytes()


def test_particles_beyond_the_limit_pass_through_without_pose(cage, session, tmp_path):
    images, star = in_a_folder(cage[1], tmp_path)
    options = QUICK.model_copy(update={"max_particles": 100, "starts": 1})
    figures = reconstruct_particles(images, star, options, tmp_path, "cpu", session())
    written = read_image_set(tmp_path / "particles.star", "particles")
    assert (figures["items_in"], figures["items_out"], figures["used_particles"]) == (150, 150, 100)
    assert written["image_name"].tolist() == images["image_name"].tolist()
    assert (written["max_posterior"] > 0).sum() == 100
    assert len(read_star(tmp_path / "starts.star")["starts"]["rlnHalfmapStart"]) == 1


def test_few_particles_are_refused(cage):
    _, made = cage
    few = replace(made, image_set=made.image_set.select(np.arange(20)), images=made.images[:20])
    with pytest.raises(HalfmapError, match="too few"):
        AbInitio(few.observations(GRID, DIAMETER_A), 1 + np.arange(20) % 2, QUICK, seed=0)


def test_schedule_compares_before_it_goes_on():
    trial, rest = schedule(AbInitioOptions(), 12.0, 3000, 200.0, 40)
    steps = trial.steps + rest.steps
    assert len(steps) == 60
    assert [s.radius_px for s in steps] == sorted(s.radius_px for s in steps)
    assert (steps[0].radius_px, steps[-1].radius_px) == (5, 16)
    assert steps[-1].n_images == 3000
    assert max(s.n_images for s in trial.steps) == 150
    assert [s.compared for s in trial.steps[-6:]] == [False] + [True] * 5


def test_a_fine_search_leaves_coarse_shells_out_until_its_end():
    climbing, last = fine_steps(8.0, 100.0, 3000, 200.0, 40)
    assert (climbing.radius_px, climbing.first_px, last.first_px) == (25, 10, 0)
    assert climbing.pushed
    assert not last.pushed
    assert (climbing.n_images, last.n_images) == (1500, 3000)


def test_rounds_keep_the_likeliest_starts_and_go_on_where_they_were(run, session):
    step = Step(60, 6, True, True, True)
    rounds = [Round((step,) * 2, 0.5), Round((step,) * 2, 0.0), Round((step,), 1.0)]
    whole = Tournament(run, rounds, "search", 4, session())
    best = whole.outcome()
    assert len(whole.numbers) == 1
    assert whole.index == 4 * 2 + 2 * 2 + 1
    broken = session()
    for moment in (3, 9, 11):
        broken.die_at = moment
        with pytest.raises(KeyboardInterrupt):
            Tournament(run, rounds, "search", 4, broken).outcome()
    broken.die_at = 0
    again = Tournament(run, rounds, "search", 4, broken)
    assert torch.equal(again.outcome().volume, best.volume)
    assert again.numbers == whole.numbers


def small_rounds(monkeypatch):
    """Rounds of few maps and steps: 3 starts, then 2 maps, then 2 as often as they rise."""
    stages = {"STARTS": (3, 2), "FINALISTS": (2, 1)}
    for name, (maps, steps) in stages.items():
        monkeypatch.setattr(fine, name, fine.Stage(maps, steps))
    monkeypatch.setattr(fine, "SIEVE", (fine.Stage(2, 1),))
    for name, value in {"TOGETHER": 2, "LAST_STEPS": 2, "MOST_FINALS": 2}.items():
        monkeypatch.setattr(fine, name, value)


def fine_search(run, enough, rounds, told):
    climbing, last = fine_steps(16.0, DIAMETER_A, 150, GRID.length_A, GRID.nyquist_px)
    return fine.FineSearch(run, climbing, last, enough, "fine", rounds, told)


@pytest.mark.parametrize("enough", [-1e9, 1e9])
def test_a_fine_search_killed_and_continued_is_the_same(enough, run, session, monkeypatch):
    """With a first round that is good enough, and with none that ever is."""
    small_rounds(monkeypatch)
    whole_session = session()
    whole = fine_search(run, enough, 2, whole_session)
    best = whole.outcome()
    rounds = 1 if enough < 0 else 2
    assert whole.state.round == rounds
    assert len(whole.scores()) == 3 * rounds
    assert len([line for line in whole_session.messages if line.startswith("round")]) == rounds
    broken = session()
    for moment in whole_session.indices:
        broken.die_at = moment
        with pytest.raises(KeyboardInterrupt):
            fine_search(run, enough, 2, broken).outcome()
    broken.die_at = 0
    again = fine_search(run, enough, 2, broken)
    assert torch.equal(again.outcome().volume, best.volume)
    assert np.array_equal(again.scores(), whole.scores())


def test_the_likeliest_maps_go_on(run, session):
    search = fine_search(run, 1e9, 1, session())
    maps = [run.start(2 * number, search.climbing) for number in range(3)]
    search._put("entrants", maps, [1.0, 0.5, 2.0], 2)
    assert search.state.likelihoods["entrants"] == [2.0, 1.0]
    assert [hypothesis.seed for hypothesis in search.state.entrants] == [4, 0]


def test_a_push_goes_beyond_in_what_has_directions_alone():
    radius = real_space_radius_px((24, 24, 24))
    sphere = torch.exp(-(radius**2) / 50)
    bulge = sphere * (torch.arange(24.0) - 12)[:, None, None]
    nothing = torch.zeros_like(sphere)
    first, velocity = pushed(nothing, sphere + bulge, None)
    assert float((first - sphere - 2 * bulge).abs().max()) < 0.05
    second, _ = pushed(first, first, velocity)
    assert float((second - sphere - 3 * bulge).abs().max()) < 0.1


def test_spherical_average_keeps_a_sphere_and_forgets_directions():
    radius = real_space_radius_px((24, 24, 24))
    sphere = torch.exp(-(radius**2) / 50)
    assert float((spherical_average(sphere) - sphere).abs().max()) < 0.02
    axis = torch.arange(24.0) - 12
    odd = sphere * axis[:, None, None]
    assert float(spherical_average(odd)[radius < 11].abs().max()) < 1e-3 * float(odd.abs().max())


def test_a_shell_whose_views_look_alike_is_not_trusted(simulated, phantom, session, tmp_path, monkeypatch):
    """Particles of a sphere: the search goes on to finer resolution, finds nothing, and says so."""
    small_rounds(monkeypatch)
    volume = phantom(32, 4.0, DIAMETER_A, symmetry="O", n=5, sigma_A=5.0, seed=1)
    smooth = spherical_average(torch.as_tensor(volume.data)).numpy()
    made = simulated([Volume(smooth, 4.0)], [100], snr=0.3, diameter_A=DIAMETER_A, shift_sigma_A=2.0)
    images, star = in_a_folder(made, tmp_path)
    options = AbInitioOptions(symmetry="O", diameter_A=DIAMETER_A, starts=1, iterations=8)
    told = session()
    figures = reconstruct_particles(images, star, options, tmp_path, "cpu", told)
    assert figures["shape_gain"] < TOLD_APART
    assert any("not told apart" in warning for warning in told.warnings)
    assert any("starts anew" in line for line in told.messages)


def test_momentum_moves_with_the_map(run, monkeypatch):
    """A map in a cyclic group is brought back to its centre; what carries it on must be, too."""
    volume = torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(0))
    moved = rolled(volume, torch.tensor([1, 0, -2]))
    assert torch.equal(moved[2, 3, 5], volume[4, 3, 4])
    assert torch.equal(rolled(moved, torch.tensor([-1, 0, 2])), volume)
    free = AbInitio(run.observations, run.half_set, QUICK.model_copy(update={"symmetry": "C1"}), seed=3)
    step = replace(rounds_of(150)[0].steps[0], pushed=True)
    after = []
    for centre in ([0.0, 0.0, 0.0], [1.0, 0.0, -2.0]):
        monkeypatch.setattr(search, "centre_of_mass_px", lambda _, at=tuple(centre): torch.tensor(at))
        after.append(free.advance(free.start(0, step), step))
    assert torch.equal(after[1].velocities[0], rolled(after[0].velocities[0], torch.tensor([-1, 0, 2])))


def test_centre_of_mass():
    volume = torch.zeros(9, 9, 9)
    volume[5, 6, 2] = 1.0
    assert centre_of_mass_px(volume).tolist() == [-2.0, 2.0, 1.0]
