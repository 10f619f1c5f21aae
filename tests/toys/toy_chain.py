"""The steps of a session as toys: right kinds and options, files of text."""

from __future__ import annotations

import json
from pathlib import Path

from halfmap.jobs.step import Port, Step
from halfmap.optics.options import OpticsOptions
from halfmap.options import Options, option


class Motion(OpticsOptions):
    gain: Path | None = option(None, help="Gain.")
    binning: float = option(1.0, help="Binning.", ge=1)


class Gain(Options):
    gain: Path | None = option(None, help="Gain.")


class Pick(OpticsOptions):
    diameter_A: float | None = option(None, help="Diameter.", gt=0)


class Box(Options):
    diameter_A: float = option(..., help="Diameter.", gt=0)


class Class2d(Box):
    classes: int = option(50, help="Classes.", ge=1)


class Abinitio(Box):
    symmetry: str = option("C1", help="Symmetry.")


class FirstMap(Abinitio):
    classes: int = option(1, help="Maps.", ge=1)


class Refine(Abinitio):
    reference: Path = option(..., help="Reference.")
    initial_resolution_A: float | None = option(None, help="Low-pass.")


class Postprocess(Options):
    mask: Path | None = option(None, help="Mask.")


NO_OPTIONS = type("Nothing", (Options,), {})


def toy(name, takes, gives, options=NO_OPTIONS, **figures):
    inputs = tuple(Port(n, kind, n, many=kind == "movies") for n, kind in takes.items())
    outputs = tuple(Port(n, kind, n, file=file) for n, (kind, file) in gives.items())

    def run(job, inputs, options):
        for port in outputs:
            told = {"step": name, "inputs": {n: [p.name for p in paths] for n, paths in inputs.items()}}
            (job.folder / port.file).write_text(json.dumps(told | {"options": options.model_dump(mode="json")}))
        return {"items_in": 5, "items_out": 4, **figures}

    return Step(name, f"Toy {name}.", options, inputs, outputs, run)


MICROGRAPHS = {"micrographs": ("micrographs", "micrographs.star")}
PARTICLES = {"particles": ("particles", "particles.star")}
STEPS = {
    step.name: step
    for step in (
        toy("gain", {"movies": "movies"}, {"gain": ("images", "gain.mrc")}, Gain),
        toy("motion", {"movies": "movies"}, MICROGRAPHS, Motion),
        toy("ctf", {"micrographs": "micrographs"}, MICROGRAPHS, OpticsOptions),
        toy("curate", {"micrographs": "micrographs"}, MICROGRAPHS),
        toy("pick", {"micrographs": "micrographs"}, {"particles": ("coordinates", "particles.star")}, Pick,
            diameter_A=131.0),
        toy("extract", {"coordinates": "coordinates"}, PARTICLES, Box),
        toy("class2d", {"particles": "particles"}, PARTICLES | {"classes": ("images", "classes.mrcs")}, Class2d),
        toy("select", {"particles": "particles", "classes": "images"}, PARTICLES),
        toy("abinitio", {"particles": "particles"}, {"map": ("volume", "map.mrc")}, FirstMap,
            told_apart_A=11.5),
        toy("refine", {"particles": "particles"}, PARTICLES | {"half1": ("half-map", "half1.mrc"),
            "half2": ("half-map", "half2.mrc"), "map": ("volume", "map.mrc")}, Refine, resolution_A=3.4),
        toy("mask", {"map": "volume"}, {"mask": ("mask", "mask.mrc")}),
        toy("postprocess", {"half1": "half-map", "half2": "half-map"}, {"map": ("volume", "map.mrc")}, Postprocess),
    )
}  # fmt: skip
