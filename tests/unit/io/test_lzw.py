from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from halfmap.io.lzw import ALPHABET, SPARE_BYTES, decode_strips
from halfmap.io.movies import open_movie

RNG = np.random.default_rng(3)
PICTURES = {
    "counts": RNG.poisson(1.5, (120, 700)).astype(np.uint8),
    "noise": RNG.integers(0, 256, (120, 700)).astype(np.uint8),
    "one value": np.full((120, 700), 7, np.uint8),
    "a pattern": np.tile(np.array([1, 1, 2], np.uint8), 28000).reshape(120, 700),
}


def decoded(strips: list[bytes], strip_bytes: int, total: int) -> tuple[bool, np.ndarray]:
    counts = np.array([len(strip) for strip in strips])
    out = np.zeros(ALPHABET + total + SPARE_BYTES, np.uint8)
    data = np.frombuffer(b"".join(strips) + bytes(SPARE_BYTES), np.uint8)
    good = decode_strips(data, np.cumsum(counts) - counts, counts, strip_bytes, out)
    return good, out[ALPHABET:-SPARE_BYTES]


@pytest.mark.parametrize("name", PICTURES)
def test_strips_are_what_imagecodecs_packed(name: str) -> None:
    picture = PICTURES[name]
    strips = [imagecodecs.lzw_encode(picture[first : first + 50].tobytes()) for first in (0, 50, 100)]
    good, pixels = decoded(strips, 50 * 700, picture.size)
    assert good
    np.testing.assert_array_equal(pixels.reshape(picture.shape), picture)


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_movies_are_what_tifffile_reads(tmp_path: Path, dtype: str, byteorder: str) -> None:
    picture = RNG.poisson(3.0, (3, 60, 71)).astype(dtype)
    options = {"compression": "lzw", "photometric": "minisblack", "rowsperstrip": 7, "byteorder": byteorder}
    tifffile.imwrite(tmp_path / "a.tif", picture, **options)
    tifffile.imwrite(tmp_path / "b.tif", picture, predictor=dtype != "float32", **options)
    for name in ("a.tif", "b.tif"):
        frames = np.stack(list(open_movie(tmp_path / name)))
        assert frames.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(frames, tifffile.imread(tmp_path / name)[:, ::-1])


def test_damaged_strips_are_refused_or_have_their_size() -> None:
    picture = PICTURES["counts"]
    strip = np.frombuffer(imagecodecs.lzw_encode(picture.tobytes()), np.uint8)
    refused = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        damaged = strip.copy()
        damaged[rng.integers(0, len(strip), 5)] = rng.integers(0, 256, 5)
        refused += not decoded([damaged.tobytes()], picture.size, picture.size)[0]
    assert refused > 20
    assert not decoded([strip[: len(strip) // 2].tobytes()], picture.size, picture.size)[0]
    assert not decoded([strip.tobytes()], picture.size, picture.size + 10)[0]
