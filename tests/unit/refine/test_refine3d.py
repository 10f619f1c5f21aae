from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.fourier.fsc import Independence, fsc, resolution_A
from halfmap.geometry.rotations import angular_distance_rad
from halfmap.geometry.symmetry import nearest_equivalent, point_group
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.options import RefineOptions
from halfmap.refine.refine3d.reference import on_grid
from halfmap.refine.refine3d.refinement import Refinement
from halfmap.refine.volume.reconstruct import Accumulator
from halfmap.refine.volume.regularise import corrected_fsc, ssnr_of_whole, trusted
from halfmap.units import DEG


def options(diameter_A, **values):
    return RefineOptions(reference=Path("unread.mrc"), diameter_A=diameter_A, **values)


def halves(n):
    return np.arange(n) % 2 + 1


def refine(data, grid, reference, chosen, session, half_set=None):
    observations = data.observations(grid, chosen.diameter_A)
    half_set = halves(len(data.images)) if half_set is None else half_set
    return Refinement(observations, half_set, reference, None, chosen, session).run()


def pose_errors(result, data, symmetry="C1"):
    truth = data.rot_img_from_map[result.rows]
    found = nearest_equivalent(result.poses.rot_img_from_map[:, 0], truth, point_group(symmetry))
    moved = (result.poses.shift_A[:, 0] - data.shift_A[result.rows]).norm(dim=-1)
    return angular_distance_rad(found, truth) / DEG, moved


def with_true_poses(data, grid, diameter_A, mask, symmetry="C1"):
    """Best map that these data can give: poses known."""
    from halfmap.refine.refine3d.half import first_noise
    from halfmap.refine.rings.transform import shift_phases

    observations = data.observations(grid, diameter_A)
    lattice, sums = observations.lattice, []
    for half in (1, 2):
        rows = np.flatnonzero(halves(len(data.images)) == half)
        batch = observations.batch(rows, grid.nyquist_px)
        weighted, weights = first_noise(observations, rows).weighted(batch, lattice)
        phases = shift_phases(lattice.kx_px, lattice.ky_px, data.shift_A[rows], grid.length_A)
        part = Accumulator.empty(grid, grid.nyquist_px)
        part.insert(lattice, weighted * phases, weights, data.rot_img_from_map[rows], point_group(symmetry))
        sums.append(part)
    curve = corrected_fsc(sums[0].volume(), sums[1].volume(), mask)
    independent_frac = float(mask.mean()) / len(point_group(symmetry))
    sums[0].add(sums[1])
    return sums[0].volume(ssnr_of_whole(trusted(curve, Independence(frac=independent_frac))))


def truth_resolution(volume, truth, mask, grid):
    return resolution_A(fsc(volume * mask, torch.as_tensor(truth.data) * mask), 0.5, grid.box_px, grid.pixel_size_A)


@pytest.fixture(scope="module")
def small(phantom, simulated):
    volume = phantom(24, 5.0, 80.0, n=20, sigma_A=3.5)
    return volume, simulated([volume], [30], snr=0.5, diameter_A=80.0), MapGrid(24, 5.0)


def outputs(result):
    return (*result.half_maps, result.map, result.fsc, result.poses.rot_img_from_map, result.poses.shift_A)


def test_same_bits_whatever_the_number_of_threads(small, session):
    volume, data, grid = small
    one, three = (refine(data, grid, volume, options(80.0, max_iterations=2), session(threads=t)) for t in (1, 3))
    assert all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(three), strict=True))
    other_seed = refine(data, grid, volume, options(80.0, max_iterations=1), session(seed=2))
    assert not torch.equal(one.map, other_seed.map)


@pytest.mark.parametrize("regularisation", ["uniform", "local"])
def test_killed_after_a_checkpoint_it_ends_with_the_same_bits(small, session, regularisation):
    volume, data, grid = small
    chosen = options(80.0, max_iterations=3, regularisation=regularisation)
    straight = refine(data, grid, volume, chosen, session())
    killed = session(die_at=2)
    with pytest.raises(KeyboardInterrupt):
        refine(data, grid, volume, chosen, killed)
    continued = refine(data, grid, volume, chosen, session(checkpoints=killed.checkpoints))
    assert all(torch.equal(a, b) for a, b in zip(outputs(straight), outputs(continued), strict=True))
    assert [f["iteration"] for f in continued.iterations] == [1, 2, 3]


