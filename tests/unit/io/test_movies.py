import gzip
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.gain import read_gain
from halfmap.io.movies import open_movie, write_movie
from halfmap.io.mrc import write_image, write_stack
from halfmap.io.tiff import write_tiff_movie

RNG = np.random.default_rng(11)
FRAMES = RNG.poisson(1.0, (4, 24, 37)).astype(np.uint8)


@pytest.mark.parametrize("name", ["m.tif", "m.tiff", "m.mrc", "m.mrcs"])
def test_counts_survive_in_every_format(tmp_path: Path, name: str) -> None:
    write_movie(tmp_path / name, FRAMES, 1.0825)
    movie = open_movie(tmp_path / name)
    assert (movie.n_frames, movie.shape, movie.pixel_size_A, movie.dropped_frames) == (4, (24, 37), 1.0825, 0)
    for frame, expected in zip(movie.frames(), FRAMES, strict=True):
        np.testing.assert_array_equal(frame, expected)
    with pytest.raises(BadInputError, match="frame is 5, expected from 1 to 4"):
        movie.frame(4)


def test_compressed_mrc_movie(tmp_path: Path) -> None:
    write_movie(tmp_path / "m.mrc", FRAMES, 1.0)
    (tmp_path / "m.mrc.gz").write_bytes(gzip.compress((tmp_path / "m.mrc").read_bytes()))
    np.testing.assert_array_equal(np.stack(list(open_movie(tmp_path / "m.mrc.gz"))), FRAMES)


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_tiff_kinds_first_row_at_the_bottom(tmp_path: Path, compression: str | None, dtype: str) -> None:
    tifffile.imwrite(
        tmp_path / "m.tif", FRAMES.astype(dtype), compression=compression, photometric="minisblack", rowsperstrip=5
    )
    movie = open_movie(tmp_path / "m.tif")
    assert movie.frame(0).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(np.stack(list(movie)), FRAMES[:, ::-1].astype(dtype))


def test_dots_on_paper_are_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", FRAMES, photometric="minisblack", resolution=(72, 72), resolutionunit="INCH")
    assert open_movie(tmp_path / "m.tif").pixel_size_A is None


def test_pages_of_different_shape(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "m.tif") as writer:
        writer.write(FRAMES[0], photometric="minisblack", metadata=None)
        writer.write(FRAMES[0][:-1], photometric="minisblack", metadata=None)
    with pytest.raises(BadInputError, match=r"shapes of the pages is \[\(23, 37\), \(24, 37\)\]"):
        open_movie(tmp_path / "m.tif")


def test_colour_pictures_are_no_movies(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    with pytest.raises(BadInputError, match="one shape of rows and columns"):
        open_movie(tmp_path / "m.tif")


def test_truncated_tiff_never_gives_fewer_frames_than_were_written(tmp_path: Path, assert_only_bad_input) -> None:  # type: ignore[no-untyped-def]
    write_tiff_movie(tmp_path / "whole.tif", FRAMES, 1.0)
    whole = (tmp_path / "whole.tif").read_bytes()
    path = tmp_path / "m.tif"
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])

        def read_all() -> None:
            np.testing.assert_array_equal(np.stack(list(open_movie(path))), FRAMES)

        assert_only_bad_input(read_all, path)
    path.write_bytes(whole)
    assert assert_only_bad_input(read_all, path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=10))
def test_damaged_tiff(tmp_path: Path, assert_only_bad_input, changes) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "d.tif"
    write_tiff_movie(path, FRAMES[:2, :8, :9], 1.0)
    raw = bytearray(path.read_bytes())
    for where, value in changes:
        raw[int(where * len(raw))] = value
    path.write_bytes(raw)
    assert_only_bad_input(lambda: list(open_movie(path)), path)
    assert path.exists()


@pytest.mark.parametrize(("name", "content"), [("m.png", b"x"), ("m.tif.gz", b"x"), ("m", b"x")])
def test_unknown_suffix(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=r"suffix is .*, expected one of \.mrc, "):
        open_movie(tmp_path / name)


