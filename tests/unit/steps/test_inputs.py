"""Inputs of steps: STAR or bare files, optics from options, header and table without contradiction."""

from pathlib import Path

import numpy as np
import pytest

from halfmap.data.halves import assign_half_sets
from halfmap.data.join import join_image_sets
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.mrc import write_image, write_stack
from halfmap.io.relion import write_image_set
from halfmap.optics.options import OpticsOptions
from halfmap.steps.files import output_stems
from halfmap.steps.inputs import image_set_from

OPTICS = OpticsOptions(pixel_size_A=1.5, voltage_kV=300, cs_mm=2.7)
NONE = OpticsOptions()


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(1)
    for i in range(4):
        write_image(f"m{i}.mrc", random.standard_normal((4, 6)).astype(np.float32), 1.5)
    write_stack("movie.mrcs", random.standard_normal((3, 4, 6)).astype(np.float32), 1.0)


MICROGRAPHS = [Path(f"m{i}.mrc") for i in range(4)]


def test_bare_files_become_a_complete_table():
    images = image_set_from(MICROGRAPHS, "micrographs", OPTICS)
    assert images["micrograph_name"].tolist() == ["m0.mrc", "m1.mrc", "m2.mrc", "m3.mrc"]
    assert images.pixel_size_A().tolist() == [1.5] * 4
    assert images["voltage_kV"].tolist() == [300] * 4
    assert images["amplitude_contrast"].tolist() == [0.1] * 4
    assert sorted(images["half_set"].tolist()) == [1, 1, 2, 2]


def test_pixel_size_comes_from_the_header_where_no_option_states_it():
    images = image_set_from(MICROGRAPHS, "micrographs", OpticsOptions(voltage_kV=300, cs_mm=2.7))
    assert images.pixel_size_A()[0] == pytest.approx(1.5)


def test_header_that_says_1_means_unknown_to_an_option():
    images = image_set_from([Path("movie.mrcs")], "movies", OPTICS)
    assert images.pixel_size_A().tolist() == [1.5]


def test_header_against_option_prints_the_ratio():
    with pytest.raises(BadInputError, match=r"m0\.mrc: micrograph_pixel_size_A is 1\.5, expected 1\.6 .*ratio 0\.9375"):
        image_set_from(MICROGRAPHS, "micrographs", OpticsOptions(pixel_size_A=1.6, voltage_kV=300, cs_mm=2.7))


def test_within_a_thousandth_is_agreement():
    options = OpticsOptions(pixel_size_A=1.501, voltage_kV=300, cs_mm=2.7)
    assert image_set_from(MICROGRAPHS, "micrographs", options).pixel_size_A()[0] == pytest.approx(1.5, rel=1e-3)


@pytest.mark.parametrize(
    ("given", "flag"),
    [({"voltage_kV": 300}, "--cs in mm"), ({"cs_mm": 2.7}, "--voltage in kV")],
)
def test_what_is_stated_nowhere_is_asked_for(given, flag):
    with pytest.raises(BadInputError, match=f"Give {flag}"):
        image_set_from(MICROGRAPHS, "micrographs", OpticsOptions(**given))


def test_unknown_pixel_size_is_asked_for():
    Path("m.tif").write_bytes(b"not an image")
    with pytest.raises(BadInputError, match="Give --pixel-size in Å"):
        image_set_from([Path("m.tif")], "micrographs", OpticsOptions(voltage_kV=300, cs_mm=2.7))


def test_star_and_options_must_agree():
    write_image_set("all.star", image_set_from(MICROGRAPHS, "micrographs", OPTICS))
    star = [Path("all.star")]
    assert image_set_from(star, "micrographs", NONE).pixel_size_A().tolist() == [1.5] * 4
    assert image_set_from(star, "micrographs", OPTICS)["cs_mm"].tolist() == [2.7] * 4
    with pytest.raises(BadInputError, match=r"(?i)voltage.*ratio 1\.50"):
        image_set_from(star, "micrographs", OpticsOptions(voltage_kV=200))


