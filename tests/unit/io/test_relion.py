import math
from pathlib import Path

import numpy as np
import pytest

from halfmap.data.columns import COLUMNS
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.relion import read_image_set, stable_uids, write_image_set
from halfmap.io.star import read_star

OPTICS = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
_rlnImageDimensionality #8
_rlnOddZernike #9
a 1 300.000000 2.700000 0.100000 1.250000 196 2 [1.70554063513,0,-0.5]
b 2 200.000000 2.700000 0.070000 1.500000 128 2 [0,0,0]

"""
PARTICLES = """
# version 30001

data_particles

loop_
_rlnImageName #1
_rlnMicrographName #2
_rlnOpticsGroup #3
_rlnAngleRot #4
_rlnAngleTilt #5
_rlnAnglePsi #6
_rlnOriginXAngst #7
_rlnOriginYAngst #8
_rlnDefocusU #9
_rlnDefocusV #10
_rlnDefocusAngle #11
_rlnRandomSubset #12
_rlnBeamTiltClass #13
000002@Extract/a.mrcs Micrographs/a.mrc 1 -12.345678 89.123456 179.999999 1.25 -2.5 10123.456789 9876.5 45.1 1 007
000001@Extract/a.mrcs Micrographs/a.mrc 1 16.093530 0 -115.40303 0 0 10123.456789 9876.5 45.1 2 1.50
000001@Extract/b.mrcs Micrographs/b.mrc 2 0.1 33.3 1e-05 0.1 0.2 20000 20000 0 1 x
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "in.star"
    path.write_text(text)
    return path


def values_of(path: Path) -> dict[str, dict[str, list[str]]]:
    return {name: {k: v.tolist() for k, v in block.items()} for name, block in read_star(path).items()}


def same_value(a: str, b: str) -> bool:
    try:
        return float(a) == float(b)
    except ValueError:
        return a == b


