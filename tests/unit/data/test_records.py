import numpy as np
import pytest

from halfmap.data.columns import COLUMN_OF_RELION, COLUMNS, NAME_COLUMN, OPTICS_COLUMNS, PIXEL_SIZE_COLUMN
from halfmap.data.halves import assign_half_sets
from halfmap.data.records import HalfMaps, ImageSet, Volume
from halfmap.data.table import Table
from halfmap.errors import HalfmapError
from halfmap.units import split_unit


def particles() -> ImageSet:
    rows = Table({"image_name": ["1@a", "2@a", "1@b"], "optics_group": [7, 3, 7], "psi_rad": [0.1, 0.2, 0.3]})
    optics = Table({"optics_group": [7, 3], "voltage_kV": [300, 200], "image_pixel_size_A": [1.1, 1.5]})
    return ImageSet("particles", rows, optics)


def test_optics_are_looked_up_for_each_row() -> None:
    images = particles()
    assert images["voltage_kV"].tolist() == [300, 200, 300]
    assert images.pixel_size_A().tolist() == [1.1, 1.5, 1.1]
    assert images.select([1, 2])["voltage_kV"].tolist() == [200, 300]
    assert "voltage_kV" in images
    assert "rot_rad" not in images
    assert images.with_columns(psi_rad=[1, 2, 3])["psi_rad"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("rows", "optics", "message"),
    [
        ({"optics_group": [1]}, {"optics_group": [1]}, "needs the column image_name"),
        ({"image_name": ["a"]}, {"optics_group": [1]}, "needs the column optics_group"),
        ({"image_name": ["a"], "optics_group": [1]}, {"optics_group": [1, 1]}, "occur twice"),
        ({"image_name": ["a"], "optics_group": [2]}, {"optics_group": [1]}, r"\[2\] are used but not described"),
        (
            {"image_name": ["a"], "optics_group": [1], "cs_mm": [2]},
            {"optics_group": [1]},
            "belong to the optics groups",
        ),
    ],
)
def test_inconsistent_sets_cannot_be_made(rows: dict, optics: dict, message: str) -> None:
    with pytest.raises(HalfmapError, match=message):
        ImageSet("particles", Table(rows), Table(optics))


def test_required_columns() -> None:
    particles().require(["psi_rad", "voltage_kV"], needed_for="refinement")
    with pytest.raises(HalfmapError, match=r"refinement needs the columns \['cs_mm', 'rot_rad'\]"):
        particles().require(["cs_mm", "rot_rad"], needed_for="refinement")


def test_volumes() -> None:
    with pytest.raises(HalfmapError, match="three dimensions"):
        Volume(np.zeros((2, 2)), 1.0)
    for bad in (0.0, -1.0, float("nan")):
        with pytest.raises(HalfmapError, match="positive pixel size"):
            Volume(np.zeros((2, 2, 2)), bad)
    with pytest.raises(HalfmapError, match="differ in shape"):
        HalfMaps(Volume(np.zeros((2, 2, 2)), 1.0), Volume(np.zeros((3, 3, 3)), 1.0))


def test_columns_are_declared_once_and_say_their_unit() -> None:
    labels = [c.relion for c in COLUMNS.values()]
    assert len(set(labels)) == len(labels) == len(COLUMN_OF_RELION)
    for name, column in COLUMNS.items():
        assert column.meaning
        assert (column.relion_scale != 1.0) == name.endswith("_rad"), name
    assert set(COLUMNS) >= OPTICS_COLUMNS
    for kind, name in NAME_COLUMN.items():
        assert COLUMNS[name].type == "str"
        assert PIXEL_SIZE_COLUMN[kind] in OPTICS_COLUMNS
    assert split_unit("image_pixel_size_A") == ("image_pixel_size", "Å")


def test_halves_follow_the_names_not_their_order() -> None:
    names = [f"m{i}" for i in range(51)]
    halves = dict(zip(names, assign_half_sets(names, seed=3).tolist(), strict=True))
    again = names[::-1] * 2
    assert assign_half_sets(again, seed=3).tolist() == [halves[name] for name in again]
    assert abs(sum(h == 1 for h in halves.values()) - sum(h == 2 for h in halves.values())) == 1
    assert halves != dict(zip(names, assign_half_sets(names, seed=4).tolist(), strict=True))


def test_known_halves_stay_and_the_others_fill_up():
    names = [f"m{i}" for i in range(20)]
    first = dict(zip(names[:7], assign_half_sets(names[:7], seed=3).tolist(), strict=True))
    halves = assign_half_sets(names, seed=3, known=first).tolist()
    assert halves[:7] == [first[name] for name in names[:7]]
    assert halves.count(1) == 10
    lopsided = assign_half_sets(names, seed=3, known=dict.fromkeys(names[:8], 1)).tolist()
    assert lopsided.count(1) == 10
