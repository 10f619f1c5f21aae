"""Files are taken when they are whole, once, in the order in which they were written; the others are reported."""

import os

import numpy as np
import pytest

from halfmap.io.movies import write_movie
from halfmap.project.watch import Watch, movie_fault


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(tmp_path, clock):
    (tmp_path / "raw").mkdir()
    return Watch(tmp_path / "raw", opens=lambda path: "" if path.read_text().endswith("end") else f"{path}: cut off.",
                 settle_s=10, give_up_s=60, clock=clock, ignored=[tmp_path / "raw" / "gain.mrc"])  # fmt: skip


def put(watch, name, text, mtime=None):
    path = watch.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if mtime is not None:
        os.utime(path, (mtime, mtime))
    return path


def names(files):
    return [getattr(file, "path", file).name for file in files]


def look_after(watch, clock, seconds):
    clock.now += seconds
    return watch.look()


def test_a_file_is_ready_when_it_has_settled_and_opens(watch, clock):
    put(watch, "a.mrc", "all end")
    assert names(watch.look().waiting) == ["a.mrc"]
    assert names(look_after(watch, clock, 9.9).ready) == []
    view = look_after(watch, clock, 0.1)
    assert (names(view.ready), view.waiting) == (["a.mrc"], ())
    watch.take(view.ready)
    view = look_after(watch, clock, 100)
    assert (view.ready, view.waiting, view.incomplete) == ((), (), {})


def test_a_file_that_grows_is_left_alone_until_it_is_whole(watch, clock):
    path = put(watch, "a.tif", "")
    for piece in range(12):
        assert watch.look().ready == ()
        path.write_text("x" * (piece + 1))
        clock.now += 6
    path.write_text("xxxxxxxxxxxxx end")
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["a.tif"]


def test_a_stalled_file_waits_and_is_taken_when_it_goes_on(watch, clock):
    path = put(watch, "a.tif", "half")
    watch.look()
    view = look_after(watch, clock, 30)
    assert (names(view.waiting), view.incomplete) == (["a.tif"], {})
    path.write_text("half and the end")
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["a.tif"]


def test_a_file_that_never_completes_is_reported_and_still_watched(watch, clock):
    path = put(watch, "a.tif", "half")
    empty = put(watch, "b.tif", "")
    watch.look()
    look_after(watch, clock, 11)
    view = look_after(watch, clock, 50)
    assert view.incomplete == {path: f"{path}: cut off.", empty: f"{empty}: it is empty."}
    assert view.waiting == ()
    path.write_text("copied again, end")
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["a.tif"]


def test_a_passing_fault_of_the_disk_is_tried_again(watch, clock):
    put(watch, "a.tif", "all end")
    faults = iter(["stale handle", ""])
    watch.opens = lambda path: next(faults)
    watch.look()
    assert look_after(watch, clock, 10).ready == ()
    assert names(look_after(watch, clock, 50).ready) == ["a.tif"]


def test_order_is_that_of_writing(watch, clock):
    for name, mtime in (("c.mrc", 30), ("a.mrc", 20), ("sub/deep/b.mrc", 10)):
        put(watch, name, "end", mtime)
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["b.mrc", "a.mrc", "c.mrc"]


def test_other_files_are_none_of_its_business(watch, clock):
    for name in ("gain.mrc", "a.xml", ".a.mrc.Xy12", ".hidden/a.mrc", "a.mrc.tmp"):
        put(watch, name, "end")
    watch.look()
    view = look_after(watch, clock, 10)
    assert (view.ready, view.waiting) == ((), ())
    watch.patterns = ("*.xml",)
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["a.xml"]


def test_a_bad_file_that_is_replaced_is_offered_again(watch, clock):
    put(watch, "a.mrc", "end")
    watch.look()
    (file,) = look_after(watch, clock, 10).ready
    watch.take([file])
    watch.look_again([file])
    assert look_after(watch, clock, 20).ready == ()
    put(watch, "a.mrc", "better end")
    watch.look()
    assert names(look_after(watch, clock, 10).ready) == ["a.mrc"]


def test_a_folder_that_is_gone_is_said(watch):
    watch.folder.rmdir()
    assert watch.look().ready == ()
    assert "there is no folder" in watch.fault


@pytest.mark.parametrize("name", ["m.tif", "m.mrc", "m.eer"])
def test_every_cut_movie_has_a_fault_and_the_whole_one_has_none(tmp_path, name):
    path = tmp_path / name
    write_movie(path, np.random.default_rng(0).integers(0, 2, (6, 64, 64)).astype(np.uint8), 1.0)
    whole = path.read_bytes()
    assert movie_fault(path) == ""
    for share in (0.0, 0.1, 0.5, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert movie_fault(path) != "", share


def test_a_single_image_is_no_movie(tmp_path):
    write_movie(tmp_path / "a.mrc", np.zeros((1, 8, 8), np.uint8), 1.0)
    assert "one image" in movie_fault(tmp_path / "a.mrc")
