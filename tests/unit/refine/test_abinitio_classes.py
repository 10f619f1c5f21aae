"""Several first maps at once, against the maps that the particles were made from."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from halfmap.data.records import ImageSet, Volume
from halfmap.data.table import Table
from halfmap.fourier.slices import prepare_volume
from halfmap.geometry.symmetry import symmetrise_poses
from halfmap.io.mrc import read_volume, write_stack
from halfmap.io.relion import read_image_set
from halfmap.io.star import read_star
from halfmap.refine.abinitio.class_outputs import ranked, write_classes
from halfmap.refine.abinitio.classes import BALANCING, EMPTY_FRAC, ClassState
from halfmap.refine.abinitio.files import reconstruct_particles
from halfmap.refine.abinitio.options import AbInitioOptions
from halfmap.refine.abinitio.schedule import SORTING_STEPS, Step, fine_steps, schedule
from halfmap.refine.abinitio.search import MOMENTUM, AbInitio, centre_of_mass_px, free_part, rolled
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.rings.expectation import Assignment, Classifier, DrawnPoses, Maps
from halfmap.refine.rings.sampling import rings_of_volume
from halfmap.refine.volume.reconstruct import PADDING
from halfmap.report.html import Report
from halfmap.simulate.particles import signal_variance
from halfmap.simulate.phantoms import GaussianPhantom
from halfmap.steps.pages.maps import abinitio_section
from halfmap.validation.align_maps import align_maps

DIAMETER_A = 90.0
GRID = MapGrid(48, 3.0)
QUICK = AbInitioOptions(
    classes=2, diameter_A=DIAMETER_A, resolution_A=16.0, start_resolution_A=30.0, starts=2, iterations=8
)


def joined(parts):
    """Several simulated sets as one: table and images."""
    columns = {
        name: np.concatenate([np.asarray(part.image_set[name]) for part in parts])
        for name in parts[0].image_set.rows.columns
    }
    n = len(columns["uid"])
    columns |= {"uid": np.arange(1, n + 1), "image_name": [f"{i + 1}@particles.mrcs" for i in range(n)]}
    columns["micrograph_name"] = [f"micrograph{i % 20}.mrc" for i in range(n)]
    images = [image for part in parts for image in part.images]
    return replace(
        parts[0], image_set=ImageSet("particles", Table.of(**columns), parts[0].image_set.optics), images=images
    )


@pytest.fixture(scope="module")
def mixture(phantom, simulated):
    """A function that makes particles of one or two phantoms, and their class."""

    def make(counts, snr):
        volumes = [phantom(48, 3.0, DIAMETER_A, n=12, sigma_A=5.0, seed=10 + k) for k in range(len(counts))]
        parts = [
            simulated([volume], [count], snr=snr, diameter_A=DIAMETER_A, seed=k, shift_sigma_A=2.0)
            for k, (volume, count) in enumerate(zip(volumes, counts, strict=True))
        ]
        return volumes, joined(parts), np.repeat(np.arange(len(counts)), counts)

    return make


@pytest.fixture(scope="module")
def small(mixture):
    return mixture((60, 60), 0.5)


def search_of(made, classes, threads=1):
    options = QUICK.model_copy(update={"classes": classes})
    n = len(made.images)
    return AbInitio(made.observations(GRID, DIAMETER_A), 1 + np.arange(n) % 2, options, seed=3, threads=threads)


def reconstructed(made, options, folder, told):
    write_stack(folder / "particles.mrcs", np.stack(made.images).astype(np.float32), GRID.pixel_size_A)
    return reconstruct_particles(made.image_set, folder / "p.star", options, folder, "cpu", told)


STEP = Step(60, 6, False, True, True)


def test_one_class_is_the_search_for_one_map(small):
    """To the bit: the step of one class beside the same step written out without classes."""
    run = search_of(small[1], 1)
    start = run.start(0, STEP)
    after = run.advance(start, STEP)
    generator = np.random.default_rng([3, 2, 0, 1])
    rows = np.sort(generator.permutation(run.rows)[: STEP.n_images])
    directions = run._views(STEP, "C1", int(generator.integers(1 << 31))).directions()
    transform = run._transform(STEP.radius_px)
    n_rings = transform.grid.n_rings
    sigma2 = run.observations.background_sigma2[:, :n_rings]
    polar = rings_of_volume(transform.grid, prepare_volume(start.volume, float(n_rings)), directions, PADDING)
    plain = Classifier(run.observations, STEP.radius_px, transform, sigma2, polar, drawn=DrawnPoses(3, 0))
    assignment = Assignment.blank(len(run.observations))
    found = plain.expectation(rows, run.half_set, run._search(STEP), assignment)
    operators = run._operators("C1")
    equivalent = symmetrise_poses(directions, operators)
    first, second = (run._inserted(transform.grid, sums, equivalent, STEP) for sums in found.halves)
    _, ssnr = run._signal([first, second], STEP.radius_px)
    first.add(second)
    volume = (first.volume(ssnr) * run.mask).clamp_min(0.0)
    shift_px = -free_part(centre_of_mass_px(volume), operators).round().long()
    assert torch.equal(after.volume, rolled(volume, shift_px) * run.mask)
    assert np.array_equal(after.assignment.log_likelihood, assignment.log_likelihood)
    assert len(after.volumes) == 1


def test_classes_of_the_same_map_share_by_their_weights(small):
    """The posterior of two copies of a map is their prior, and the likelihood that of one."""
    run = search_of(small[1], 2)
    start = run.start(0, STEP)
    directions = run._views(STEP, "C1", 5).directions()
    rows = run.rows
    assignments = [Assignment.blank(len(run.observations)) for _ in range(2)]
    posterior = np.zeros((len(run.observations), 2))
    maps = Maps(np.log([0.3, 0.7]), posterior)
    one = run._classifier(start.volumes[:1], directions, STEP, None, maps)
    one.expectation(rows, run.half_set, run._search(STEP), assignments[0])
    assert not posterior.any()
    both = run._classifier((start.volumes[0],) * 2, directions, STEP, DrawnPoses(3, 0), maps)
    found = both.expectation(rows, run.half_set, run._search(STEP), assignments[1])
    assert np.abs(posterior[rows] - [0.3, 0.7]).max() < 1e-4
    assert np.abs(assignments[0].log_likelihood - assignments[1].log_likelihood)[rows].max() < 1e-3
    assert np.array_equal(assignments[1].class_index[rows], assignments[0].class_index[rows] + len(directions))
    assert np.array_equal(assignments[1].psi_rad, assignments[0].psi_rad)
    assert np.abs(assignments[1].max_posterior - 0.7 * assignments[0].max_posterior)[rows].max() < 1e-3
    drawn = sum(half.count for half in found.halves).view(2, -1).sum(dim=1) / len(rows)
    assert abs(float(drawn[0]) - 0.3) < 0.13


def test_a_class_that_takes_too_much_is_held_back():
    state = ClassState.even(10, 2)
    posterior = np.tile([0.9, 0.1], (10, 1))
    after = state.after(posterior, np.arange(10))
    assert np.allclose(after.balance, [-BALANCING * np.log(5) / 2, BALANCING * np.log(5) / 2])
    assert np.allclose(after.frac, [(0.5 + 10 / 12) / 2, (0.5 + 2 / 12) / 2])
    assert np.allclose(after.log_weight(1.0), after.balance)
    assert np.allclose(after.log_weight(0.0), np.log(after.frac))
    assert (after.class_of == 0).all()
    assert (state.class_of == -1).all()


def test_an_empty_class_begins_anew_from_the_largest(small):
    run = search_of(small[1], 3)
    step = replace(STEP, n_images=120)
    first = run.advance(run.start(0, step), step)
    tiny = EMPTY_FRAC / 8
    classes = replace(first.classes, frac=np.array([0.3, 0.7 - tiny, tiny]), balance=np.array([0.0, 0.0, -50.0]))
    empty = replace(first, volumes=(*first.volumes[:2], torch.zeros_like(first.volume)), classes=classes)
    step = replace(step, balanced=1.0)
    starved = run.advance(empty, step)
    assert float(starved.volumes[2].norm()) < 1e-3 * float(starved.volumes[1].norm())
    after = run.advance(empty, replace(step, reused=True))
    assert float(after.volumes[2].norm()) > 0.2 * float(after.volumes[1].norm())
    assert torch.equal(after.volumes[0], starved.volumes[0])
    largest = int(starved.classes.frac.argmax())
    assert after.classes.frac[2] == after.classes.frac[largest]
    assert np.isclose(after.classes.frac.sum(), 1.0)


def test_each_class_is_pushed_on_its_own(small):
    """In the climbing steps of a fine search each map has its own momentum."""
    run = search_of(small[1], 2)
    climbing, _ = fine_steps(16.0, DIAMETER_A, 60, GRID.length_A, GRID.nyquist_px)
    first = run.advance(run.start(0, climbing), climbing)
    second = run.advance(first, climbing)
    for before, after in zip(first.velocities, second.velocities, strict=True):
        assert float((after - MOMENTUM * before).norm()) > 0.1 * float(before.norm())
    assert not torch.equal(*second.velocities)
    unmoved = replace(first, velocities=tuple(0 * velocity for velocity in first.velocities))
    differences = [a - b for a, b in zip(second.volumes, run.advance(unmoved, climbing).volumes, strict=True)]
    assert all(float(difference.norm()) > 0 for difference in differences)


def test_classes_are_let_go_and_sorted_at_the_end():
    one, several = (
        [
            step
            for part in schedule(QUICK.model_copy(update={"classes": k}), 16.0, 900, 144.0, 24)
            for step in part.steps
        ]
        for k in (1, 3)
    )
    assert len(several) == len(one) + SORTING_STEPS
    assert (one[0].n_images, several[0].n_images) == (150, 450)
    balanced = [step.balanced for step in several]
    assert balanced == sorted(balanced, reverse=True)
    assert (balanced[0], balanced[-SORTING_STEPS - 1]) == (1.0, 0.0)
    assert not any(step.reused or step.drawn for step in several[-SORTING_STEPS:])
    assert several[-1].n_images == 900


def test_classes_killed_and_continued_are_the_same_whatever_the_threads(small, session, tmp_path, monkeypatch):
    monkeypatch.setattr("halfmap.refine.abinitio.schedule.SORTING_STEPS", 2)
    _, made, _ = small
    options = QUICK.model_copy(update={"max_particles": 110, "resolution_A": 24.0})
    folders = [tmp_path / name for name in ("whole", "killed")]
    for folder in folders:
        folder.mkdir()
    figures = reconstructed(made, options, folders[0], session())
    broken = session(threads=2)
    for moment in (3, 13):
        broken.die_at = moment
        with pytest.raises(KeyboardInterrupt):
            reconstructed(made, options, folders[1], broken)
    broken.die_at = 0
    reconstructed(made, options, folders[1], broken)
    for name in ("map.mrc", "map_class001.mrc", "map_class002.mrc"):
        assert (folders[0] / name).read_bytes()[1024:] == (folders[1] / name).read_bytes()[1024:]
    assert (folders[0] / "particles.star").read_bytes() == (folders[1] / "particles.star").read_bytes()
    check_outputs(folders[0], figures)


def check_outputs(folder, figures):
    particles = read_image_set(folder / "particles.star", "particles")
    number, weight = particles["class_number"], particles["class_posterior"]
    assert sorted(set(number)) == [0, 1, 2]
    assert (number == 0).sum() == 10
    assert np.array_equal(number == 0, weight == 0)
    assert weight[number > 0].min() > 0.5 - 1e-6
    assert (particles["max_posterior"] <= weight + 1e-6).all()
    block = read_star(folder / "classes.star")["model_classes"]
    counts = np.asarray(block["rlnHalfmapClassParticles"], dtype=int)
    assert counts.tolist() == [(number == 1).sum(), (number == 2).sum()]
    assert counts[0] >= counts[1]
    assert figures["class_frac"] == [round(count / 110, 3) for count in counts]
    assert np.array_equal(read_volume(folder / "map.mrc").data, read_volume(folder / "map_class001.mrc").data)
    page = Report("abinitio")
    abinitio_section(page, folder, figures)
    assert page.render().count("<figure>") == 2
    assert "Class 2" in page.render()


SORTED = QUICK.model_copy(update={"starts": 1, "iterations": 24})


def test_without_classes_nothing_of_them_is_written(small, session, tmp_path):
    options = QUICK.model_copy(update={"classes": 1, "starts": 1, "resolution_A": 24.0})
    figures = reconstructed(small[1], options, tmp_path, session())
    assert not list(tmp_path.glob("map_class*"))
    assert not (tmp_path / "classes.star").exists()
    assert "class_number" not in read_image_set(tmp_path / "particles.star", "particles").rows
    assert "class_frac" not in figures


def test_a_class_without_particles_is_told_and_has_no_map(small, session, tmp_path):
    run = search_of(small[1], 2)
    state = run.advance(run.start(0, STEP), STEP)
    classes = replace(state.classes, posterior=np.tile([0.0, 1.0], (120, 1)))
    result = ranked(replace(state, classes=classes))
    assert torch.equal(result.volume, state.volumes[1])
    volumes = [Volume(volume.numpy(), GRID.pixel_size_A) for volume in result.volumes]
    told = session()
    figures = write_classes(tmp_path, volumes, result, [20.0, np.inf], told)
    assert (figures["class_frac"], figures["class_resolution_A"]) == ([1.0, 0.0], [20.0, None])
    assert [path.name for path in tmp_path.glob("*.mrc")] == ["map_class001.mrc"]
    assert "class 2 holds 0.0%" in told.warnings[0]
    page = Report("abinitio")
    abinitio_section(page, tmp_path, figures)
    assert page.render().count("<figure>") == 1
    assert "no map of it" in page.render()


@pytest.mark.truth
def test_two_molecules_come_apart(mixture, session, tmp_path):
    volumes, made, truth = mixture((350, 350), 0.2)
    reconstructed(made, SORTED, tmp_path, session())
    found = np.asarray(read_image_set(tmp_path / "particles.star", "particles")["class_number"]) - 1
    same = (found == truth).mean()
    assert max(same, 1 - same) > 0.9
    order = (0, 1) if same > 0.5 else (1, 0)
    for number, of in enumerate(order):
        own = torch.as_tensor(np.array(read_volume(tmp_path / f"map_class{number + 1:03d}.mrc").data))
        correlations = []
        for volume in (volumes[of], volumes[1 - of]):
            reference = torch.as_tensor(volume.data)
            correlations.append(align_maps(own, reference, GRID.pixel_size_A, resolution_A=24.0).correlation)
        assert correlations[0] > 0.8
        assert correlations[0] > correlations[1] + 0.1


@pytest.mark.truth
@pytest.mark.parametrize("kind", ["noise", "blobs"])
def test_junk_goes_to_a_class_of_its_own(kind, mixture, session, tmp_path):
    _, made, _ = mixture((400,), 0.2)
    images, generator = np.stack(made.images), np.random.default_rng(1)
    rows = generator.permutation(400)[:120]
    spread = np.median(images.std(axis=(1, 2)))
    for row in rows:
        images[row] = spread * generator.standard_normal(images[row].shape)
        if kind == "blobs":
            blobs = GaussianPhantom.random(12, 0.4 * DIAMETER_A, (5.0, 12.0), int(generator.integers(1 << 31)))
            picture = blobs.projection(np.eye(3), 48, GRID.pixel_size_A)
            variance = signal_variance(picture[None], GRID.pixel_size_A, DIAMETER_A)[0]
            images[row] += np.sqrt(0.2 / variance) * spread * picture
    reconstructed(made.with_images(images), SORTED, tmp_path, session())
    found = np.asarray(read_image_set(tmp_path / "particles.star", "particles")["class_number"])
    junk = np.zeros(400, bool)
    junk[rows] = True
    assert (found[junk] == 2).mean() > 0.9
    assert (found[~junk] == 1).mean() > 0.9
