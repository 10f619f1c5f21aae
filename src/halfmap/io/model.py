"""Atomic models: PDB and mmCIF files to arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np

from halfmap.errors import BadInputError
from halfmap.io.files import DECOMPRESSION_ERRORS, existing_file, format_suffix, open_binary
from halfmap.typing import Array, PathLike

_PDB = (".pdb", ".ent")
_SUFFIXES = (*_PDB, ".cif", ".mmcif")
_PDB_POSITIONS = (slice(30, 38), slice(38, 46), slice(46, 54))


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
    if format_suffix(path) in _PDB:
        _check_pdb_numbers(path)
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


def _check_pdb_numbers(path: Path) -> None:
    """Raise for positions that are no numbers; gemmi reads those as zero."""
    with open_binary(path) as stream:
        try:
            lines = stream.read().splitlines()
        except DECOMPRESSION_ERRORS as error:
            raise BadInputError(
                path, "content", found=f"damaged ({error})", expected="a PDB file", remedy="Copy the file again."
            ) from error
    for number, line in enumerate(lines, start=1):
        if not line.startswith((b"ATOM  ", b"HETATM")):
            continue
        try:
            finite = all(math.isfinite(float(line[columns])) for columns in _PDB_POSITIONS)
        except ValueError:
            finite = False
        if not finite:
            raise BadInputError(
                path, f"line {number}, position of the atom", found=repr(line[30:54].decode("latin-1")),
                expected="three numbers of eight columns", remedy="Correct the file.",
            )  # fmt: skip
