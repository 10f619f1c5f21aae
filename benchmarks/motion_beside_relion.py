"""Motion correction beside RELION's own, on simulated movies: distance from the truth over the field, and CPU time.

    python benchmarks/motion_beside_relion.py work/ --sizes 1024 4096
    python benchmarks/motion_beside_relion.py work/ --sizes 4096 --frames 40 --movies 2 --local-motion 4

Movies are simulated with and without local motion. Both programs correct one movie, then all: the difference
is what a further movie costs without the start of the program. RELION 3.1's own program (``relion_run_motioncorr
--use_own``) runs with one patch and with 5 x 5 patches, on one thread; ours with ``--no-local`` and as it comes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from beside import Facts, halfmap, kept, timed

from halfmap.io.relion import read_image_set, write_image_set
from halfmap.io.star import read_star
from halfmap.motion.surface import LocalModel

PIXEL_A, DOSE = 1.2, 1.6
MOVIES = {1024: (6, 24, 60), 4096: (3, 16, 600)}
"""By the edge of a frame in px: movies, frames, particles of a movie."""


def simulated(folder: Path, edge: int, local_A: float, movies: int, frames: int) -> Path:
    """Movies of one size in a folder, made once."""
    out = folder / f"sim_{edge}x{frames}_{local_A:g}"
    particles = MOVIES[edge][2]
    if not (out / "movies.star").exists():
        halfmap(
            folder, "simulate", "movies", "--movies", str(movies), "--frames", str(frames),
            "--pixel-size", str(PIXEL_A), "--dose-per-frame", str(DOSE), "--width", str(edge), "--height", str(edge),
            "--particles", str(particles), "--local-motion", str(local_A), "--seed", "7", "--out", out.name,
        )  # fmt: skip
        images = read_image_set(out / "movies.star", "movies")
        write_image_set(out / "first.star", images.select(np.arange(len(images)) == 0))
    return out


def shifts_px(star: Path, places: np.ndarray) -> np.ndarray:
    """Shifts ``[p, n, 2]`` that a motion STAR file tells, at places from -0.5 to 0.5 over the frame."""
    blocks = read_star(star)
    columns = (blocks["global_shift"][f"rlnMicrographShift{axis}"] for axis in "XY")
    whole = np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)
    total = np.repeat(whole[None], len(places), axis=0)
    if "local_motion_model" in blocks:
        coefficients = np.asarray(blocks["local_motion_model"]["rlnMotionModelCoeff"], dtype=np.float64)
        total = total + LocalModel(coefficients.reshape(2, 6, 3)).shifts_px(np.arange(len(whole)), places)
    return total


def errors_px(found: Path, truth: Path) -> tuple[float, float]:
    """Root mean square distance (px) from the true shifts: of the mean over the field, and of all places."""
    edge = np.linspace(-0.45, 0.45, 10)
    places = np.stack(np.meshgrid(edge, edge), axis=-1).reshape(-1, 2)
    error = shifts_px(found, places) - shifts_px(truth, places)
    error -= error.mean(axis=1, keepdims=True)  # Where the specimen is as a whole does not matter.
    whole = error.mean(axis=0)
    return float(np.sqrt((whole**2).sum(-1).mean())), float(np.sqrt((error**2).sum(-1).mean()))


def ours(folder: Path, movies: Path, out: str, local: bool) -> Facts:
    """Correct movies with this program."""
    name = "--local" if local else "--no-local"
    return halfmap(folder, "motion", str(movies.relative_to(folder)), name, "--threads", "1", "--out", out)


def relions(folder: Path, movies: Path, out: str, local: bool) -> Facts:
    """Correct movies with RELION's program."""
    patches = "5" if local else "1"
    return timed(
        ["relion_run_motioncorr", "--i", str(movies.relative_to(folder)), "--o", f"{out}/", "--use_own", "--j", "1",
         "--patch_x", patches, "--patch_y", patches, "--angpix", str(PIXEL_A), "--voltage", "300", "--dose_weighting",
         "--dose_per_frame", str(DOSE), "--gainref", str(movies.parent.relative_to(folder) / "gain.mrc"),
         "--grouping_for_ps", "3"], folder,
    )  # fmt: skip


def measured(folder: Path, simulation: Path, program: str, local: bool) -> Facts:
    """Errors and CPU seconds of one program in one setting."""
    run = {"halfmap": ours, "relion": relions}[program]
    out = f"{program}_{simulation.name}_{'local' if local else 'global'}"
    one = run(folder, simulation / "first.star", out + "_first", local)
    all_ = run(folder, simulation / "movies.star", out, local)
    images = read_image_set(simulation / "movies.star", "movies")
    errors = []
    for index, movie in enumerate(images["movie_name"], start=1):
        stem = Path(str(movie)).stem
        found = next((folder / out).rglob(f"{stem}.star"))
        errors.append(errors_px(found, simulation / "truth" / f"motion_{index:04d}.star"))
    of_whole, of_field = np.array(errors).T
    return {
        "cpu_s_per_movie": round((all_["cpu_s"] - one["cpu_s"]) / (len(images) - 1), 2),
        "cpu_s_of_first": one["cpu_s"],
        "peak_GB": all_["peak_GB"],
        "global_px": [round(float(value), 3) for value in of_whole],
        "field_px": [round(float(value), 3) for value in of_field],
    }


def main() -> None:
    """Print a table of errors and CPU time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=sorted(MOVIES), choices=sorted(MOVIES))
    parser.add_argument("--movies", type=int, help="as many of each size as usual if absent")
    parser.add_argument("--frames", type=int, help="as many as usual if absent")
    parser.add_argument("--local-motion", type=float, nargs="+", default=[4.0, 0.0], help="Å")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    print("| frame | local truth | program | correction | global error px | field error px | CPU s a movie | peak GB |")
    print("|---|---|---|---|---|---|---|---|")
    for edge in arguments.sizes:
        movies, frames = arguments.movies or MOVIES[edge][0], arguments.frames or MOVIES[edge][1]
        for local_A in arguments.local_motion:
            simulation = simulated(folder, edge, local_A, movies, frames)
            for local in (False, True):
                for program in ("relion", "halfmap"):
                    name = f"{program}_{simulation.name}_{local}"
                    facts = kept(folder, name, lambda p=program, s=simulation, f=local: measured(folder, s, p, f))
                    errors = (f"{np.median(facts[k]):.3f} ({max(facts[k]):.3f})" for k in ("global_px", "field_px"))
                    print(
                        f"| {edge} | {local_A:g} Å | {program} | {'local' if local else 'global'} | "
                        f"{' | '.join(errors)} | {facts['cpu_s_per_movie']} | {facts['peak_GB']} |", flush=True,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
