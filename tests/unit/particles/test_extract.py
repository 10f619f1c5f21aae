import numpy as np
import pytest
import torch

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import HalfmapError
from halfmap.fourier.grid import frequencies_2d, radius_px
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import open_stack, write_image
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.optics.ctf import ctf_2d
from halfmap.particles.box import BoxPlan
from halfmap.particles.contrast import contrast_evidence, decide_contrast
from halfmap.particles.extract import beyond_edge, cut, extract_micrograph, fits, measure_contrast
from halfmap.particles.options import ExtractOptions
from halfmap.particles.session import (
    box_plans,
    centred,
    collect,
    diameter_of,
    extraction_tasks,
    joined_with_micrographs,
    with_defocus_of_place,
    with_half_sets,
)


def coordinates(names, x, y, groups=None, **columns):
    groups = groups or [1] * len(names)
    used = sorted(set(groups))
    optics = Table.of(
        optics_group=used, micrograph_pixel_size_A=[2.0 * g for g in used], voltage_kV=[300.0] * len(used),
        cs_mm=[2.7] * len(used), amplitude_contrast=[0.1] * len(used),
    )  # fmt: skip
    rows = Table.of(
        micrograph_name=names, optics_group=groups, coordinate_x_px=x, coordinate_y_px=y,
        uid=np.arange(1, len(names) + 1), **columns,
    )  # fmt: skip
    return ImageSet("coordinates", rows, optics)


def test_cut_puts_the_nearest_pixel_at_the_origin_and_mirrors_beyond_the_edge():
    image = np.arange(30 * 40, dtype=np.float32).reshape(30, 40)
    images = cut(image, np.array([20.4, 1.0]), np.array([14.6, 29.0]), 8)
    assert np.array_equal(images[0], image[11:19, 16:24])
    assert images[0][4, 4] == image[15, 20]
    padded = np.pad(image, 8, mode="symmetric")
    assert np.array_equal(images[1], padded[8 + 25 : 8 + 33, 8 - 3 : 8 + 5])


def task_for(places, image_shape=(200, 220), diameter_A=40.0, cut_px=64, box_px=64, **columns):
    y, x = np.array(places, dtype=np.float64).T
    plan = BoxPlan(cut_px, box_px, 2.0)
    table = coordinates(["a.mrc"] * len(places), x, y, **columns)
    return extraction_tasks(table, {1: plan}, diameter_A, {"a.mrc": "a"})[0]


def test_particles_whose_circle_is_cut_by_the_edge_do_not_fit():
    task = task_for([(100, 100), (9.4, 100), (9.6, 100), (100, 209.4), (100, 209.6), (12, 12)])
    assert fits(task, (200, 220)).tolist() == [True, False, True, True, False, True]
    assert beyond_edge(task, (200, 220)).tolist() == [False, True, True, True, True, True]


def blobs(shape, places, sigma_px):
    y, x = np.indices(shape)
    return sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / (2 * sigma_px**2)) for a, b in places)


