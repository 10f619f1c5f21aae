"""Killed at any moment, a job continues and ends with the same bytes."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from halfmap.jobs.record import JobRecord

TOYS = Path(__file__).resolve().parents[1] / "toys"
SCRIPT = """
import sys
from pathlib import Path
from toy_step import STEP, ToyOptions
from halfmap.exec.runner import run_job
from halfmap.jobs.run_options import RunOptions

if __name__ == "__main__":
    out, *texts = sys.argv[1:]
    options = ToyOptions(iterations=12, pause_s=0.03)
    run_job(STEP, {"texts": [Path(t) for t in texts]}, options, RunOptions(out=out, seed=3, threads=2))
"""
BOOKKEEPING = {"job.json", "run.log", ".lock", "trace.txt", "report.html"}
KILLS = 12


def outputs(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in BOOKKEEPING]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    texts = []
    for index in range(10):
        texts.append(tmp_path / f"t{index}.txt")
        texts[-1].write_text("bad" if index == 4 else f"text {index}")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(TOYS), *sys.path])}

    def start(out):
        command = [sys.executable, str(script), str(out), *map(str, texts)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment)

    return start


def finish(process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()


@pytest.mark.e2e
def test_killed_at_random_moments(start, tmp_path):
    began = time.monotonic()
    finish(start(tmp_path / "whole"))
    whole_s = time.monotonic() - began
    wanted = outputs(tmp_path / "whole")
    assert len([name for name in wanted if name.startswith("numbers/")]) == 9

    moments = random.Random(20261121)
    interrupted = 0
    for kill in range(KILLS):
        process = start(tmp_path / "killed")
        time.sleep(moments.uniform(0.1, 0.85) * whole_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        record = tmp_path / "killed" / "job.json"
        if record.exists() and json.loads(record.read_text())["state"] == "running":
            interrupted += 1
        if kill % 3 == 2:
            finish(start(tmp_path / "killed"))
            assert outputs(tmp_path / "killed") == wanted
            assert JobRecord.load(tmp_path / "killed").figures == JobRecord.load(tmp_path / "whole").figures
            (tmp_path / "killed").rename(tmp_path / f"killed-{kill}")
    assert interrupted >= KILLS // 3


@pytest.mark.e2e
def test_finished_items_are_not_redone(start, tmp_path):
    process = start(tmp_path / "job")
    trace = tmp_path / "job" / "numbers" / "trace.txt"
    items = tmp_path / "job" / "items"
    while not items.exists() or len(list(items.glob("[!.]*.json"))) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    finished = {json.loads(path.read_text())["key"] for path in items.glob("[!.]*.json")}
    finish(start(tmp_path / "job"))
    done = [line.split()[0] for line in trace.read_text().splitlines()]
    assert finished
    assert all(done.count(name) == 1 for name in finished)


@pytest.mark.e2e
def test_sigterm_is_recorded_and_continued(start, tmp_path):
    process = start(tmp_path / "job")
    while not (tmp_path / "job" / "numbers").exists():
        time.sleep(0.01)
    process.terminate()
    process.communicate(timeout=20)
    assert JobRecord.load(tmp_path / "job").state == "interrupted"
    finish(start(tmp_path / "job"))
    assert JobRecord.load(tmp_path / "job").state == "finished"


@pytest.mark.e2e
def test_two_processes_are_kept_apart(start, tmp_path):
    first = start(tmp_path / "job")
    while not (tmp_path / "job" / "numbers").exists():
        time.sleep(0.01)
    second = start(tmp_path / "job")
    _, errors = second.communicate(timeout=60)
    assert second.returncode != 0
    assert f"is in use by process {first.pid}" in errors.decode()
    finish(first)
