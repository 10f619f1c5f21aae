"""Worker processes: fresh, single-threaded, dying with their items and with their parent."""

import os
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from toy_step import one_item, process_of

from halfmap.exec.local import InlineExecutor, LocalPool, one_thread_in_children


@pytest.fixture
def work(tmp_path):
    return partial(one_item, folder=str(tmp_path), length=4, pause=0.0, seed=1)


@pytest.fixture
def pool():
    with closing(LocalPool()) as made:
        yield made


def test_workers_live_from_one_set_of_items_to_the_next(tmp_path, pool):
    first = {outcome.value["pid"] for outcome in pool(4, 2, "cpu").run(process_of, [0.05] * 4)}
    second = {outcome.value["pid"] for outcome in pool(4, 2, "cpu").run(partial(process_of, more=1), [0.05] * 4)}
    assert first == second
    assert len(first) == 2
    assert os.getpid() not in first


def test_unfinished_items_are_dropped_when_nobody_waits_for_them(pool):
    outcomes = pool(2, 2, "cpu").run(process_of, [0.0, 60.0])
    assert next(outcomes).value["pid"] > 0
    began = time.monotonic()
    outcomes.close()
    assert time.monotonic() - began < 5


def write(tmp_path, *contents):
    paths = [tmp_path / f"t{index}.txt" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_text(content)
    return [str(path) for path in paths]


def test_processes_give_what_this_process_gives(tmp_path, work, pool):
    items = write(tmp_path, "a", "b", "bad", "bug", "e")
    here = {outcome.index: outcome for outcome in InlineExecutor().run(work, items)}
    there = {outcome.index: outcome for outcome in pool(2, 2, "cpu").run(work, items)}
    assert sorted(there) == list(range(5))
    for index in range(5):
        assert (there[index].value, there[index].error, there[index].remedy) == (
            here[index].value, here[index].error, here[index].remedy,
        )  # fmt: skip
    assert here[3].details
    lines = (tmp_path / "trace.txt").read_text().split("\n")
    assert sum(line.endswith(" 1") for line in lines) >= 3


def test_death_of_a_worker_costs_its_item_only(tmp_path, work, pool):
    items = write(tmp_path, "a", "die", "c", "d")
    outcomes = {outcome.index: outcome for outcome in pool(2, 2, "cpu").run(work, items)}
    assert [index for index in sorted(outcomes) if outcomes[index].value is None] == [1]
    assert "died twice (signal 9)" in outcomes[1].error
    assert "memory" in outcomes[1].remedy


def test_work_that_cannot_be_unpickled_is_an_error_of_the_items(tmp_path, pool):
    (tmp_path / "gone.py").write_text("def work(item):\n    return {}\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import gone
    finally:
        sys.path.remove(str(tmp_path))
    outcomes = list(pool(2, 2, "cpu").run(gone.work, [1, 2]))
    assert all("No module named 'gone'" in outcome.error for outcome in outcomes)
    assert len(outcomes) == 2


def test_environment_of_children_does_not_stay(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    with one_thread_in_children():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
        assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"
    assert os.environ["OMP_NUM_THREADS"] == "5"
    assert "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize(
    ("items", "threads", "device", "processes"),
    [(1, 8, "cpu", 1), (9, 1, "cpu", 1), (9, 4, "cpu", 4), (3, 8, "cpu", 3), (9, 8, "cuda", 3)],
)
def test_number_of_processes(items, threads, device, processes):
    executor = LocalPool()(items, threads, device)
    assert getattr(executor, "processes", 1) == processes


ORPHANS = """
import sys, time
sys.path.insert(0, {toys!r})
from contextlib import closing
from functools import partial
from toy_step import one_item, process_of
from halfmap.exec.local import LocalPool
if __name__ == "__main__":
    work = partial(one_item, folder={folder!r}, length=1, pause=0.6, seed=0)
    for outcome in LocalPool()(2, 2, "cpu").run(work, {items!r}):
        print(outcome.index, flush=True)
"""


def test_workers_die_with_their_parent(tmp_path):
    items = write(tmp_path, *"abcdefgh")
    toys = str(Path(__file__).resolve().parents[2] / "toys")
    script = tmp_path / "parent.py"
    script.write_text(ORPHANS.format(toys=toys, folder=str(tmp_path), items=items))
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE)
    parent.stdout.readline()
    parent.kill()
    parent.communicate()
    time.sleep(0.2)
    done = (tmp_path / "trace.txt").read_text()
    time.sleep(1.0)
    assert (tmp_path / "trace.txt").read_text() == done
