"""The steps of a live session as toys: real tables, no science; some movies are bad in their pixels."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from toy_chain import Motion, Pick

from halfmap.errors import BadInputError
from halfmap.jobs.step import Failure, Port, Step
from halfmap.options import Options, option
from halfmap.steps.import_ import STEP as IMPORT

BAD, SLOW = 99, 77


class LivePick(Pick):
    survey_micrographs: int = option(3, help="Needed for a start.", ge=1)


def one(name, *, folder, label, pause_s=0.0):
    """Note that the item was done; a movie whose first pixel says so is bad, or slow."""
    with open(f"{folder}/trace.txt", "a") as trace:
        trace.write(f"{label} {Path(name).name}\n")
    if label == "motion":
        from halfmap.io.movies import open_movie

        first = int(open_movie(name).frame(0)[0, 0])
        if first == BAD:
            raise BadInputError(name, "pixels", found="bad", expected="good", remedy="Record it again.")
        time.sleep(pause_s if first == SLOW else 0.0)
    return {"name": name}


def images_of(path, kind):
    from halfmap.io.relion import read_image_set

    return read_image_set(path, kind)


def run(job, inputs, options, *, label, takes, gives):
    from halfmap.data.columns import NAME_COLUMN
    from halfmap.data.records import ImageSet
    from halfmap.io.relion import write_image_set

    images = images_of(inputs[takes][0], takes)
    work = partial(one, folder=str(job.folder), label=label, pause_s=30.0)
    results = job.each(label, images[NAME_COLUMN[takes]].tolist(), work, key=str)
    kept = images.select([row for row, result in enumerate(results) if result.ok])
    new = {}
    if label == "motion":
        new["micrograph_name"] = [f"{Path(name).stem}.mrc" for name in kept["movie_name"].tolist()]
        optics = kept.optics.with_columns(micrograph_pixel_size_A=kept.optics["original_pixel_size_A"])
        kept = ImageSet("micrographs", kept.rows.with_columns(**new), optics)
    elif label == "ctf":
        kept = kept.with_columns(defocus_u_A=[1e4] * len(kept), defocus_v_A=[9e3] * len(kept))
    else:
        job.once("template", lambda: {"of": kept["micrograph_name"].tolist()})
        new = {"coordinate_x_px": [1.0] * len(kept), "coordinate_y_px": [2.0] * len(kept)}
        kept = ImageSet("coordinates", kept.rows.with_columns(**new, uid=range(len(kept))), kept.optics)
    write_image_set(job.folder / f"{gives}.star", kept)
    return {"items_in": len(images), "items_out": len(kept), "particles": len(kept)}


def toy(label, takes, gives, kind, options):
    ports = (Port(takes, takes, takes),), (Port(gives, kind, gives, file=f"{gives}.star"),)
    work = partial(run, label=label, takes=takes, gives=gives)
    return Step(label, f"Toy {label}.", options, *ports, work, (Failure("no-particles", "None.", "Wait."),))


STEPS = {
    "import": IMPORT,
    "motion": toy("motion", "movies", "micrographs", "micrographs", Motion),
    "ctf": toy("ctf", "micrographs", "micrographs", "micrographs", type("Nothing", (Options,), {})),
    "pick": toy("pick", "micrographs", "particles", "coordinates", LivePick),
}
