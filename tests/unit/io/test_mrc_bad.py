"""Every damaged MRC file ends in one error that names the file and the field."""

import bz2
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfmap.data.records import Volume
from halfmap.errors import BadInputError
from halfmap.io.mrc import open_stack, read_image, read_volume, write_image, write_stack, write_volume

DATA = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    write_volume(tmp_path / "v.mrc", Volume(DATA, 1.2))
    return tmp_path / "v.mrc"


def patch(path: Path, offset: int, *values: int | float | bytes) -> Path:
    raw = bytearray(path.read_bytes())
    for i, value in enumerate(values):
        word = value if isinstance(value, bytes) else struct.pack("<i" if isinstance(value, int) else "<f", value)
        raw[offset + 4 * i : offset + 4 * i + 4] = word
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("length", [0, 1, 4, 15, 16, 212, 1023, 1024, 1025, 1100, 1263])
def test_truncated_anywhere(volume: Path, length: int) -> None:
    volume.write_bytes(volume.read_bytes()[:length])
    with pytest.raises(BadInputError, match="bytes") as caught:
        read_volume(volume)
    assert caught.value.field in ("size", "header", "length")


@pytest.mark.parametrize(("suffix", "packer"), [(".gz", gzip.compress), (".bz2", bz2.compress)])
def test_truncated_compressed(volume: Path, suffix: str, packer: object) -> None:
    packed = packer(volume.read_bytes())  # type: ignore[operator]
    path = volume.with_name("v.mrc" + suffix)
    for length in (1, 5, len(packed) // 2, len(packed) - 9):
        path.write_bytes(packed[:length])
        with pytest.raises(BadInputError, match="Copy or write the file again"):
            read_volume(path)
    path.write_bytes(packer(volume.read_bytes()[:1100]))  # type: ignore[operator]
    with pytest.raises(BadInputError, match="section 1 is truncated at 76 bytes"):
        read_volume(path)
    path.write_bytes(b"this is not compressed")
    with pytest.raises(BadInputError, match="header is damaged"):
        read_volume(path)


@pytest.mark.parametrize(
    ("offset", "values", "field"),
    [
        (0, (-5,), "nx"),
        (4, (0,), "ny"),
        (8, (1 << 30,), "nz"),
        (12, (7,), "mode"),
        (12, (-1,), "mode"),
        (92, (-4,), "nsymbt"),
        (64, (1, 1, 3), "mapc, mapr, maps"),
        (64, (4, 2, 3), "mapc, mapr, maps"),
        (40, (6.0, 8.0, 3.6), "pixel size"),
        (48, (9.0,), "pixel size"),
        (40, (0.0, 0.0, 0.0), "pixel size"),
        (40, (float("nan"),), "cella.x"),
        (44, (float("inf"),), "cella.y"),
        (196, (float("nan"),), "origin"),
        (212, (b"\x11\x11\x00\x00",), "machst (byte order)"),
        (8, (2,), "length"),
    ],
)
def test_nonsense_in_one_field(volume: Path, offset: int, values: tuple[int | float | bytes, ...], field: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read_volume(patch(volume, offset, *values))
    assert caught.value.field == field
    assert str(volume) in str(caught.value)


def test_pixel_size_error_shows_the_ratio(volume: Path) -> None:
    with pytest.raises(BadInputError, match=r"ratio 0\.60000"):
        read_volume(patch(volume, 40, 3.6, 4.8))


def test_wrong_endianness_is_told_from_the_numbers(volume: Path) -> None:
    raw = np.frombuffer(volume.read_bytes(), "<i4").astype(">i4").tobytes()
    volume.write_bytes(raw[:208] + b"MAP DD\0\0" + raw[216:])
    with pytest.raises(BadInputError, match=r"machst \(byte order\) is little-endian"):
        read_volume(volume)


def test_wrong_dimensions(tmp_path: Path, volume: Path) -> None:
    write_image(tmp_path / "i.mrc", DATA[0], 1.0)
    with pytest.raises(BadInputError, match=r"sections\) is 1, expected a volume"):
        read_volume(tmp_path / "i.mrc")
    with pytest.raises(BadInputError, match=r"sections\) is 3, expected 1"):
        read_image(volume)


@pytest.mark.parametrize(
    ("value", "message"), [(0.0, "constant"), (np.nan, "not finite"), (np.inf, "not finite in 1 of")]
)
def test_constant_and_not_finite(tmp_path: Path, value: float, message: str) -> None:
    data = DATA.copy()
    if value == 0:
        data[:] = 0
    else:
        data[0, 1, 2] = value
    write_volume(tmp_path / "v.mrc", Volume(data, 1.0))
    write_image(tmp_path / "i.mrc", data[0], 1.0)
    with pytest.raises(BadInputError, match=message):
        read_volume(tmp_path / "v.mrc")
    with pytest.raises(BadInputError, match=message):
        read_image(tmp_path / "i.mrc")


def test_absent_folder_text_and_sections_that_are_not_there(tmp_path: Path, volume: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        read_volume(tmp_path / "absent.mrc")
    with pytest.raises(BadInputError, match="a folder"):
        read_volume(tmp_path)
    (tmp_path / "text.mrc").write_text("data_\nloop_\n" * 200)
    with pytest.raises(BadInputError, match="neither little- nor big-endian"):
        read_volume(tmp_path / "text.mrc")
    with pytest.raises(BadInputError, match="section is 4, expected from 1 to 3"):
        open_stack(volume)[3]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), min_size=1, max_size=12),
    length=st.one_of(st.none(), st.integers(0, 1400)),
)
def test_any_bytes_changed(tmp_path: Path, assert_only_bad_input, changes, length) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "fuzz.mrc"
    write_stack(path, DATA, 1.2)
    raw = bytearray(path.read_bytes())
    for offset, value in changes:
        raw[offset] = value
    path.write_bytes(raw[:length])
    for reader in (read_volume, read_image, lambda p: open_stack(p).read([0, 2])):
        assert_only_bad_input(lambda reader=reader: reader(path), path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=0, max_size=2000))
def test_any_bytes_at_all(tmp_path: Path, assert_only_bad_input, content) -> None:  # type: ignore[no-untyped-def]
    for name in ("junk.mrc", "junk.mrc.gz", "junk.mrc.bz2"):
        path = tmp_path / name
        path.write_bytes(content)
        assert_only_bad_input(lambda path=path: read_volume(path), path)
    assert path.exists()