def test_local_regularisation_filters_references_and_nothing_that_is_reported(small, session):
    """After one iteration maps and FSC have the same bits; the references for the next one have not."""
    volume, data, grid = small
    ways = [options(80.0, max_iterations=1, regularisation=way) for way in ("uniform", "local")]
    uniform, local = (refine(data, grid, volume, chosen, session()) for chosen in ways)
    assert all(torch.equal(a, b) for a, b in zip(outputs(uniform), outputs(local), strict=True))
    assert uniform.cutoff_A is None
    inside = local.cutoff_A[local.mask > 0.5]
    start_A = 20.0  # A quarter of the diameter.
    assert float(inside.max()) <= 1.5 * start_A * 1.001
    assert float(inside.min()) >= grid.length_A / (grid.box_px // 2 + 1)
    saved = []
    for way in ("uniform", "local"):
        killed = session(die_at=1)
        with pytest.raises(KeyboardInterrupt):
            refine(data, grid, volume, options(80.0, max_iterations=2, regularisation=way), killed)
        saved.append(killed.checkpoints["refine"][1])
    assert not np.array_equal(saved[0]["reference_1"], saved[1]["reference_1"])
    assert np.array_equal(saved[0]["fsc"], saved[1]["fsc"])


def test_nothing_leaks_from_one_half_to_the_other(small, session):
    """Half 2 replaced by other images: half-map 1 keeps its bits, half-map 2 does not."""
    volume, data, grid = small
    rng = np.random.default_rng(0)
    poisoned = [
        image if half == 1 else rng.normal(0, 1, image.shape)
        for image, half in zip(data.images, halves(len(data.images)), strict=True)
    ]
    chosen = options(80.0, max_iterations=1)
    clean = refine(data, grid, volume, chosen, session())
    dirty = refine(data.with_images(poisoned), grid, volume, chosen, session())
    assert torch.equal(clean.half_maps[0], dirty.half_maps[0])
    assert not torch.equal(clean.half_maps[1], dirty.half_maps[1])
    first = clean.rows % 2 == 0
    assert torch.equal(clean.poses.rot_img_from_map[first], dirty.poses.rot_img_from_map[first])
    assert not torch.equal(clean.poses.rot_img_from_map[~first], dirty.poses.rot_img_from_map[~first])


def test_reference_on_any_grid_and_grey_scale(phantom):
    grid = MapGrid(32, 3.0)
    expected = on_grid(phantom(32, 3.0, 60.0, n=12, sigma_A=5.0), grid, 60.0, 12.0)
    for box_px, pixel_size_A in ((50, 2.2), (41, 2.5), (27, 3.7)):
        found = on_grid(phantom(box_px, pixel_size_A, 60.0, n=12, sigma_A=5.0), grid, 60.0, 12.0)
        assert float(fsc(found, expected)[1:8].min()) > 0.999, (box_px, pixel_size_A)
        assert float((found * expected).sum() / expected.square().sum()) == pytest.approx(1.0, abs=0.02)


def test_inverted_reference_is_noticed(small, session):
    volume, data, grid = small
    chosen = options(80.0, max_iterations=1, initial_resolution_A=20.0)
    upright, inverted = session(), session()
    same = refine(data, grid, Volume(volume.data * 250 + 17, 5.0), chosen, upright)
    other = refine(data, grid, Volume(-volume.data, 5.0), chosen, inverted)
    assert not [w for w in upright.warnings if "contrast" in w]
    assert len([w for w in inverted.warnings if "contrast inverted" in w]) == 2
    truth = torch.as_tensor(volume.data)
    for result in (same, other):
        assert float((result.map * truth).sum()) > 0


def test_unusable_references_and_halves_are_refused(small, session):
    volume, data, grid = small
    with pytest.raises(HalfmapError, match="constant"):
        refine(data, grid, Volume(np.ones((24, 24, 24), np.float32), 5.0), options(80.0), session())
    with pytest.raises(HalfmapError, match="cubic"):
        refine(data, grid, Volume(np.ones((24, 24, 16), np.float32), 5.0), options(80.0), session())
    with pytest.raises(HalfmapError, match="half 2 has no usable"):
        refine(data, grid, volume, options(80.0), session(), half_set=np.ones(30, int))


@pytest.mark.truth
def test_asymmetric_poses_are_found(phantom, simulated, session):
    """64 px, 500 particles, SNR 0.1 (within the particle's circle)."""
    volume, grid, diameter_A = phantom(64, 3.0, 110.0), MapGrid(64, 3.0), 110.0
    data = simulated([volume], [500], snr=0.1, diameter_A=diameter_A)
    result = refine(data, grid, Volume(volume.data * 17 + 3, 3.0), options(diameter_A), session())
    turned, moved = pose_errors(result, data)
    assert float(turned.median()) < 3.0
    assert float((turned < 10).double().mean()) > 0.85
    assert float(moved.median()) < 1.0
    best = truth_resolution(with_true_poses(data, grid, diameter_A, result.mask), volume, result.mask, grid)
    assert truth_resolution(result.map, volume, result.mask, grid) < 1.15 * best
    assert result.resolution_A == pytest.approx(truth_resolution(result.map, volume, result.mask, grid), rel=0.15)


@pytest.mark.truth
def test_octahedral_poses_are_found(phantom, simulated, session):
    volume, grid, diameter_A = phantom(64, 3.0, 110.0, "O", n=4), MapGrid(64, 3.0), 110.0
    data = simulated([volume], [300], snr=0.05, diameter_A=diameter_A)
    result = refine(data, grid, volume, options(diameter_A, symmetry="O"), session())
    turned, moved = pose_errors(result, data, "O")
    assert float(turned.median()) < 3.0
    assert float(moved.median()) < 1.0
    best = truth_resolution(with_true_poses(data, grid, diameter_A, result.mask, "O"), volume, result.mask, grid)
    assert truth_resolution(result.map, volume, result.mask, grid) < 1.15 * best


@pytest.mark.truth
def test_optics_groups_of_two_samplings_are_refined_together(phantom, simulated, session):
    volumes = [phantom(48, 3.0, 100.0), phantom(44, 3.9, 100.0)]
    grid = MapGrid(48, 3.0)
    data = simulated(volumes, [200, 160], snr=0.3, diameter_A=100.0)
    scaled = data.with_images([image * (1 if i < 200 else 7.0) for i, image in enumerate(data.images)])
    result = refine(scaled, grid, volumes[0], options(100.0), session())
    turned, moved = pose_errors(result, data)
    for group in (result.rows < 200, result.rows >= 200):
        assert float(turned[group].median()) < 3.0
        assert float(moved[group].median()) < 1.0
    assert truth_resolution(result.map, volumes[0], result.mask, grid) < 9.0


@pytest.mark.truth
@pytest.mark.parametrize("regularisation", ["uniform", "local"])
def test_noise_does_not_become_the_reference(phantom, simulated, session, regularisation):
    """'Einstein from noise': nothing beyond the resolution that the reference was given, and a warning."""
    volume, grid = phantom(48, 3.0, 100.0), MapGrid(48, 3.0)
    data = simulated([volume], [300], snr=1.0, diameter_A=100.0)
    noise = data.with_images(np.random.default_rng(1).normal(size=(300, 48, 48)))
    told = session()
    result = refine(noise, grid, volume, options(100.0, initial_resolution_A=30.0, regularisation=regularisation), told)
    assert result.resolution_A > 25.0
    beyond = int(grid.shell_of_resolution(15.0))
    assert float(result.fsc[beyond:].abs().mean()) < 0.1
    assert any("pure noise" in warning for warning in told.warnings)
    real = session()
    chosen = options(100.0, initial_resolution_A=30.0, max_iterations=4, regularisation=regularisation)
    refine(data, grid, volume, chosen, real)
    assert not any("pure noise" in warning for warning in real.warnings)


def test_a_person_can_look_in(small, session, tmp_path):
    """After an iteration the present state is written as the final one is, and the page is drawn of it."""
    from functools import partial

    from halfmap.exec.running import PROGRESS_PAGE
    from halfmap.io.mrc import read_volume
    from halfmap.io.relion import read_image_set
    from halfmap.io.star import read_star
    from halfmap.refine.refine3d.files import write_present
    from halfmap.steps.pages.write import write_progress_page

    volume, data, grid = small
    shown = []
    watched = session()
    watched.show = lambda write: shown.append(write(tmp_path))
    observations = data.observations(grid, 80.0)
    chosen = options(80.0, max_iterations=2)
    look = partial(write_present, data.image_set, grid)
    Refinement(observations, halves(len(data.images)), volume, None, chosen, watched, look=look).run()
    assert [figures["iteration"] for figures in shown] == [1]
    written = read_image_set(tmp_path / "particles.star", "particles")
    assert sorted(written["uid"]) == sorted(data.image_set["uid"])
    seen = read_volume(tmp_path / "map.mrc")
    assert seen.data.shape[0] * seen.pixel_size_A == pytest.approx(grid.length_A)
    assert len(read_star(tmp_path / "iterations.star")["iterations"]["iteration"]) == 1
    write_progress_page(tmp_path / PROGRESS_PAGE, tmp_path, "refine", shown[0], ["a doubt"])
    page = (tmp_path / PROGRESS_PAGE).read_text()
    assert "in progress" in page
    assert "a doubt" in page
    assert "Orientations" in page


def test_cut_offs_that_are_written_are_those_of_the_last_references(small, session):
    """Chosen on maps of the same making: the median of what is written is what the log said of the references."""
    volume, data, grid = small
    told = session()
    result = refine(data, grid, volume, options(80.0, max_iterations=3, regularisation="local"), told)
    medians = [float(message.split()[2]) for message in told.messages if message.startswith("local filters")]
    assert result.cutoff_A is not None
    assert len(medians) == 3
    assert medians[-1] == pytest.approx(float(result.cutoff_A[result.mask > 0.5].median()), abs=0.1)
    assert medians[-1] == pytest.approx(medians[-2], rel=0.25)
