from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.eer import decode_frame, write_eer
from halfmap.io.movies import open_movie

RNG = np.random.default_rng(5)
SHAPE = (40, 64)
ELECTRONS = (RNG.random((23, *SHAPE)) < 0.05).astype(np.uint8)
PLACES = RNG.integers(0, 16, ELECTRONS.shape).astype(np.uint8)


@pytest.fixture
def movie_file(tmp_path: Path) -> Path:
    write_eer(tmp_path / "m.eer", ELECTRONS, dose_total_e_per_px=46.0, subpixels=PLACES)
    return tmp_path / "m.eer"


def rendered(up: int) -> np.ndarray:
    """Every electron put down one by one, on the finest grid, then binned."""
    fine = np.zeros((SHAPE[0] * 4, SHAPE[1] * 4), int)
    for frame, y, x in zip(*np.nonzero(ELECTRONS), strict=True):
        place = int(PLACES[frame, y, x])
        fine[4 * y + (place >> 2), 4 * x + (place & 3)] += 1
    bin_ = 4 // up
    return fine.reshape(SHAPE[0] * up, bin_, SHAPE[1] * up, bin_).sum((1, 3))


@pytest.mark.parametrize("up", [1, 2, 4])
def test_electrons_where_they_were_recorded(movie_file: Path, up: int) -> None:
    movie = open_movie(movie_file, eer_frames_per_fraction=23, eer_upsampling=up)
    assert (movie.n_frames, movie.shape) == (1, (SHAPE[0] * up, SHAPE[1] * up))
    np.testing.assert_array_equal(movie.frame(0), rendered(up))


def test_other_decoders_read_what_is_written_and_agree(movie_file: Path) -> None:
    """imagecodecs refuses streams whose padding looks like an electron; the others it reads as we do."""
    with tifffile.TiffFile(movie_file) as tif:
        assert tif.is_eer
        agreed = 0
        for page, electrons in zip(tif.pages, ELECTRONS, strict=True):
            tif.filehandle.seek(page.dataoffsets[0])
            code = tif.filehandle.read(page.databytecounts[0])
            try:
                decoded = imagecodecs.eer_decode(code, SHAPE, 7, 2, 2)
            except RuntimeError:
                continue
            np.testing.assert_array_equal(decoded, electrons)
            agreed += 1
    assert agreed >= 5


@pytest.mark.parametrize(
    "electrons",
    [[], [0], [127], [126, 127, 128], [254, 381], [SHAPE[0] * SHAPE[1] - 1], list(range(SHAPE[0] * SHAPE[1]))],
)
def test_runs_at_the_borders_of_the_code(tmp_path: Path, electrons: list[int]) -> None:
    frame = np.zeros(SHAPE, np.uint8)
    frame.reshape(-1)[electrons] = 1
    write_eer(tmp_path / "m.eer", [frame])
    np.testing.assert_array_equal(open_movie(tmp_path / "m.eer", eer_frames_per_fraction=1).frame(0), frame)


@pytest.mark.parametrize(("skip_bits", "x_bits", "y_bits"), [(8, 2, 2), (7, 2, 2), (5, 1, 1), (7, 0, 0), (9, 3, 2)])
def test_codes_of_other_widths(skip_bits: int, x_bits: int, y_bits: int) -> None:
    """Bits written one by one, lowest first, for frames of 8-bit and tagged compression."""
    bits: list[int] = []

    def put(value: int, width: int) -> None:
        bits.extend((value >> i) & 1 for i in range(width))

    frame = (RNG.random(SHAPE) < 0.004).astype(np.uint16)
    largest = 2**skip_bits - 1
    position = 0
    for place in [*np.flatnonzero(frame).tolist(), frame.size]:
        skip = place - position
        for _ in range(skip // largest):
            put(largest, skip_bits)
        put(skip % largest, skip_bits)
        if place < frame.size:
            put(int(RNG.integers(2 ** (x_bits + y_bits))), x_bits + y_bits)
        position = place + 1
    code = np.packbits(np.array(bits, np.uint8), bitorder="little")
    counts = np.zeros(SHAPE, np.uint16)
    assert decode_frame(code, *SHAPE, skip_bits, x_bits, y_bits, 0, counts) == frame.size
    np.testing.assert_array_equal(counts, frame)


def test_grouped_by_dose_and_says_what_it_drops(movie_file: Path) -> None:
    movie = open_movie(movie_file, dose_per_frame=1.0, dose_total=4.6)
    assert (movie.n_frames, movie.dropped_frames) == (4, 3)
    assert movie.dose_per_frame_e_per_A2 == pytest.approx(1.0)
    assert movie.message == (
        "23 camera frames grouped into 4 fractions of 5 (1 e/Å² each); 3 camera frames at the end are dropped"
    )
    for i in range(4):
        np.testing.assert_array_equal(movie.frame(i), ELECTRONS[5 * i : 5 * i + 5].sum(0))


def test_total_dose_of_the_metadata_needs_the_pixel_size(movie_file: Path) -> None:
    movie = open_movie(movie_file, dose_per_frame=5.0, pixel_size_A=2.0)
    assert (movie.n_frames, movie.dropped_frames, movie.dose_per_frame_e_per_A2) == (2, 3, 5.0)
    with pytest.raises(BadInputError, match="grouping of camera frames is unknown"):
        open_movie(movie_file, dose_per_frame=5.0)


def test_dose_per_frame_above_the_total(movie_file: Path) -> None:
    with pytest.raises(BadInputError, match="at least 50, one fraction"):
        open_movie(movie_file, dose_per_frame=10.0, dose_total=4.6)


def test_upsampling_that_the_code_does_not_hold(movie_file: Path) -> None:
    with pytest.raises(HalfmapError, match="not 3"):
        open_movie(movie_file, eer_frames_per_fraction=1, eer_upsampling=3)


def test_two_electrons_in_a_pixel_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(HalfmapError, match="0 or 1 electron"):
        write_eer(tmp_path / "m.eer", [np.full(SHAPE, 2)])
    assert list(tmp_path.iterdir()) == []


def test_truncated_at_many_lengths(movie_file: Path, assert_only_bad_input) -> None:  # type: ignore[no-untyped-def]
    whole = movie_file.read_bytes()
    for length in range(0, len(whole), 199):
        movie_file.write_bytes(whole[:length])
        ok = assert_only_bad_input(lambda: list(open_movie(movie_file, eer_frames_per_fraction=1)), movie_file)
        assert not ok


def test_a_stream_that_ends_early_is_damage_not_darkness(movie_file: Path) -> None:
    movie = open_movie(movie_file, eer_frames_per_fraction=1)
    with tifffile.TiffFile(movie_file) as tif:
        offset, count = tif.pages[2].dataoffsets[0], tif.pages[2].databytecounts[0]
    raw = bytearray(movie_file.read_bytes())
    raw[offset + 5 : offset + count] = bytes(count - 5)
    movie_file.write_bytes(raw)
    movie = open_movie(movie_file, eer_frames_per_fraction=1)
    assert movie.frame(1).sum() == ELECTRONS[1].sum()
    with pytest.raises(BadInputError, match=r"camera frame 3 is \d+ pixels"):
        movie.frame(2)


def test_plain_tiff_named_eer(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.eer", ELECTRONS, photometric="minisblack")
    with pytest.raises(BadInputError, match="compression is 1"):
        open_movie(tmp_path / "m.eer", eer_frames_per_fraction=1)