class TestRelion31:
    def test_units_and_optics(self, tmp_path: Path) -> None:
        images = read_image_set(written(tmp_path, OPTICS + PARTICLES))
        assert images.kind == "particles"
        assert images["rot_rad"][0] == pytest.approx(-12.345678 * math.pi / 180, rel=1e-15)
        assert images["shift_y_A"].tolist() == [-2.5, 0, 0.2]
        assert images.pixel_size_A().tolist() == [1.25, 1.25, 1.5]
        assert images["voltage_kV"].tolist() == [300, 300, 200]
        assert images["half_set"].tolist() == [1, 2, 1]
        assert images.rows.foreign["rlnBeamTiltClass"].tolist() == ["007", "1.50", "x"]
        assert images.optics.foreign["rlnOddZernike"][0] == "[1.70554063513,0,-0.5]"

    def test_every_value_and_unknown_column_survives(self, tmp_path: Path) -> None:
        general = "\ndata_general\n\n_rlnSomething 1.500\n_rlnOther 'two words'\n\ndata_more\n\nloop_\n_a\n01\n02\n"
        path = written(tmp_path, OPTICS + PARTICLES + general)
        write_image_set(tmp_path / "out.star", read_image_set(path))
        before, after = values_of(path), values_of(tmp_path / "out.star")
        assert set(before) == set(after)
        for name, block in before.items():
            for label, values in block.items():
                for a, b in zip(values, after[name][label], strict=True):
                    assert same_value(a, b), (name, label, a, b)
        assert after["general"] == before["general"]
        assert not read_star(tmp_path / "out.star")["general"].is_loop
        assert after["more"] == {"a": ["01", "02"]}

    def test_a_second_round_trip_changes_nothing(self, tmp_path: Path) -> None:
        write_image_set(tmp_path / "a.star", read_image_set(written(tmp_path, OPTICS + PARTICLES)))
        write_image_set(tmp_path / "b.star", read_image_set(tmp_path / "a.star"))
        assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()

    def test_uid_is_made_from_the_name_and_then_kept(self, tmp_path: Path) -> None:
        path = written(tmp_path, OPTICS + PARTICLES)
        first, again = read_image_set(path), read_image_set(path)
        assert first["uid"].tolist() == again["uid"].tolist()
        assert len(set(first["uid"].tolist())) == 3
        write_image_set(tmp_path / "b.star", first.select([2, 0]).with_columns(image_name=["x@y", "z@y"]))
        assert read_image_set(tmp_path / "b.star")["uid"].tolist() == first["uid"][[2, 0]].tolist()

    def test_degrees_that_were_read_are_written_with_the_same_digits(self, tmp_path: Path) -> None:
        degrees = np.round(np.random.default_rng(0).uniform(-180, 180, 3000), 6)
        rows = "".join(f"{i + 1}@a.mrcs 1 {d:.6f}\n" for i, d in enumerate(degrees))
        path = written(
            tmp_path, OPTICS + "data_particles\nloop_\n_rlnImageName\n_rlnOpticsGroup\n_rlnAngleRot\n" + rows
        )
        write_image_set(tmp_path / "out.star", read_image_set(path))
        assert [float(v) for v in values_of(tmp_path / "out.star")["particles"]["rlnAngleRot"]] == degrees.tolist()

    def test_radians_of_our_own_come_back_to_the_last_bit_but_one(self, tmp_path: Path) -> None:
        images = read_image_set(written(tmp_path, OPTICS + PARTICLES))
        angles = np.random.default_rng(1).uniform(-math.pi, math.pi, 3)
        write_image_set(tmp_path / "o.star", images.with_columns(rot_rad=angles))
        np.testing.assert_allclose(read_image_set(tmp_path / "o.star")["rot_rad"], angles, rtol=2.3e-16)

    def test_particles_with_coordinates_can_be_read_as_coordinates(self, tmp_path: Path) -> None:
        text = (
            "data_optics\nloop_\n_rlnOpticsGroup\n_rlnMicrographPixelSize\n1 0.9\n\ndata_particles\nloop_\n"
            "_rlnImageName\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n_rlnOpticsGroup\n"
            "1@a.mrcs m.mrc 10 20 1\n"
        )
        images = read_image_set(written(tmp_path, text), "coordinates")
        assert (images.kind, images["coordinate_y_px"][0], images.pixel_size_A()[0]) == ("coordinates", 20, 0.9)

    @pytest.mark.parametrize(
        ("kind", "block", "label"),
        [("movies", "movies", "rlnMicrographMovieName"), ("micrographs", "micrographs", "rlnMicrographName")],
    )
    def test_movies_and_micrographs(self, tmp_path: Path, kind: str, block: str, label: str) -> None:
        size = "rlnMicrographOriginalPixelSize" if kind == "movies" else "rlnMicrographPixelSize"
        path = written(
            tmp_path,
            f"data_optics\nloop_\n_rlnOpticsGroup\n_{size}\n1 0.885\n\ndata_{block}\nloop_\n_{label}\n_rlnOpticsGroup\n"
            "m.tif 1\nn.tif 1\n",
        )
        images = read_image_set(path)
        assert (images.kind, len(images)) == (kind, 2)
        assert images.pixel_size_A().tolist() == [0.885, 0.885]
        write_image_set(tmp_path / "o.star", images)
        assert block in read_star(tmp_path / "o.star")


class TestRelion30:
    TEXT = """
data_images

loop_
_rlnVoltage #1
_rlnSphericalAberration #2
_rlnAmplitudeContrast #3
_rlnMagnification #4
_rlnDetectorPixelSize #5
_rlnImageName #6
_rlnOriginX #7
_rlnOriginY #8
_rlnBeamTiltX #9
300.0 2.7 0.1 35714.0 5.000000 000001@a.mrcs 1.5 -2 0.10
200.0 2.7 0.1 35714.0 5.000000 000002@a.mrcs 0 4 0.20
300.0 2.7 0.1 35714.0 5.000000 000003@a.mrcs -1 0 0.30
"""

    def test_becomes_optics_groups_and_angstroms(self, tmp_path: Path) -> None:
        notes: list[str] = []
        images = read_image_set(written(tmp_path, self.TEXT), note=notes.append)
        pixel = 5e4 / 35714
        assert images["optics_group"].tolist() == [1, 2, 1]
        assert images["voltage_kV"].tolist() == [300, 200, 300]
        assert images.pixel_size_A() == pytest.approx([pixel] * 3, rel=1e-11)
        assert images["shift_x_A"] == pytest.approx([1.5 * pixel, 0, -pixel], rel=1e-11)
        assert images["shift_y_A"] == pytest.approx([-2 * pixel, 4 * pixel, 0], rel=1e-11)
        assert images.rows.foreign["rlnBeamTiltX"].tolist() == ["0.10", "0.20", "0.30"]
        assert any("rlnDetectorPixelSize / rlnMagnification" in note for note in notes)
        assert any("rlnOriginX" in note for note in notes)

    def test_written_as_31_and_read_again(self, tmp_path: Path) -> None:
        images = read_image_set(written(tmp_path, self.TEXT))
        write_image_set(tmp_path / "o.star", images)
        again = read_image_set(tmp_path / "o.star")
        for name, values in images.rows.columns.items():
            np.testing.assert_array_equal(again.rows[name], values)
        optics = values_of(tmp_path / "o.star")["optics"]
        assert optics["rlnMagnification"] == ["35714.0", "35714.0"]
        assert optics["rlnDetectorPixelSize"] == ["5.000000", "5.000000"]

    def test_older_pixel_size_is_dropped_when_the_images_have_another(self, tmp_path: Path) -> None:
        images = read_image_set(written(tmp_path, self.TEXT))
        binned = ImageSet(
            images.kind, images.rows, images.optics.with_columns(image_pixel_size_A=[2.8, 2.8]), images.foreign_blocks
        )
        write_image_set(tmp_path / "o.star", binned)
        assert read_image_set(tmp_path / "o.star").pixel_size_A().tolist() == [2.8] * 3
        assert "rlnMagnification" not in read_star(tmp_path / "o.star")["optics"]


