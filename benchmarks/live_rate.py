"""How many movies an hour `halfmap live` carries through import, motion, CTF and picking, and where the time goes.

    python benchmarks/live_rate.py --movies 24 --width 4096 --height 4096 --frames 40
    python benchmarks/live_rate.py --movies 600 --width 256 --height 256 --frames 3 --particles 0

Simulates a few different movies and copies them under other names. All lie in the folder from the start, so that the
rate is that of the work and not that of a camera. Prints the seconds of one item of each kind of work in the process
that did it, the movies an hour of all rounds but the first (which starts workers and surveys for picking), and what
the rounds took besides their items, early and late: the tables grow, and each round writes them all. Small movies, as
in the second line, show the latter.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROUND = re.compile(r"^\S+  (\d+) more in ")


def simulate(folder: Path, given: argparse.Namespace) -> list[Path]:
    """Make the different movies, and copies of them under other names."""
    words = ["simulate", "movies", "--model", "cage", "--movies", given.different, "--pixel-size", given.pixel_size,
             "--width", given.width, "--height", given.height, "--frames", given.frames, "--particles", given.particles,
             "--dose-per-frame", given.dose, "--format", given.format, "--out", "sim"]  # fmt: skip
    run(folder, *words)
    made = sorted((folder / "sim" / "movies").iterdir())
    (folder / "incoming").mkdir()
    for number in range(given.movies):
        source = made[number % len(made)]
        shutil.copyfile(source, folder / "incoming" / f"copy_{number:05d}{source.suffix}")
    return made


def run(folder: Path, *words: object) -> str:
    """Run the program; what it said."""
    command = [sys.executable, "-m", "halfmap", *map(str, words)]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}")
    return done.stdout


def live(folder: Path, given: argparse.Namespace) -> list[tuple[float, int]]:
    """Run the session; (wall seconds, movies) of each round."""
    words = ["live", "incoming", "--gain", "sim/gain.mrc", "--pixel-size", given.pixel_size, "--voltage", 300, "--cs",
             2.7, "--dose-per-frame", given.dose, "--settle", 1, "--poll", 1, "--once", "--threads", given.threads,
             "--device", given.device, "--out", "live"]  # fmt: skip
    if given.diameter:
        words += ["--diameter", given.diameter]
    command = [sys.executable, "-m", "halfmap", *map(str, words)]
    rounds, last = [], time.monotonic()
    program = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert program.stdout is not None
    for line in program.stdout:
        if found := ROUND.match(line):
            now = time.monotonic()
            rounds.append((now - last, int(found[1])))
            last = now
        print(line, end="", flush=True)
    if program.wait():
        sys.exit("halfmap live failed")
    return rounds


def main() -> None:
    """Simulate, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--movies", type=int, default=24)
    parser.add_argument("--different", type=int, default=2)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--height", type=int, default=4096)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--dose", type=float, default=1.25, help="e/Å² a frame")
    parser.add_argument("--pixel-size", type=float, default=1.0)
    parser.add_argument("--particles", type=int, default=150)
    parser.add_argument("--diameter", type=float, default=None, help="Å; estimated by pick if not given")
    parser.add_argument("--format", choices=("tiff", "mrc", "eer"), default="tiff")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="work here and keep it; a temporary folder if not given")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = simulate(folder, given)
        print(json.dumps({**vars(given), "folder": None, "MB_a_movie": round(made[0].stat().st_size / 1e6, 1)}))
        rounds = live(folder, given)
        status = json.loads((folder / "live" / "status.json").read_text())
        records = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("live/*/job.json")}
    report(status, records, rounds, given.threads)


def report(status: dict, records: dict, rounds: list[tuple[float, int]], threads: int) -> None:
    """Print what was measured."""
    print(f"load of the machine now: {os.getloadavg()[0]:.1f}")
    for name, entry in status["seconds_per_item"].items():
        print(f"{name:24} {entry['items']:6} items  {entry['wall_s']:8.3f} s wall  {entry['cpu_s']:8.3f} s CPU each")
    for name, record in sorted(records.items()):
        last = record["runs"][-1]
        inside = sum(entry["wall_s"] for entry in last["items"].values())
        print(f"{name:24} {last['rounds']:6} rounds {last['wall_s']:8.1f} s wall, {inside / threads:8.1f} s in items")
    later = rounds[1:] or rounds
    seconds, movies = np.array([entry[0] for entry in later]), np.array([entry[1] for entry in later])
    print(f"{3600 * movies.sum() / seconds.sum():.0f} movies an hour, {seconds.sum() / movies.sum():.2f} s a movie")
    full = seconds[movies == movies.max()]
    if len(full) > 5:
        part = max(2, len(full) // 5)
        early, late = np.median(full[:part]), np.median(full[-part:])
        print(f"rounds of {movies.max()}: {early:.2f} s early, {late:.2f} s late")


if __name__ == "__main__":
    main()
