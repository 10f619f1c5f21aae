import pickle
from pathlib import Path

import numpy as np
import pytest

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import write_stack
from halfmap.io.paths import resolve_path, split_image_name

RNG = np.random.default_rng(3)
A, B = (RNG.normal(size=(4, 6, 6)).astype(np.float32) for _ in range(2))


def particles(names: list[str], pixel_size_A: float = 1.5) -> ImageSet:
    return ImageSet(
        "particles",
        Table({"image_name": names, "optics_group": [1] * len(names)}),
        Table({"optics_group": [1], "image_pixel_size_A": [pixel_size_A]}),
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_stack(tmp_path / "job" / "a.mrcs", A, 1.5)
    write_stack(tmp_path / "job" / "b.mrcs", B.astype(np.float16), 1.5)
    return tmp_path


NAMES = ["2@job/b.mrcs", "000004@job/a.mrcs", "1@job/a.mrcs", "1@job/b.mrcs", "4@job/a.mrcs"]
EXPECTED = [B[1], A[3], A[0], B[0], A[3]]


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2], [1, 1, 0, 4, 1]])
def test_any_order_and_mix_of_stacks(folder: Path, order: list[int]) -> None:
    images = ParticleImages(particles(NAMES), folder)
    read = images.read(order)
    assert read.dtype == np.float32
    for image, i in zip(read, order, strict=True):
        np.testing.assert_allclose(image, EXPECTED[i], atol=2e-3 if "b.mrcs" in NAMES[i] else 0)
    assert (len(images), images.shape(0)) == (5, (6, 6))


def test_found_from_the_star_file_and_in_another_process(folder: Path) -> None:
    images = ParticleImages(particles(NAMES), folder / "job" / "particles.star")
    images.read([0])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images)).read([2])[0], A[0])


def test_more_stacks_than_are_kept_open(tmp_path: Path) -> None:
    for i in range(140):
        write_stack(tmp_path / f"{i}.mrcs", np.arange(i, i + 4, dtype=np.float32).reshape(1, 2, 2), 1.5)
    images = ParticleImages(particles([f"1@{i}.mrcs" for i in range(140)]), tmp_path)
    np.testing.assert_array_equal(images.read(np.arange(140))[:, 0, 0], np.arange(140))
    assert images.read([0])[0, 0, 0] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("5@job/a.mrcs", "a.mrcs: section is 5, expected from 1 to 4"),
        ("0@job/a.mrcs", "rlnImageName is '0@job/a.mrcs'"),
        ("x@job/a.mrcs", "NUMBER@stack"),
        ("1@job/c.mrcs", r"the file name job/c.mrcs is not there \(looked in "),
        ("3@job/bad.mrcs", r"image 3 is not finite"),
        ("1@job/bad.mrcs", r"image 1 is constant"),
    ],
)
def test_errors_name_stack_and_number(folder: Path, name: str, message: str) -> None:
    bad = A.copy()
    bad[0], bad[2, 1, 1] = 7.0, np.nan
    write_stack(folder / "job" / "bad.mrcs", bad, 1.5)
    with pytest.raises(BadInputError, match=message):
        ParticleImages(particles([name]), folder).read([0])


def test_pixel_size_of_the_stack_has_to_agree(folder: Path) -> None:
    with pytest.raises(BadInputError, match=r"a\.mrcs: pixel size .*ratio 1\.07143"):
        ParticleImages(particles(["1@job/a.mrcs"], 1.4), folder).read([0])


def test_different_boxes_are_not_mixed(folder: Path) -> None:
    write_stack(folder / "c.mrcs", np.ones((1, 4, 4)) * np.arange(4), 1.5)
    images = ParticleImages(particles(["1@job/a.mrcs", "1@c.mrcs"]), folder)
    assert images.shape(1) == (4, 4)
    with pytest.raises(HalfmapError, match="one optics group at a time"):
        images.read([0, 1])


def test_names_are_found_above_the_star_file_but_never_guessed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    star = folder / "job" / "sub" / "p.star"
    star.parent.mkdir()
    assert resolve_path("job/a.mrcs", star) == folder / "job" / "a.mrcs"
    assert resolve_path(str(folder / "job" / "a.mrcs"), star) == folder / "job" / "a.mrcs"
    monkeypatch.chdir(folder / "job")
    assert resolve_path("a.mrcs", star).samefile(folder / "job" / "a.mrcs")
    write_stack(star.parent / "a.mrcs", A, 1.0)
    with pytest.raises(BadInputError, match="ambiguous"):
        resolve_path("a.mrcs", star)
    with pytest.raises(BadInputError, match="not there"):
        resolve_path(str(folder / "absent.mrcs"), star)


def test_split_names() -> None:
    assert split_image_name("12@ab.mrcs", "p.star") == (11, "ab.mrcs")
    assert split_image_name("a.mrc", "p.star") == (0, "a.mrc")
