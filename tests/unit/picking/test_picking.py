import numpy as np
import pytest

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.io.mrc import write_image
from halfmap.picking.blob import PickPlan, pick_image, pick_micrograph
from halfmap.picking.compare import Comparison, compare_points, match_points
from halfmap.picking.contamination import contaminated, too_strong
from halfmap.picking.field import field_of
from halfmap.picking.micrograph import Defocus, Micrograph, micrographs_of
from halfmap.picking.session import collect
from halfmap.picking.survey import conclude, find_template, longest_diameter_A, survey_micrograph, survey_sample
from halfmap.picking.template import Template
from halfmap.picking.threshold import choose_threshold, expected_false

PLAN = PickPlan(Template(120.0, 0.65, 0.03), -1, 120.0, 90.0, controls=4, seed=0, device="cpu")


def micrograph_of(scene, name="a.mrc"):
    d = scene.defocus_A
    return Micrograph(name, scene.pixel_size_A, Defocus(d, d, 0.0, 0.0, 300.0, 2.7, 0.1))


def threshold_of(result):
    return choose_threshold(np.array(result["score"]), np.array(result["control"]), PLAN.controls, 0.05)


def picked(result, threshold):
    keep = np.array(result["score"]) >= threshold
    return np.stack((np.array(result["y_px"])[keep], np.array(result["x_px"])[keep]), axis=1)


def test_particles_are_found_where_they_are(make_scene):
    scene = make_scene(seed=1)
    result = pick_image(scene.image, micrograph_of(scene), PLAN)
    threshold = threshold_of(result)
    points = picked(result, threshold)
    compared = compare_points(points, scene.places, 40.0 / 3)
    assert compared.precision >= 0.95
    assert compared.recall >= 0.95
    pairs = match_points(points, scene.places, 40.0 / 3)
    offsets = points[pairs[:, 0]] - scene.places[pairs[:, 1]]
    assert np.abs(offsets.mean(axis=0)).max() < 0.5
    assert np.sqrt((offsets**2).mean()) < 2.0


def test_noise_alone_gives_no_threshold(make_scene):
    scene = make_scene(seed=2, count=0)
    result = pick_image(scene.image, micrograph_of(scene), PLAN)
    assert threshold_of(result) is None


def test_expected_false_counts_what_noise_gives(make_scene):
    scenes = [make_scene(seed=s, count=0) for s in (3, 4, 5)]
    results = [pick_image(s.image, micrograph_of(s, f"{i}.mrc"), PLAN) for i, s in enumerate(scenes)]
    found = sum((np.array(r["score"]) >= 3.0).sum() for r in results)
    expected = sum(expected_false(np.array(r["control"]), PLAN.controls, 3.0) for r in results)
    assert expected == pytest.approx(found, rel=0.35)


def test_particles_at_the_edge_and_in_dirt_are_left_out_and_counted(make_scene):
    scene = make_scene(seed=6)
    scene.image[:, :200] += 300
    result = pick_image(scene.image, micrograph_of(scene), PLAN)
    assert result["n_contaminated"] > 0
    assert min(result["x_px"]) > 200
    assert 0.25 < result["contaminated_frac"] < 0.5
    assert min(result["y_px"]) >= 19.5
    assert max(result["y_px"]) <= 600 - 20.5


def test_particles_are_not_taken_for_dirt(make_scene):
    scene = make_scene(seed=7, snr=2.0)
    field = field_of(scene.image, 3.0, 180.0, "cpu").resampled(6.0)
    assert contaminated(field, 120.0).mean() == 0.0


def test_one_strong_crystal_among_picks_is_too_strong():
    strengths = np.r_[np.random.default_rng(0).normal(1.0, 0.05, 200), 3.0]
    assert np.flatnonzero(too_strong(strengths)).tolist() == [200]
    assert too_strong(np.zeros(0)).tolist() == []


@pytest.mark.parametrize("sign", [1, -1])
def test_survey_finds_contrast_and_shape(make_scene, tmp_path, sign):
    scene = make_scene(seed=8, sign=sign, shape=(480, 480), count=25)
    write_image(tmp_path / "a.mrc", scene.image, 3.0)
    micrograph = micrograph_of(scene, str(tmp_path / "a.mrc"))
    templates = [Template(d, inner, 0.03) for d in (84.0, 120.0, 170.0) for inner in (0.0, 0.65)]
    finding = conclude(templates, [survey_micrograph(micrograph, templates=templates, seed=0, device="cpu")])
    assert finding.sign == sign
    assert finding.template == Template(120.0, 0.65, 0.03)
    assert finding.evidence > 5 * finding.evidence_of_other_sign


