"""The step ``simulate map``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfmap.jobs.step import Citation, Failure, Port, Step
from halfmap.simulate.options import SimulateMapOptions

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: SimulateMapOptions) -> Mapping[str, Any]:
    """Write the scattering potential of the model as a map."""
    from halfmap.io.mrc import write_volume
    from halfmap.simulate.models import fitting_box_px, load_model, potential_map

    conformations, symmetry = load_model(options)
    if options.conformation > len(conformations):
        job.fail("no-conformation", f"the model has {len(conformations)} conformation(s), not {options.conformation}")
    atoms = conformations[options.conformation - 1]
    box_px = options.box_px or fitting_box_px(atoms.diameter_A(), options.pixel_size_A)
    volume = potential_map(atoms, options, box_px, options.pixel_size_A, options.lowpass_A)
    write_volume(job.folder / "map.mrc", volume)
    job.log(
        f"{len(atoms)} atoms, {atoms.diameter_A():.0f} Å across, symmetry {symmetry}: "
        f"map of {box_px} voxels of {options.pixel_size_A} Å"
    )
    return {
        "items_in": 1,
        "items_out": 1,
        "atoms": len(atoms),
        "diameter_A": round(atoms.diameter_A(), 1),
        "symmetry": symmetry,
        "box_px": box_px,
    }


STEP = Step(
    name="simulate map",
    summary="Calculate the scattering potential of an atomic model, built-in or from a file.",
    options=SimulateMapOptions,
    inputs=(),
    outputs=(Port("map", "volume", "Potential over that of the ice, in V.", file="map.mrc"),),
    run=run,
    failures=(
        Failure(
            "no-conformation",
            "The model does not have the conformation asked for.",
            "Ask for conformation 1; only the asymmetric model has a second one.",
        ),
    ),
    citations=(
        Citation(
            "Peng1996",
            "Peng, Ren, Dudarev & Whelan (1996). Robust parameterization of elastic and absorptive electron "
            "atomic scattering factors. Acta Cryst. A52, 257-276.",
            "10.1107/S0108767395014371",
        ),
        Citation(
            "Fraser1978",
            "Fraser, MacRae & Suzuki (1978). An improved method for calculating the contribution of solvent to "
            "the X-ray diffraction pattern of biological molecules. J. Appl. Cryst. 11, 693-694.",
            "10.1107/S0021889878014296",
        ),
    ),
    example="halfmap simulate map --model cage --pixel-size 1.2 --out truth",
)
