"""The parts of a job: states, hashes, lock, checkpoints, items, declared options, registry."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halfmap.errors import BadInputError, HalfmapError
from halfmap.jobs import environment, registry
from halfmap.jobs.atomic import atomic_path
from halfmap.jobs.checkpoint import load_checkpoint, save_checkpoint
from halfmap.jobs.declared import BadOptionError, check_given, validated
from halfmap.jobs.hashing import FULL_BYTES, canonical_json, content_hash
from halfmap.jobs.items import load_item, save_item
from halfmap.jobs.lock import LockedError, folder_lock, is_locked
from halfmap.jobs.record import FileRecord, JobRecord, job_key
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.state import TRANSITIONS, advance, observed
from halfmap.options import Options, option

STATES = ["queued", "running", "interrupted", "failed", "finished"]
EVENTS = ["start", "interrupt", "fail", "finish"]


@given(st.lists(st.sampled_from(EVENTS), max_size=20))
def test_state_machine_keeps_its_promises(events):
    state = "queued"
    for event in events:
        before = state
        if (state, event) not in TRANSITIONS:
            with pytest.raises(HalfmapError, match=f"a job that is {state} cannot {event}"):
                advance(state, event)
            continue
        state = advance(state, event)
        assert state in STATES
        assert before != "finished"
        assert state != "finished" or before == "running"


def test_running_without_an_owner_was_interrupted():
    assert [observed(state, locked=False) for state in STATES] == ["queued", "interrupted", *STATES[2:]]
    assert [observed(state, locked=True) for state in STATES] == STATES


def test_small_files_are_hashed_whole(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    assert content_hash(path) == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("place", [0, FULL_BYTES, -1])
def test_big_files_are_sampled_at_both_ends_too(tmp_path, place):
    data = np.zeros(2 * FULL_BYTES, np.uint8)
    (tmp_path / "a").write_bytes(data.tobytes())
    before = content_hash(tmp_path / "a")
    os.utime(tmp_path / "a", (1, 1))
    assert content_hash(tmp_path / "a") == before
    assert before.startswith("sampled-sha256:")
    if place != FULL_BYTES:
        data[place] = 1
    else:
        data = np.append(data, np.uint8(0))
    (tmp_path / "a").write_bytes(data.tobytes())
    assert content_hash(tmp_path / "a") != before


@given(st.dictionaries(st.text(max_size=3), st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))))
def test_canonical_json_does_not_depend_on_order(values):
    backwards = dict(reversed(values.items()))
    assert canonical_json(values) == canonical_json(backwards)
    assert json.loads(canonical_json(values)) == values


def record_of(port, content):
    return FileRecord(port=port, path=f"/x/{content}", size=1, mtime_ns=1, hash=content)


def test_key_depends_on_contents_and_not_on_places():
    key = job_key("toy", 1, {"a": 1, "mask": "/here"}, (record_of("mask", "h"),), 0)
    moved = FileRecord(port="mask", path="/there", size=1, mtime_ns=9, hash="h")
    assert job_key("toy", 1, {"a": 1, "mask": "/there"}, (moved,), 0) == key
    assert job_key("toy", 2, {"a": 1, "mask": "/here"}, (record_of("mask", "h"),), 0) != key
    assert job_key("toy", 1, {"a": 2, "mask": "/here"}, (record_of("mask", "h"),), 0) != key
    assert job_key("toy", 1, {"a": 1, "mask": "/here"}, (record_of("mask", "i"),), 0) != key
    assert job_key("toy", 1, {"a": 1, "mask": "/here"}, (record_of("mask", "h"),), 1) != key


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "[]", '{"step": 3}'])
def test_damaged_record(tmp_path, text):
    (tmp_path / "job.json").write_text(text)
    with pytest.raises(BadInputError, match=r"job\.json.*as halfmap writes it"):
        JobRecord.load(tmp_path)


def test_lock_names_its_owner_and_ends_with_it(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom halfmap.jobs.lock import folder_lock\n"
        "with folder_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    owner = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"held\n"
    assert is_locked(tmp_path)
    with (
        pytest.raises(LockedError, match=f"in use by process {owner.pid} of .*Wait until it ends"),
        folder_lock(tmp_path),
    ):
        pass
    owner.kill()
    owner.communicate()
    assert not is_locked(tmp_path)
    with folder_lock(tmp_path):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_unlocked_folder_that_is_absent(tmp_path):
    assert not is_locked(tmp_path / "absent")


def test_checkpoint_is_the_newest_and_alone(tmp_path):
    assert load_checkpoint(tmp_path, "refine") is None
    for index in (1, 2, 10):
        save_checkpoint(tmp_path, "refine", index, {"map": np.full((2, 2), index)}, {"resolution_A": 8.5 / index})
    save_checkpoint(tmp_path, "refine-2", 3, {"map": np.zeros(1)}, {})
    index, arrays, facts = load_checkpoint(tmp_path, "refine")
    assert (index, facts) == (10, {"resolution_A": 0.85})
    assert arrays["map"].tolist() == [[10, 10], [10, 10]]
    assert len(list((tmp_path / "checkpoints").glob("refine-0*"))) == 2


def test_torn_checkpoint_is_never_loaded(tmp_path):
    save_checkpoint(tmp_path, "a", 1, {"x": np.arange(5)}, {})
    older = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir()}
    save_checkpoint(tmp_path, "a", 2, {"x": np.arange(6)}, {})
    for name, content in older.items():
        (tmp_path / "checkpoints" / name).write_bytes(content)
    newest = tmp_path / "checkpoints" / "a-00000002.npz"
    newest.write_bytes(newest.read_bytes()[:-7])
    assert load_checkpoint(tmp_path, "a")[0] == 1
    newest.unlink()
    assert load_checkpoint(tmp_path, "a")[0] == 1
    (tmp_path / "checkpoints" / "a-00000001.npz").write_bytes(b"")
    assert load_checkpoint(tmp_path, "a") is None


def test_items_by_label_and_key(tmp_path):
    save_item(tmp_path, "align", "m1", {"shift": [1.0, None]})
    assert load_item(tmp_path, "align", "m1") == {"shift": [1.0, None]}
    assert load_item(tmp_path, "fit", "m1") is None
    assert load_item(tmp_path, "align", "m2") is None


def test_failed_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.mrc"
    path.write_text("old")

    def write():
        with atomic_path(path) as part:
            part.write_text("ne")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mrc"]
    assert path.read_text() == "old"


class Toy(Options):
    diameter_A: float = option(..., help="Diameter.", gt=0, le=1000)
    classes: int = option(50, help="Classes.", ge=1)


def test_all_bad_options_in_one_message():
    with pytest.raises(BadOptionError) as caught:
        validated(Toy, {"diameter_A": -3.0, "classes": 0})
    assert caught.value.message == ("--diameter is -3.0, allowed is > 0, ≤ 1000 Å. --classes is 0, allowed is ≥ 1.")


def test_missing_and_unknown_options():
    with pytest.raises(BadOptionError, match="--diameter is needed: Diameter"):
        validated(Toy, {})
    with pytest.raises(BadOptionError, match=r"plan\.toml \[toy\]: there is no option radius"):
        validated(Toy, {"diameter_A": 1.0, "radius": 3}, source="plan.toml [toy]")
    check_given(Toy, {"classes": 3}, source="plan.toml [toy]")
    with pytest.raises(BadOptionError, match="classes is 0"):
        check_given(Toy, {"classes": 0}, source="plan.toml [toy]")


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """Entry points as a plug-in would bring them."""

    def install(name, content, target="plugin_under_test:STEP"):
        (tmp_path / "plugin_under_test.py").write_text(content)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plugin_under_test", raising=False)
        entry = EntryPoint(name, target, registry.GROUP)
        monkeypatch.setattr(registry, "entry_points", lambda group: [entry])

    return install


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("import nonexistent_module", "ModuleNotFoundError"),
        ("1/0", "ZeroDivisionError"),
        ("STEP = 3", "it is a int, not a Step"),
        ("OTHER = 3", "AttributeError"),
        ("import sys\nsys.path.insert(0, {toys!r})\nfrom toy_step import STEP", "it calls itself toy"),
    ],
)
def test_broken_plugin_is_passed_over(plugins, content, reason):
    toys = str(Path(__file__).resolve().parents[2] / "toys")
    plugins("sharpen", content.format(toys=toys))
    steps, broken = registry.load_all()
    assert steps == {}
    assert reason in broken[0].reason
    with pytest.raises(HalfmapError, match=r"step sharpen .* cannot be loaded"):
        registry.get_step("sharpen")


def test_unknown_step_gives_the_nearest(plugins):
    plugins("postprocess", "")
    with pytest.raises(HalfmapError, match="Did you mean postprocess"):
        registry.get_step("postproces")


def test_device_is_refused_where_there_is_none():
    if environment.resolve_device("auto", uses_accelerator=True) != "cpu":
        pytest.skip("there is a CUDA device")
    assert environment.resolve_device("auto", uses_accelerator=False) == "cpu"
    with pytest.raises(HalfmapError, match=r"device cuda:7 was asked for.*--device cpu"):
        environment.resolve_device("cuda:7", uses_accelerator=True)


def test_what_may_be_used():
    assert 1 <= environment.available_cores() <= (os.cpu_count() or 1)
    assert 0 < environment.available_memory_GB() < 1e5
    assert RunOptions(out=Path("x")).seed == 0