class TestCoordinatesAlone:
    TEXT = "data_particles\n\nloop_\n_rlnMicrographName #1\n_rlnCoordinateX #2\n_rlnCoordinateY #3\na.mrc 406.0 32.0\n"

    def test_defaults_fill_in_what_is_absent_and_are_reported(self, tmp_path: Path) -> None:
        notes: list[str] = []
        images = read_image_set(
            written(tmp_path, self.TEXT),
            defaults={"micrograph_pixel_size_A": 1.5, "voltage_kV": 300},
            note=notes.append,
        )
        assert images.kind == "coordinates"
        assert (images.pixel_size_A()[0], images["voltage_kV"][0]) == (1.5, 300)
        assert sum("taken from the options" in note for note in notes) == 2

    def test_without_them_it_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(BadInputError, match="rlnMicrographPixelSize is absent"):
            read_image_set(written(tmp_path, self.TEXT))

    def test_one_file_a_micrograph(self, tmp_path: Path) -> None:
        (tmp_path / "AutoPick").mkdir()
        picks = "data_\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n_rlnAutopickFigureOfMerit #3\n_rlnNew #4\n"
        (tmp_path / "AutoPick" / "a.star").write_text(picks + "1 2 0.5 007\n3 4 0.25 x\n")
        (tmp_path / "AutoPick" / "b.star").write_text(picks)
        (tmp_path / "AutoPick" / "c.star").write_text(picks + "5 6 nan y\n")
        listed = "data_coordinate_files\n\nloop_\n_rlnMicrographName #1\n_rlnMicrographCoordinates #2\n"
        names = "".join(f"MotionCorr/{m}.mrc AutoPick/{m}.star\n" for m in "abc")
        notes: list[str] = []
        images = read_image_set(
            written(tmp_path, listed + names), defaults={"micrograph_pixel_size_A": 1.1}, note=notes.append
        )
        assert images.kind == "coordinates"
        assert images["micrograph_name"].tolist() == ["MotionCorr/a.mrc"] * 2 + ["MotionCorr/c.mrc"]
        assert images["coordinate_x_px"].tolist() == [1, 3, 5]
        assert images.rows.foreign["rlnNew"].tolist() == ["007", "x", "y"]
        assert "coordinates joined from 3 files" in notes
        (tmp_path / "AutoPick" / "c.star").write_text("data_\nloop_\n_rlnCoordinateX\n_rlnCoordinateY\n1 2\n")
        with pytest.raises(BadInputError, match=r"c\.star: columns is"):
            read_image_set(tmp_path / "in.star", defaults={"micrograph_pixel_size_A": 1.1})
        (tmp_path / "AutoPick" / "c.star").unlink()
        with pytest.raises(BadInputError, match=r"AutoPick/c\.star is not there"):
            read_image_set(tmp_path / "in.star", defaults={"micrograph_pixel_size_A": 1.1})

    def test_real_picks(self, shared_data: Path) -> None:
        path = shared_data / "empiar-10146" / "manual_picks.star"
        images = read_image_set(path, "coordinates", defaults={"micrograph_pixel_size_A": 1.5})
        assert len(images) == 1640
        assert len(set(images["micrograph_name"].tolist())) == 10
        assert len(set(images["uid"].tolist())) == 1640
        assert (images["coordinate_x_px"] < 1240).all()
        assert (images["coordinate_y_px"] < 1200).all()


