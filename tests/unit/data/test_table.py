import numpy as np
import pytest

from halfmap.data.table import Table, concatenate
from halfmap.errors import HalfmapError


def table() -> Table:
    return Table(
        {"micrograph_name": ["a", "b", "c"], "defocus_u_A": [1, 2, 3], "half_set": [1, 2, 1]}, {"x": ["1", "02", "z"]}
    )


def test_columns_have_their_declared_type_and_cannot_be_changed() -> None:
    t = table()
    assert (t["defocus_u_A"].dtype, t["half_set"].dtype) == (np.float64, np.int64)
    with pytest.raises(ValueError, match="read-only"):
        t["defocus_u_A"][0] = 5
    source = np.array([1.0, 2.0])
    kept = Table.of(defocus_u_A=source)
    source[0] = 9
    assert kept["defocus_u_A"][0] == 1


def test_selection_takes_foreign_columns_along() -> None:
    assert table().select([2, 0]).foreign["x"].tolist() == ["z", "1"]
    assert table().select(np.array([False, True, False]))["micrograph_name"].tolist() == ["b"]
    assert len(table().select([])) == 0


def test_with_and_without_columns() -> None:
    t = table().with_columns(defocus_v_A=[4, 5, 6]).without(["half_set", "absent"])
    assert sorted(t.columns) == ["defocus_u_A", "defocus_v_A", "micrograph_name"]
    assert t.foreign["x"].tolist() == ["1", "02", "z"]
    assert t.get("cs_mm", 2.7).tolist() == [2.7] * 3
    assert t.get("defocus_v_A", 0).tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table({"nonsense": [1]}), "not declared"),
        (lambda: Table({"half_set": [1, 2], "defocus_u_A": [1]}), "differ in length"),
        (lambda: Table({"half_set": [1, 2]}, {"x": ["1"]}), "differ in length"),
        (lambda: table()["rot_rad"], "column rot_rad is missing"),
        (lambda: concatenate([]), "no tables"),
        (lambda: concatenate([table(), table().without(["half_set"])]), r"only some have the columns \['half_set'\]"),
    ],
)
def test_errors(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(HalfmapError, match=message):
        make()


def test_concatenation_keeps_rows_in_order() -> None:
    joined = concatenate([table(), table().select([1])])
    assert joined["micrograph_name"].tolist() == ["a", "b", "c", "b"]
    assert joined.foreign["x"].tolist() == ["1", "02", "z", "02"]
    assert joined["half_set"].dtype == np.int64