@pytest.mark.truth
@pytest.mark.parametrize(("diameter_A", "inner"), [(120.0, 0.6), (180.0, 0.0), (90.0, 0.0)])
def test_diameter_is_estimated_within_15_percent(make_scene, tmp_path, diameter_A, inner):
    scenes = [make_scene(seed=s, diameter_A=diameter_A, inner_frac=inner, count=20, shape=(700, 700)) for s in (1, 2)]
    for i, scene in enumerate(scenes):
        write_image(tmp_path / f"{i}.mrc", scene.image, 3.0)
    items = [micrograph_of(scene, str(tmp_path / f"{i}.mrc")) for i, scene in enumerate(scenes)]
    finding = find_template(
        None, lambda label, templates: [survey_micrograph(m, templates=templates, seed=0, device="cpu") for m in items]
    )
    assert longest_diameter_A(finding.template) == pytest.approx(diameter_A, rel=0.15)


def test_nothing_found_where_nothing_matches():
    def survey(label, templates):
        return [{"white": [0.0] * len(templates), "dark": [-1.0] * len(templates)}]

    assert find_template(100.0, survey) is None
    assert find_template(100.0, lambda label, templates: []) is None


def test_matching_is_one_to_one_and_nearest_first():
    picked, expected = np.array([[0.0, 0], [1, 0], [50, 50]]), np.array([[0.4, 0.0], [9, 9]])
    assert match_points(picked, expected, 5.0).tolist() == [[0, 0]]
    compared = compare_points(picked, expected, 5.0) + Comparison(1, 2, 1)
    assert (compared.picked, compared.expected, compared.matched) == (4, 4, 2)
    assert compare_points(np.zeros((0, 2)), expected, 5.0).precision == 0.0


def test_threshold_is_the_lowest_that_keeps_the_promise():
    scores = np.r_[np.linspace(6, 8, 100), np.linspace(2, 4, 300)]
    control = np.linspace(2, 4, 600)
    threshold = choose_threshold(scores, control, 2, 0.05)
    assert 3.7 < threshold < 4.0
    assert choose_threshold(scores, control, 2, 0.5) < threshold
    assert choose_threshold(control, control, 1, 0.05) is None


def session(tmp_path, scenes):
    names = [str(tmp_path / f"{i}.mrc") for i in range(len(scenes))]
    for name, scene in zip(names, scenes, strict=True):
        write_image(name, scene.image, 3.0)
    rows = Table.of(
        micrograph_name=names, optics_group=[1] * len(names), half_set=[1, 2, 1][: len(names)],
        defocus_u_A=[s.defocus_A for s in scenes], defocus_v_A=[s.defocus_A for s in scenes],
        defocus_angle_rad=[0.0] * len(names), movie_name=names,
    )  # fmt: skip
    optics = Table.of(
        optics_group=[1], micrograph_pixel_size_A=[3.0], voltage_kV=[300.0], cs_mm=[2.7], amplitude_contrast=[0.1]
    )
    return ImageSet("micrographs", rows, optics)


def picks_of(images, order):
    shuffled = images.select(order)
    items = micrographs_of(shuffled)
    results = [(row, pick_micrograph(m, plan=PLAN)) for row, m in enumerate(items)]
    return collect(shuffled, results, PLAN, max_false_frac=0.05, threshold=None)


def test_picks_do_not_depend_on_the_order_of_micrographs(make_scene, tmp_path):
    images = session(tmp_path, [make_scene(seed=s, count=20, shape=(400, 400)) for s in (1, 2, 3)])
    forward, backward = picks_of(images, [0, 1, 2]), picks_of(images, [2, 0, 1])
    assert forward.threshold == backward.threshold

    def rows(picks):
        table = picks.coordinates.rows
        names = ("uid", "micrograph_name", "coordinate_x_px", "coordinate_y_px", "half_set", "defocus_u_A")
        return sorted(zip(*(table[name].tolist() for name in names), strict=True))

    assert rows(forward) == rows(backward)
    sample = survey_sample(micrographs_of(images), 2, seed=0)
    assert sample == survey_sample(micrographs_of(images.select([2, 1, 0])), 2, seed=0)


def test_particles_bring_along_what_they_need(make_scene, tmp_path):
    images = session(tmp_path, [make_scene(seed=s, count=20, shape=(400, 400)) for s in (1, 2)])
    picks = picks_of(images, [0, 1])
    table = picks.coordinates
    assert table.kind == "coordinates"
    assert set(table["half_set"]) == {1, 2}
    assert set(table["particle_diameter_A"]) == {120.0}
    assert "movie_name" not in table
    assert len(set(table["uid"].tolist())) == len(table)
    assert (table["pick_figure_of_merit"] >= picks.threshold).all()
    assert sum(count["particles"] for count in picks.counts) == len(table)
    assert picks.expected_false < 0.1 * len(table)
    assert table["micrograph_pixel_size_A"].tolist() == [3.0] * len(table)
