import numpy as np
import pytest

from halfmap.data.conditions import fulfils
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.mrc import write_stack
from halfmap.io.relion import read_image_set, write_image_set
from halfmap.particles.options import SelectOptions
from halfmap.particles.select import chosen_classes, class_features, class_scores, listed_classes, split
from halfmap.particles.selection import select_particles

N, RADIUS = 64, 16.0


def average(rng, *, signal=1.0, noise=0.05, centre=(0, 0), radius=13):
    y, x = np.indices((N, N)) - N // 2
    r = np.hypot(y - centre[0], x - centre[1])
    body = (r < radius) * (1.0 + 0.4 * np.sin(x) * np.cos(y))
    return signal * body + noise * rng.standard_normal((N, N))


def good_set(rng, count=8):
    images = [average(rng) for _ in range(count)]
    return images, [100] * count, [9.0 + 0.3 * k for k in range(count)]


def kept(images, count, resolution, min_score=0.5):
    features = class_features(np.array(images), np.array(count), np.array(resolution), RADIUS)
    return chosen_classes(features, min_score)


def test_good_classes_are_all_kept():
    keep, score, _ = kept(*good_set(np.random.default_rng(0)))
    assert keep.all()
    assert score.min() > 0.8


@pytest.mark.parametrize(
    ("bad", "count", "resolution", "feature"),
    [
        ({"signal": 0.1, "noise": 0.4}, 100, 10.0, "contrast"),
        ({}, 100, 30.0, "resolution"),
        ({}, 2, 10.0, "population"),
        ({"centre": (9, 3), "radius": 6}, 100, 10.0, "centre"),
    ],
)
def test_each_fault_is_seen_and_named(bad, count, resolution, feature):
    rng = np.random.default_rng(1)
    images, counts, resolutions = good_set(rng)
    keep, score, weakest = kept([*images, average(rng, **bad)], [*counts, count], [*resolutions, resolution])
    assert keep[:-1].all()
    assert not keep[-1]
    assert weakest[-1] == feature
    assert score[-1] < 0.5


def test_scores_do_not_depend_on_grey_scale_nor_on_order():
    rng = np.random.default_rng(2)
    images, count, resolution = good_set(rng)
    images[3], resolution[3], count[3] = average(rng, signal=0.2, noise=0.3), 22.0, 30
    features = class_features(np.array(images), np.array(count), np.array(resolution), RADIUS)
    scaled = class_features(50 * np.array(images) + 7, np.array(count), np.array(resolution), RADIUS)
    order = rng.permutation(8)
    shuffled = class_features(np.array(images)[order], np.array(count)[order], np.array(resolution)[order], RADIUS)
    for name, values in class_scores(features).items():
        assert class_scores(scaled)[name] == pytest.approx(values, abs=1e-6)
        assert class_scores(shuffled)[name] == pytest.approx(values[order], abs=1e-9)


def test_few_classes_are_all_kept_but_empty_ones():
    rng = np.random.default_rng(3)
    images = [average(rng), average(rng, signal=0.0, noise=1.0), average(rng), average(rng)]
    keep, _, _ = kept(images, [100, 100, 100, 0], [9.0, 40.0, 9.0, 9.0])
    assert keep.tolist() == [True, True, True, False]


def test_without_any_resolution_the_pictures_decide():
    rng = np.random.default_rng(4)
    images, count, _ = good_set(rng)
    images[0] = average(rng, signal=0.05, noise=0.5)
    keep, _, weakest = kept(images, count, [np.nan] * 8)
    assert keep.tolist() == [False] + [True] * 7
    assert weakest[0] == "contrast"


def test_lists_of_classes():
    assert listed_classes("2,4-5", 5).tolist() == [False, True, False, True, True]
    for bad in ("0", "3,6", "4-2"):
        with pytest.raises(HalfmapError, match="does not exist"):
            listed_classes(bad, 5)


def particles(classes, **columns):
    n = len(classes)
    rows = Table.of(
        image_name=[f"{i + 1:06d}@a.mrcs" for i in range(n)], optics_group=[1] * n, uid=range(n),
        class_number=classes, **columns,
    )  # fmt: skip
    optics = Table.of(
        optics_group=[1], image_pixel_size_A=[2.0], voltage_kV=[300.0], cs_mm=[2.7], amplitude_contrast=[0.1]
    )
    return ImageSet("particles", rows, optics)