def test_half_sets_of_a_star_are_never_drawn_again():
    images = image_set_from(MICROGRAPHS, "micrographs", OPTICS).with_columns(half_set=[2, 2, 2, 1])
    write_image_set("all.star", images)
    assert image_set_from([Path("all.star")], "micrographs", NONE, seed=5)["half_set"].tolist() == [2, 2, 2, 1]


def test_names_open_from_elsewhere(tmp_path, monkeypatch):
    write_image_set("all.star", image_set_from(MICROGRAPHS, "micrographs", OPTICS))
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    images = image_set_from([Path("../all.star")], "micrographs", NONE)
    assert all(Path(name).is_file() for name in images["micrograph_name"])


def test_names_that_are_nowhere_stay():
    images = image_set_from(MICROGRAPHS, "micrographs", OPTICS)
    write_image_set("all.star", images)
    Path("m2.mrc").unlink()
    assert image_set_from([Path("all.star")], "micrographs", NONE)["micrograph_name"][2] == "m2.mrc"


def test_dose_is_kept_and_contradictions_refused():
    options = OpticsOptions(pixel_size_A=1.5, voltage_kV=300, cs_mm=2.7, dose_per_frame_e_per_A2=1.25)
    images = image_set_from([Path("movie.mrcs")], "movies", options)
    assert images["dose_per_frame_e_per_A2"].tolist() == [1.25]
    write_image_set("movies.star", images)
    with pytest.raises(BadInputError, match="stated by --dose-per-frame"):
        image_set_from([Path("movies.star")], "movies", OpticsOptions(dose_per_frame_e_per_A2=1.0))


def test_particles_need_a_star():
    with pytest.raises(BadInputError, match="expected a STAR file of particles"):
        image_set_from(MICROGRAPHS, "particles", OPTICS)


def test_star_among_files_is_refused():
    write_image_set("all.star", image_set_from(MICROGRAPHS, "micrographs", OPTICS))
    with pytest.raises(HalfmapError, match="a STAR file is read alone"):
        image_set_from([Path("all.star"), MICROGRAPHS[0]], "micrographs", NONE)


def test_half_sets_are_balanced_by_name_and_repeatable():
    names = [f"m{i // 3}" for i in range(300)]
    halves = assign_half_sets(names, seed=1)
    assert set(np.bincount(halves[::3])[1:]) == {50}
    assert all(len(set(halves[i : i + 3])) == 1 for i in range(0, 300, 3))
    backwards = assign_half_sets(names[::-1], seed=1)[::-1]
    assert backwards.tolist() == halves.tolist()
    assert assign_half_sets(names, seed=2).tolist() != halves.tolist()


def test_output_stems_are_distinct():
    assert output_stems(["/d/1/x.tif", "/d/2/x.tif"]) == ["1_x", "2_x"]
    with pytest.raises(HalfmapError, match="Give each file once"):
        output_stems(["x.tif", "x.tif"])


def image_set(names, voltage):
    optics = Table.of(optics_group=[7], optics_group_name=["mine"], micrograph_pixel_size_A=[1.5], voltage_kV=[voltage])
    return ImageSet("micrographs", Table.of(micrograph_name=names, optics_group=[7] * len(names)), optics)


def test_join_merges_equal_optics_and_renumbers_others():
    joined = join_image_sets([image_set(["a"], 300.0), image_set(["b", "c"], 200.0), image_set(["d"], 300.0)])
    assert joined["voltage_kV"].tolist() == [300, 200, 200, 300]
    assert joined["optics_group"].tolist() == [1, 2, 2, 1]
    assert len(joined.optics) == 2
    with pytest.raises(HalfmapError, match="more than one file"):
        join_image_sets([image_set(["a"], 300.0), image_set(["a"], 300.0)])
