from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.star import StarBlock, read_star, write_star

RELION = """
# version 30001

data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnVoltage #3
opticsGroup1            1   300.000000


# version 30001

data_particles

loop_
_rlnCoordinateX #1
_rlnImageName #2
_rlnOddZernike #3
  12.500000 000001@Extract/job1/mic's#1.mrcs [0.1,0,-2e-05]
 -3.250000 000002@Extract/job1/b.mrcs [1,2,3]

# version 30001

data_general

_rlnFinalResolution                3.25
_rlnName   job012
"""


def test_relion_file(tmp_path: Path) -> None:
    path = tmp_path / "r.star"
    path.write_text(RELION)
    blocks = read_star(path, {"rlnCoordinateX": "float", "rlnOpticsGroup": "int"})
    assert list(blocks) == ["optics", "particles", "general"]
    assert [b.is_loop for b in blocks.values()] == [True, True, False]
    assert blocks["optics"]["rlnOpticsGroup"].dtype == np.int64
    assert blocks["optics"]["rlnVoltage"].tolist() == ["300.000000"]
    assert blocks["particles"]["rlnCoordinateX"].tolist() == [12.5, -3.25]
    assert blocks["particles"]["rlnImageName"][0] == "000001@Extract/job1/mic's#1.mrcs"
    assert blocks["particles"]["rlnOddZernike"].tolist() == ["[0.1,0,-2e-05]", "[1,2,3]"]
    assert {k: v.tolist() for k, v in blocks["general"].items()} == {
        "rlnFinalResolution": ["3.25"],
        "rlnName": ["job012"],
    }


@pytest.mark.parametrize("newline", ["\r\n", "\r"])
def test_line_ends_of_other_systems(tmp_path: Path, newline: str) -> None:
    path = tmp_path / "r.star"
    path.write_bytes(RELION.replace("\n", newline).encode())
    plain = tmp_path / "p.star"
    plain.write_text(RELION)
    for name, block in read_star(path).items():
        assert {k: v.tolist() for k, v in block.items()} == {k: v.tolist() for k, v in read_star(plain)[name].items()}


def test_quotes_text_fields_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "q.star"
    path.write_text(
        "data_a # first\nloop_\n_x\n_y # a comment\n"
        "'two words' 1 # after values\n\"it's\" 2\n# between\nplain 3\n;a text\nfield\n;\n4\n"
        "data_b\n_name 'with spaces'\n_next\nvalue\n"
    )
    blocks = read_star(path, {"y": "int"})
    assert blocks["a"]["x"].tolist() == ["two words", "it's", "plain", "a text\nfield"]
    assert blocks["a"]["y"].tolist() == [1, 2, 3, 4]
    assert (blocks["b"]["name"][0], blocks["b"]["next"][0]) == ("with spaces", "value")


def test_numbers_as_people_write_them(tmp_path: Path) -> None:
    path = tmp_path / "n.star"
    path.write_text("data_\nloop_\n_f\n_i\nnan 1.000\ninf 2\n-1e-3 +3\n.5 4e0\n")
    block = read_star(path, {"f": "float", "i": "int"})[""]
    np.testing.assert_array_equal(block["f"], [np.nan, np.inf, -0.001, 0.5])
    assert block["i"].tolist() == [1, 2, 3, 4]


def test_empty_loop_and_empty_block(tmp_path: Path) -> None:
    path = tmp_path / "e.star"
    path.write_text("data_a\n\nloop_\n_x #1\n_y #2\n\n\ndata_b\n")
    blocks = read_star(path, {"x": "float"})
    assert blocks["a"].n_rows == 0
    assert blocks["a"]["x"].dtype == np.float64
    assert len(blocks["b"]) == 0
    write_star(tmp_path / "f.star", blocks)
    again = read_star(tmp_path / "f.star", {"x": "float"})
    assert list(again["a"]) == ["x", "y"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    floats=st.lists(st.floats(allow_nan=False), min_size=1, max_size=8),
    ints=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=8, max_size=8),
    texts=st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"])),
        min_size=8, max_size=8,
    ),
)  # fmt: skip
def test_nothing_is_lost_in_a_round_trip(tmp_path: Path, floats, ints, texts) -> None:  # type: ignore[no-untyped-def]
    n = len(floats)
    # A text that ends both kinds of quotes cannot be expressed in STAR; the writer says so.
    texts = [t for t in texts if not any(q + s in t + " " for q in "\"'" for s in " \t")][:n]
    texts += ["x"] * (n - len(texts))
    path = tmp_path / "r.star"
    block = StarBlock({"f": np.array(floats), "i": np.array(ints[:n]), "t": np.array(texts, object)})
    write_star(path, {"b": block})
    read = read_star(path, {"f": "float", "i": "int"})["b"]
    assert read["f"].tolist() == floats
    assert read["i"].tolist() == ints[:n]
    assert read["t"].tolist() == texts


