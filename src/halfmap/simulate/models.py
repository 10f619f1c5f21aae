"""From options to a model and its maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from halfmap.data.records import Volume
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.model import read_model
from halfmap.io.mrc import write_volume
from halfmap.simulate.atoms import Atoms
from halfmap.simulate.form_factors import ICE_POTENTIAL_V
from halfmap.simulate.options import ModelOptions
from halfmap.simulate.phantoms import asymmetric, cage
from halfmap.simulate.potential import scattering_potential

_BORDER_A = 12.0


def load_model(options: ModelOptions) -> tuple[Sequence[Atoms], str]:
    """Conformations of the model asked for, centred on the origin, and the point group it is known to have.

    The symmetry of a model from a file is not known: it counts as C1.
    """
    if options.model_file is not None:
        return [read_atoms(options.model_file)], "C1"
    if options.model == "cage":
        return [cage()], "O"
    return [asymmetric(1), asymmetric(2)], "C1"


def read_atoms(path: Path) -> Atoms:
    """Atoms of the first model of a PDB or mmCIF file, moved to their centre of mass.

    Raises
    ------
    BadInputError
        If the file is no such file or holds no atoms of known elements.
    """
    model = read_model(path)
    known = model.atomic_number > 0
    if not known.any():
        raise BadInputError(path, "elements", found="unknown", expected="known", remedy="Give a complete model.")
    return Atoms(model.element[known], model.xyz_A[known], model.bfactor_A2[known], model.occupancy[known]).centred()


def used_conformations(conformations: Sequence[Atoms], class_weights: Sequence[float]) -> Sequence[Atoms]:
    """The conformations that have a weight.

    Raises
    ------
    HalfmapError
        If more weights are given than the model has conformations.
    """
    if len(class_weights) > len(conformations):
        raise HalfmapError(
            f"{len(class_weights)} class weights are given, but the model has {len(conformations)} conformation(s).",
            remedy="Give one weight a conformation; the built-in asymmetric model has two.",
        )
    return conformations[: len(class_weights)]


def largest_diameter_A(conformations: Sequence[Atoms]) -> float:
    """Diameter of the smallest ball about the origin that holds every conformation."""
    return max(atoms.diameter_A() for atoms in conformations)


def fitting_box_px(diameter_A: float, pixel_size_A: float) -> int:
    """Even box of small prime factors that holds a particle with a border of 12 Å."""
    least = int(np.ceil((diameter_A + 2.0 * _BORDER_A) / pixel_size_A))
    box = least + least % 2
    while _largest_prime_factor(box) > 7:
        box += 2
    return box


def _largest_prime_factor(n: int) -> int:
    factor, largest = 2, 1
    while factor * factor <= n:
        while n % factor == 0:
            n, largest = n // factor, factor
        factor += 1
    return max(n, largest)


def potential_map(
    atoms: Atoms, options: ModelOptions, box_px: int, pixel_size_A: float, lowpass_A: float | None = None
) -> Volume:
    """The map of one conformation as the options want it."""
    return scattering_potential(
        atoms,
        box_px,
        pixel_size_A,
        solvent_V=ICE_POTENTIAL_V if options.solvent else 0.0,
        bfactor_A2=options.bfactor_A2,
        lowpass_A=lowpass_A,
    )


def map_file(folder: Path, class_number: int, optics_group: int = 1) -> Path:
    """File of the true map of a class at the pixel size of an optics group, both from 1."""
    if optics_group > 1:
        return folder / "truth" / f"map_class{class_number}_group{optics_group}.mrc"
    return folder / "truth" / ("map.mrc" if class_number == 1 else f"map_class{class_number}.mrc")


def write_maps(
    folder: Path,
    conformations: Sequence[Atoms],
    options: ModelOptions,
    box_px: int,
    pixel_size_A: float,
    optics_group: int = 1,
) -> tuple[Path, ...]:
    """Write the true map of every conformation on one grid; return the files."""
    paths = tuple(map_file(folder, number, optics_group) for number in range(1, len(conformations) + 1))
    for path, atoms in zip(paths, conformations, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, potential_map(atoms, options, box_px, pixel_size_A))
    return paths
