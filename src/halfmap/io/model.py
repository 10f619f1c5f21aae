"""Atomic models: PDB and mmCIF files to arrays."""

from __future__ import annotations

from dataclasses import dataclass

import gemmi
import numpy as np

from halfmap.errors import BadInputError
from halfmap.io.files import existing_file, format_suffix
from halfmap.typing import Array, PathLike

_SUFFIXES = (".pdb", ".ent", ".cif", ".mmcif")


@dataclass(frozen=True, eq=False)
class AtomicModel:
    """Atoms of the first model of a file."""

    xyz_A: Array
    """``[n, 3]`` float64 positions (x, y, z)."""
    atomic_number: Array
    """``[n]`` int64; 0 for an unknown element."""
    bfactor_A2: Array
    """``[n]`` float64 isotropic displacement."""
    occupancy: Array
    """``[n]`` float64 from 0 to 1."""
    element: Array
    """``[n]`` text: C, N, O, FE ..."""
    atom_name: Array
    residue_name: Array
    residue_number: Array
    chain: Array

    def __len__(self) -> int:
        return len(self.xyz_A)


def read_model(path: PathLike) -> AtomicModel:
    """Read a PDB or mmCIF file (plain or .gz); alternative locations are kept with their occupancies.

    Raises
    ------
    BadInputError
        Not such a file, no atoms, or positions that are not finite.
    """
    path = existing_file(path)
    if format_suffix(path) not in _SUFFIXES:
        raise BadInputError(
            path, "suffix", found=path.suffix or "absent", expected=f"one of {', '.join(_SUFFIXES)}",
            remedy="Give a PDB or mmCIF file.",
        )  # fmt: skip
    try:
        structure = gemmi.read_structure(str(path))
    except (ValueError, RuntimeError, OSError, UnicodeError) as error:
        raise BadInputError(
            path, "content", found=f"not readable ({error})", expected="a PDB or mmCIF file",
            remedy="Download or write the file again.",
        ) from error  # fmt: skip
    atoms = list(structure[0].all()) if len(structure) else []
    if not atoms:
        raise BadInputError(path, "atoms", found="none", expected="some", remedy="Check that this is a model.")
    xyz = np.array([site.atom.pos.tolist() for site in atoms], dtype=np.float64)
    if not np.isfinite(xyz).all():
        raise BadInputError(path, "positions", found="not finite", expected="numbers", remedy="Correct the file.")
    return AtomicModel(
        xyz_A=xyz,
        atomic_number=np.array([site.atom.element.atomic_number for site in atoms], dtype=np.int64),
        bfactor_A2=np.array([site.atom.b_iso for site in atoms], dtype=np.float64),
        occupancy=np.array([site.atom.occ for site in atoms], dtype=np.float64),
        element=np.array([site.atom.element.name.upper() for site in atoms]),
        atom_name=np.array([site.atom.name for site in atoms]),
        residue_name=np.array([site.residue.name for site in atoms]),
        residue_number=np.array([site.residue.seqid.num for site in atoms], dtype=np.int64),
        chain=np.array([site.chain.name for site in atoms]),
    )