def test_floats_next_to_each_other_stay_apart(tmp_path: Path) -> None:
    values = np.nextafter(np.random.default_rng(0).normal(size=2000) * 1e5, np.inf)
    write_star(tmp_path / "f.star", {"b": {"f": values}})
    np.testing.assert_array_equal(read_star(tmp_path / "f.star", {"f": "float"})["b"]["f"], values)


def test_float32_is_written_with_the_digits_that_it_has(tmp_path: Path) -> None:
    write_star(tmp_path / "f.star", {"b": {"f": np.array([0.1, 1.345], np.float32)}})
    assert read_star(tmp_path / "f.star")["b"]["f"].tolist() == ["0.1", "1.345"]


def test_what_is_written_is_cif(tmp_path: Path) -> None:
    path = tmp_path / "w.star"
    write_star(path, {"optics": {"name": ["a b", ""], "n": [1, 2]}, "general": StarBlock.pairs(x=1.5, y="it's")})
    document = gemmi.cif.read(str(path))
    assert [gemmi.cif.as_string(v) for v in document["optics"].find_values("_name")] == ["a b", ""]
    assert document["general"].find_value("_x") == "1.5"


@pytest.mark.parametrize("text", ["a\nb", "\x1b", "both ' and \" end "])
def test_text_that_star_cannot_hold_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(HalfmapError, match="cannot be written"):
        write_star(tmp_path / "w.star", {"a": {"x": [text]}})


def test_columns_of_different_length_are_an_error_and_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(HalfmapError, match="differ in length"):
        write_star(tmp_path / "w.star", {"a": {"x": [1], "y": [1, 2]}})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("hello\n", "data_ block"),
        ("data_a\nloop_\n_x\n_y\n1 2\n3\n", "data_a, row 2"),
        ("data_a\nloop_\n_x\n_y\n1 2\n3 4 5\n", "data_a"),
        ("data_a\nloop_\n_x\n_y\n1 2 3\n", "data_a"),
        ("data_a\nloop_\n_x\n_y\n1\n", "data_a"),
        ("data_a\nloop_\n_n\n1\ntwo\n", "data_a, _n, row 2"),
        ("data_a\nloop_\n_i\n1\n2.5\n", "data_a, _i, row 2"),
        ("data_a\nloop_\n_x\n_x\n1 2\n", "data_a"),
        ("data_a\n_x 1\n_x 2\n", "data_a, _x"),
        ("data_a\nloop_\n1 2\n", "data_a"),
        ("data_a\nloop_\n_x\n1\nloop_\n_y\n2\n", "data_a"),
        ("data_a\n_x 1\nloop_\n_y\n2\n", "data_a"),
        ("data_a\nloop_\n_x\n_y\n'a b' 2\n'c 4\n", "data_a, line 6 of the block"),
        ("data_a\n_x\n", "data_a"),
        ("data_a\n_x 1\ndata_a\n_x 2\n", "data_a"),
        ("data_a\0\n_x 1\n", "content"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, field: str) -> None:
    path = tmp_path / "b.star"
    path.write_text(content)
    with pytest.raises(BadInputError) as caught:
        read_star(path, {"n": "float", "i": "int"})
    assert caught.value.field == field


def test_truncated_at_every_length(tmp_path: Path, assert_only_bad_input) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "t.star"
    outcomes = []
    for length in range(0, len(RELION), 3):
        path.write_text(RELION[:length])
        outcomes.append(assert_only_bad_input(lambda: read_star(path, {"rlnCoordinateX": "float"}), path))
    assert not any(outcomes[: RELION.index("data_") // 3])
    assert any(outcomes)


def test_names_that_are_not_utf8_come_out_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "l.star"
    path.write_bytes(b"data_a\nloop_\n_x\nmic_\xe9.mrc\n")
    write_star(tmp_path / "m.star", read_star(path))
    assert b"mic_\xe9.mrc" in (tmp_path / "m.star").read_bytes()