def test_conditions_on_our_columns_and_on_relions():
    table = particles([1, 2, 3], defocus_u_A=[1e4, 2e4, 3e4], defocus_angle_rad=np.deg2rad([10.0, 20.0, 30.0]))
    assert fulfils(table, "defocus_u_A < 2.5e4").tolist() == [True, True, False]
    assert fulfils(table, "rlnDefocusAngle>=20").tolist() == [False, True, True]
    assert fulfils(table, "class_number!=2").tolist() == [True, False, True]
    for bad in ("defocus", "defocus_u_A ~ 3", "defocus_u_A<x", "gone<3"):
        with pytest.raises(HalfmapError):
            fulfils(table, bad)


def test_every_particle_left_out_has_a_reason():
    table = particles([1, 2, 2, 0], defocus_u_A=[3e4, 1e4, 1e4, 1e4])
    reasons = split(table, np.array([True, False]), ["", "contrast"], ["defocus_u_A<2e4"])
    assert reasons.tolist() == ["not_defocus_u_A<2e4", "class_2:contrast", "class_2:contrast", "no_class"]


def test_selection_from_files_loses_no_particle(tmp_path):
    rng = np.random.default_rng(5)
    images, _, _ = good_set(rng)
    images[6] = average(rng, signal=0.05, noise=0.5)
    write_stack(tmp_path / "classes.mrcs", np.array(images, dtype=np.float32), 2.0)
    table = particles(list(rng.integers(1, 9, 400)), particle_diameter_A=[64.0] * 400)
    selection = select_particles(table, tmp_path / "classes.mrcs", SelectOptions())
    assert len(selection.kept) + len(selection.excluded) == 400
    assert set(selection.excluded["class_number"]) == {7}
    assert selection.reasons == {"class_7:contrast": len(selection.excluded)}
    write_image_set(tmp_path / "excluded.star", selection.excluded)
    again = read_image_set(tmp_path / "excluded.star", "particles")
    assert set(again.rows.foreign["halfmapReason"]) == {"class_7:contrast"}
    assert sorted([*selection.kept["uid"], *again["uid"]]) == list(range(400))


def test_resolution_comes_from_the_table_beside_the_averages(tmp_path):
    rng = np.random.default_rng(6)
    images, _, resolution = good_set(rng)
    write_stack(tmp_path / "classes.mrcs", np.array(images, dtype=np.float32), 2.0)
    resolution[1] = 40.0
    lines = ["data_classes", "", "loop_", "_rlnEstimatedResolution #1", *map(str, resolution)]
    (tmp_path / "classes.star").write_text("\n".join(lines) + "\n")
    table = particles([k % 8 + 1 for k in range(80)], particle_diameter_A=[64.0] * 80)
    selection = select_particles(table, tmp_path / "classes.mrcs", SelectOptions())
    assert [entry["class"] for entry in selection.classes if not entry["kept"]] == [2]
    assert selection.classes[1]["weakest"] == "resolution"


def test_selection_by_list_or_condition_needs_no_averages(tmp_path):
    table = particles([1, 2, 3, 3], defocus_u_A=[1e4, 1e4, 1e4, 3e4])
    assert select_particles(table, None, SelectOptions(keep="1,3")).kept["uid"].tolist() == [0, 2, 3]
    assert select_particles(table, None, SelectOptions(where=("defocus_u_A<2e4",))).kept["uid"].tolist() == [0, 1, 2]
    with pytest.raises(HalfmapError, match="nothing to select by"):
        select_particles(table, None, SelectOptions())


def test_averages_of_another_classification_are_refused(tmp_path):
    write_stack(tmp_path / "classes.mrcs", np.zeros((2, 8, 8), dtype=np.float32) + np.eye(8, dtype=np.float32), 2.0)
    with pytest.raises(BadInputError, match="number of class averages"):
        select_particles(particles([1, 2, 3]), tmp_path / "classes.mrcs", SelectOptions())