@pytest.mark.parametrize("box_px", [64, 32])
def test_stack_holds_normalised_white_particles_in_the_order_of_its_rows(tmp_path, box_px):
    rng = np.random.default_rng(0)
    places = [(100.0, 100.0), (5.0, 50.0), (60.0, 150.0), (150.0, 60.0)]
    image = 500 - 60 * blobs((200, 220), places, 4.0) + rng.normal(0, 2, (200, 220)) + np.arange(220) * 0.2
    write_image(tmp_path / "a.mrc", image.astype(np.float32), 2.0)
    task = task_for(places, box_px=box_px)
    task = type(task)(**{**task.__dict__, "micrograph": str(tmp_path / "a.mrc")})
    result = extract_micrograph(task, folder=tmp_path, sign=-1, device="cpu")
    assert result["rows"] == [0, 2, 3]
    assert (result["at_edge"], result["constant"], result["mirrored"]) == (1, 0, 0)
    stack = open_stack(result["stack"])
    assert stack.shape == (box_px, box_px)
    assert stack.pixel_size_A == pytest.approx(2.0 * 64 / box_px, rel=1e-5)
    y, x = np.indices((box_px, box_px)) - box_px // 2
    outside = np.hypot(y, x) > 10 * box_px / 64
    for image in stack:
        assert np.unravel_index(image.argmax(), image.shape) == (box_px // 2, box_px // 2)
        assert image[outside].mean() == pytest.approx(0.0, abs=1e-4)
        assert image[outside].std() == pytest.approx(1.0, abs=1e-3)


def test_micrograph_without_particles_inside_writes_no_stack(tmp_path):
    write_image(tmp_path / "a.mrc", np.random.default_rng(0).normal(size=(200, 220)).astype(np.float32), 2.0)
    task = task_for([(1.0, 1.0)])
    task = type(task)(**{**task.__dict__, "micrograph": str(tmp_path / "a.mrc")})
    result = extract_micrograph(task, folder=tmp_path, sign=-1, device="cpu")
    assert (result["stack"], result["rows"], result["at_edge"]) == ("", [], 1)
    assert not (tmp_path / "stacks").exists()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("known_ctf", [True, False])
def test_contrast_is_seen_through_the_ctf(tmp_path, sign, known_ctf):
    rng = np.random.default_rng(1)
    places = [(y, x) for y in range(40, 360, 60) for x in range(40, 360, 60)]
    clean = np.zeros((400, 400))
    for place in places:
        clean[place] = 1.0
    n = 400
    frequency = radius_px((n, n)) / (n * 2.0)
    fx, fy = frequencies_2d((n, n), 2.0)
    ctf = ctf_2d(fx, fy, 15000.0, 15000.0, 0.0, 300.0, 2.7, 0.1)
    seen = np.fft.irfft2(np.fft.rfft2(clean) * (ctf * torch.exp(-((frequency * 40.0) ** 2))).numpy(), s=(n, n))
    image = sign * seen / seen.std() + rng.normal(0, 2, (n, n))
    write_image(tmp_path / "a.mrc", image.astype(np.float32), 2.0)
    columns = {"defocus_u_A": [15000.0] * 36, "defocus_v_A": [15000.0] * 36, "defocus_angle_rad": [0.0] * 36}
    task = task_for(places, **(columns if known_ctf else {}))
    task = type(task)(**{**task.__dict__, "micrograph": str(tmp_path / "a.mrc")})
    contrast = decide_contrast(measure_contrast(task, device="cpu")["evidence"])
    assert contrast.sign == sign
    assert contrast.clear or not known_ctf
    assert contrast.n_particles == 36


def test_contrast_of_noise_is_not_clear_and_taken_as_dark():
    rng = np.random.default_rng(2)
    images = torch.from_numpy(rng.standard_normal((200, 32, 32)).astype(np.float32))
    evidence = contrast_evidence(images, 8.0, None)
    assert evidence.std() == pytest.approx(1.0, abs=0.15)
    contrast = decide_contrast(evidence)
    assert not contrast.clear
    assert (contrast.sign, contrast.name) == (-1, "dark")
    assert decide_contrast([]).significance == 0.0


def test_places_follow_the_shifts_and_keep_the_fraction_of_a_pixel():
    table = centred(coordinates(["a"], [100.0], [50.0], shift_x_A=[-3.0], shift_y_A=[0.5]))
    assert table["coordinate_x_px"].tolist() == [101.5]
    assert table["coordinate_y_px"].tolist() == [49.75]
    left = [float(table[f"shift_{axis}_A"][0]) for axis in "xy"]
    assert left == pytest.approx([1.0, 0.5])
    again = centred(table.with_columns(coordinate_x_px=np.rint([101.5]), coordinate_y_px=np.rint([49.75])))
    assert again["coordinate_x_px"].tolist() == [101.5]


def test_images_have_whole_coordinates_and_are_cut_again_at_the_same_places():
    """A place is the coordinate of an image less its shift, as RELION reads it."""
    x, y = np.array([100.3, 80.5, 60.8]), np.array([50.0, 70.49, 99.51])
    table = centred(coordinates(["a"] * 3, x, y))
    result = {"stack": "a.mrcs", "rows": [0, 1, 2], "at_edge": 0, "constant": 0, "mirrored": 0}
    images = collect(table, [result], {1: BoxPlan(64, 64, 2.0)}, 60.0).particles
    for axis, place in (("x", x), ("y", y)):
        assert images[f"coordinate_{axis}_px"].tolist() == np.rint(place).tolist()
        np.testing.assert_allclose(images[f"coordinate_{axis}_px"] - images[f"shift_{axis}_A"] / 2.0, place, atol=1e-6)
    again = centred(images)
    np.testing.assert_allclose(again["coordinate_x_px"], x, atol=1e-6)
    np.testing.assert_allclose(again["coordinate_y_px"], y, atol=1e-6)


def test_half_sets_are_drawn_by_micrograph_and_never_changed():
    names = ["a", "b", "a", "c", "b"]
    drawn = with_half_sets(coordinates(names, [1.0] * 5, [1.0] * 5), seed=3)
    halves = drawn["half_set"].tolist()
    assert halves[0] == halves[2]
    assert halves[1] == halves[4]
    assert set(halves) == {1, 2}
    kept = with_half_sets(drawn.with_columns(half_set=[2, 2, 2, 2, 1]), seed=3)
    assert kept["half_set"].tolist() == [2, 2, 2, 2, 1]


def test_two_optics_groups_have_their_own_boxes_and_counts_add_up(tmp_path):
    rng = np.random.default_rng(3)
    for name in "ab":
        write_image(tmp_path / f"{name}.mrc", rng.normal(size=(300, 300)).astype(np.float32), 2.0)
    a, b, gone = (str(tmp_path / f"{name}.mrc") for name in ("a", "b", "gone"))
    names, groups = [b, a, gone, a, b], [2, 1, 1, 1, 2]
    table = coordinates(names, [150.0, 150, 150, 2, 150], [150.0, 150, 150, 150, 140], groups, half_set=[1, 2, 1, 2, 1])
    table = centred(table)
    plans = box_plans(table, 60.0, ExtractOptions(binned_pixel_size_A=5.0))
    assert plans[1].pixel_size_A == pytest.approx(5.0, rel=0.02)
    assert plans[2].pixel_size_A == pytest.approx(5.0, rel=0.02)
    tasks = extraction_tasks(table, plans, 60.0, {a: "a", b: "b", gone: "gone"})
    results = [
        None if task.micrograph == gone else extract_micrograph(task, folder=tmp_path, sign=-1, device="cpu")
        for task in tasks
    ]
    found = collect(table, results, plans, 60.0)
    assert found.particles["uid"].tolist() == [1, 2, 5]
    assert found.counts["at_edge"] + found.counts["constant"] + found.counts["micrograph_failed"] == 2
    write_image_set(tmp_path / "particles.star", found.particles)
    again = read_image_set(tmp_path / "particles.star", "particles")
    assert again["uid"].tolist() == [1, 2, 5]
    assert again["box_px"].tolist() == [plans[g].box_px for g in (2, 1, 2)]
    images = ParticleImages(again, tmp_path / "particles.star")
    for row in range(3):
        assert images.read([row]).shape[1] == again["box_px"][row]


def test_coordinates_take_ctf_and_half_set_from_their_micrographs():
    micrographs = ImageSet(
        "micrographs",
        Table.of(
            micrograph_name=["x/a.mrc", "x/b.mrc"], optics_group=[1, 1], half_set=[1, 2],
            defocus_u_A=[1e4, 2e4], defocus_v_A=[1e4, 2e4], defocus_angle_rad=[0.0, 0.5],
        ),
        coordinates(["a"], [1.0], [1.0]).optics.with_columns(micrograph_pixel_size_A=[1.5]),
    )  # fmt: skip
    joined = joined_with_micrographs(coordinates(["b.mrc", "x/a.mrc"], [1.0, 2.0], [3.0, 4.0]), micrographs)
    assert joined["micrograph_name"].tolist() == ["x/b.mrc", "x/a.mrc"]
    assert joined["defocus_u_A"].tolist() == [2e4, 1e4]
    assert joined["half_set"].tolist() == [2, 1]
    assert joined.pixel_size_A().tolist() == [1.5, 1.5]
    with pytest.raises(HalfmapError, match=r"c\.mrc"):
        joined_with_micrographs(coordinates(["c.mrc"], [1.0], [3.0]), micrographs)


def test_diameter_comes_along_unless_given():
    table = coordinates(["a", "a"], [1.0, 1], [1.0, 1], particle_diameter_A=[120.0, 130.0])
    assert diameter_of(table, ExtractOptions()) == 130.0
    assert diameter_of(table, ExtractOptions(diameter_A=90.0)) == 90.0
    assert diameter_of(coordinates(["a"], [1.0], [1.0]), ExtractOptions()) is None


def with_surface(slope_x=0.1, slope_y=0.0):
    rows = Table.of(
        micrograph_name=["a.mrc", "a.mrc"], optics_group=[1, 1], coordinate_x_px=[110.0, 60.0],
        coordinate_y_px=[50.0, 150.0], defocus_u_A=[15000.0] * 2, defocus_v_A=[14000.0] * 2,
        defocus_angle_rad=[0.3] * 2, defocus_slope_x=[slope_x] * 2, defocus_slope_y=[slope_y] * 2,
        defocus_xx_per_A=[0.0] * 2, defocus_xy_per_A=[0.0] * 2, defocus_yy_per_A=[1e-4] * 2,
        surface_centre_x_px=[100.0] * 2, surface_centre_y_px=[100.0] * 2,
    )  # fmt: skip
    optics = Table.of(
        optics_group=[1], voltage_kV=[300.0], cs_mm=[2.7], amplitude_contrast=[0.1], micrograph_pixel_size_A=[2.0]
    )
    return ImageSet("coordinates", rows, optics)


def test_a_particle_has_the_defocus_of_the_surface_at_its_place():
    followed = with_defocus_of_place(with_surface(), follow=True)
    np.testing.assert_allclose(followed["defocus_u_A"], [15000 + 0.1 * 20 + 1e-4 * 1e4, 15000 - 0.1 * 80 + 1e-4 * 1e4])
    np.testing.assert_allclose(followed["defocus_u_A"] - followed["defocus_v_A"], 1000.0)
    assert "defocus_slope_x" not in followed
    again = with_defocus_of_place(followed, follow=True)
    np.testing.assert_array_equal(again["defocus_u_A"], followed["defocus_u_A"])


def test_a_surface_that_is_not_followed_is_taken_away():
    kept = with_defocus_of_place(with_surface(), follow=False)
    assert kept["defocus_u_A"].tolist() == [15000.0] * 2
    assert "defocus_slope_x" not in kept


def test_a_part_of_a_surface_is_an_error():
    broken = with_surface()
    broken = broken.with_rows(broken.rows.without(["defocus_slope_y"]))
    with pytest.raises(HalfmapError, match="defocus_slope_y"):
        with_defocus_of_place(broken, follow=True)


def test_particles_with_a_defocus_of_their_own_get_no_surface_of_their_micrograph():
    surface = with_surface()
    names = ["micrograph_name", "optics_group"]
    rows = surface.select([0]).rows
    micrographs = ImageSet("micrographs", rows.without(["coordinate_x_px", "coordinate_y_px"]), surface.optics)
    place = {name: surface[name] for name in (*names, "coordinate_x_px", "coordinate_y_px")}
    bare = ImageSet("coordinates", Table.of(**place), surface.optics)
    own = bare.with_columns(defocus_u_A=[9000.0] * 2, defocus_v_A=[8000.0] * 2, defocus_angle_rad=[0.0] * 2)
    assert "defocus_slope_x" in joined_with_micrographs(bare, micrographs)
    assert "defocus_slope_x" not in joined_with_micrographs(own, micrographs)