def test_complex_stack_is_no_movie(tmp_path: Path) -> None:
    write_stack(tmp_path / "m.mrc", FRAMES.astype(np.complex64), 1.0)
    with pytest.raises(BadInputError, match="complex"):
        open_movie(tmp_path / "m.mrc")


@pytest.mark.parametrize("name", ["m.tif", "m.mrc", "m.eer", "m.png"])
def test_nothing_to_write(tmp_path: Path, name: str) -> None:
    with pytest.raises(HalfmapError, match=r"no frames|movies are written"):
        write_movie(tmp_path / name, [], 1.0)
    assert list(tmp_path.iterdir()) == []


def test_counts_above_127_do_not_wrap_in_mrc(tmp_path: Path) -> None:
    with pytest.raises(HalfmapError, match="do not fit int8"):
        write_movie(tmp_path / "m.mrc", np.full((1, 3, 3), 200, np.uint8), 1.0)


class TestGain:
    GAIN = RNG.uniform(0.8, 1.2, (24, 37)).astype(np.float32)

    def test_mrc_and_tiff_give_the_same_for_movies_of_either_format(self, tmp_path: Path) -> None:
        write_image(tmp_path / "g.mrc", self.GAIN, 1.0)
        write_tiff_movie(tmp_path / "g.tif", [self.GAIN], 1.0)
        write_movie(tmp_path / "m.tif", FRAMES, 1.0)
        movie = open_movie(tmp_path / "m.tif")
        np.testing.assert_array_equal(read_gain(tmp_path / "g.mrc", movie), self.GAIN)
        np.testing.assert_array_equal(read_gain(tmp_path / "g.tif", movie), self.GAIN)

    def test_eer_rules(self, tmp_path: Path) -> None:
        write_movie(tmp_path / "m.eer", np.minimum(FRAMES, 1), 1.0)
        movie = open_movie(tmp_path / "m.eer", eer_frames_per_fraction=2)
        gain = self.GAIN.copy()
        gain[3, 4] = 0
        write_image(tmp_path / "g.mrc", gain, 1.0)
        tifffile.imwrite(tmp_path / "g.gain", gain)
        inverse = read_gain(tmp_path / "g.mrc", movie)
        assert inverse[3, 4] == 0
        np.testing.assert_allclose(inverse[gain > 0] * gain[gain > 0], 1, rtol=1e-6)
        np.testing.assert_array_equal(read_gain(tmp_path / "g.gain", movie), gain)
        fine = read_gain(
            tmp_path / "g.gain", open_movie(tmp_path / "m.eer", eer_frames_per_fraction=2, eer_upsampling=2)
        )
        assert fine.shape == (48, 74)
        np.testing.assert_array_equal(fine[::2, 1::2], gain)

    def test_defects_become_zero(self, tmp_path: Path) -> None:
        gain = self.GAIN.copy()
        gain[0, 0], gain[1, 1], gain[2, 2] = np.nan, -1, np.inf
        write_image(tmp_path / "g.mrc", gain, 1.0)
        read = read_gain(tmp_path / "g.mrc")
        assert [read[i, i] for i in range(3)] == [0, 0, 0]
        assert (read > 0).sum() == gain.size - 3

    def test_constant_gain_is_allowed_and_an_empty_one_not(self, tmp_path: Path) -> None:
        write_image(tmp_path / "g.mrc", np.ones((4, 5), np.float32), 1.0)
        assert (read_gain(tmp_path / "g.mrc") == 1).all()
        write_image(tmp_path / "z.mrc", np.zeros((4, 5), np.float32), 1.0)
        with pytest.raises(BadInputError, match="nowhere positive"):
            read_gain(tmp_path / "z.mrc")
        write_stack(tmp_path / "s.mrc", np.ones((2, 4, 5), np.float32), 1.0)
        with pytest.raises(BadInputError, match=r"sections\) is 2"):
            read_gain(tmp_path / "s.mrc")