TO_PIXEL_SIZE = ("_rlnOddZernike #9", "_rlnPixelSize #9", "[0,0,0]", "1.5", "[1.70554063513,0,-0.5]")
TO_ROWS = (" 007", " {}", " 2 1.50", " 2 {}", " 1 x", " 1 {}", "_rlnBeamTiltClass #13")


def last_column(label: str, *values: float) -> tuple[str, ...]:
    """Replacements that put another column in place of the last one of the particles."""
    pairs = [part.format(values[i // 2]) if i % 2 else part for i, part in enumerate(TO_ROWS[:6])]
    return (*pairs, TO_ROWS[6], f"_{label} #13")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((*TO_PIXEL_SIZE, "1.26"), r"ratio 1\.00800"),
        ((*TO_PIXEL_SIZE, "x"), "expected numbers"),
        (("b 2 200", "b 1 200"), "optics groups occur twice"),
        (("b 2 200", "b 3 200"), r"\[2\] are used but not described"),
        (("1.250000 196", "nan 196"), "rlnImagePixelSize, row 1 is nan"),
        (("1.250000 196", "-1.25 196"), "expected a positive number"),
        (last_column("rlnVoltage", 300, 300, 300), "rlnVoltage of the rows is 300.0, expected 200.0"),
        (last_column("rlnVoltage", 300, 200, 200), "different within an optics group"),
        (last_column("rlnOriginX", 1, 0, 1), "rlnOriginX, row 3 is 1.0 px, expected 0.0666667 px"),
        (("10123.456789 9876.5 45.1 2", "nan 9876.5 45.1 2"), "rlnDefocusU, row 2 is nan"),
        (("_rlnImageName", "_rlnX", "_rlnMicrographName", "_rlnY"), "expected rlnImageName or"),
        (("_rlnImagePixelSize", "_rlnSomethingElse"), "rlnImagePixelSize is absent"),
        (("Name #2\n_rlnOpticsGroup #3", "Name #2\n_rlnX #3"), "rlnOpticsGroup of the rows is absent"),
    ],
)
def test_contradictions_and_gaps(tmp_path: Path, change: tuple[str, ...], message: str) -> None:
    text = OPTICS + PARTICLES
    for old, new in zip(change[::2], change[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(BadInputError, match=message):
        read_image_set(written(tmp_path, text))


def test_given_pixel_size_has_to_agree(tmp_path: Path) -> None:
    text = OPTICS.replace("b 2 200.000000 2.700000 0.070000 1.500000 128 2 [0,0,0]\n", "") + PARTICLES.replace(
        "mrc 2 0.1", "mrc 1 0.1"
    )
    path = written(tmp_path, text)
    assert len(read_image_set(path, defaults={"image_pixel_size_A": 1.2505})) == 3
    with pytest.raises(BadInputError, match=r"ratio 1\.04167"):
        read_image_set(path, defaults={"image_pixel_size_A": 1.2})


def test_wrong_kind_of_file(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="rlnMicrographMovieName"):
        read_image_set(written(tmp_path, OPTICS + PARTICLES), "movies")


def test_every_column_can_be_written_and_read(tmp_path: Path) -> None:
    """Each declared column has a label of its own and keeps its value."""
    assert all(column.relion for column in COLUMNS.values())
    value = {"float": 0.123456789, "int": 1, "str": "a/b.mrc"}
    optics = ("optics_group", "optics_group_name", "voltage_kV", "cs_mm", "amplitude_contrast", "original_pixel_size_A",
              "micrograph_pixel_size_A", "image_pixel_size_A", "box_px", "image_dimensions")  # fmt: skip
    rows = {name: [value[c.type]] for name, c in COLUMNS.items() if name not in optics} | {"optics_group": [1]}
    images = ImageSet("particles", Table(rows), Table({name: [value[COLUMNS[name].type]] for name in optics}))
    write_image_set(tmp_path / "all.star", images)
    again = read_image_set(tmp_path / "all.star")
    for name, values in rows.items():
        read = again.rows[name].tolist()
        assert read == (pytest.approx(values, rel=3e-16) if isinstance(values[0], float) else values), name
    assert set(again.optics.columns) == set(optics)


def test_repeated_names_get_different_uids() -> None:
    uids = stable_uids(["a", "b", "a", "a"])
    assert len(set(uids.tolist())) == 4
    assert (uids >= 0).all()


def test_undeclared_default(tmp_path: Path) -> None:
    with pytest.raises(HalfmapError, match="not a column of optics groups"):
        read_image_set(written(tmp_path, OPTICS + PARTICLES), defaults={"rot_rad": 1.0})
