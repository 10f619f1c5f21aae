"""An α-helix with side chains, built from ideal bond lengths, angles and torsions."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from halfmap.typing import Array, FloatArray
from halfmap.units import DEG

RISE_A: Final = 1.5
"""Length of an α-helix per residue."""
_PHI: Final = -65.0 * DEG
_PSI: Final = -40.0 * DEG
_OMEGA: Final = 178.0 * DEG
_HEPTAD: Final = "LKELEEA"
"""Sequence along every helix: hydrophobic on one face, charged on the other."""


class _Bond(NamedTuple):
    """Where an atom sits: three earlier atoms of the residue, distance, angle, torsion."""

    name: str
    frame: tuple[str, str, str]
    length_A: float
    angle_deg: float
    torsion_deg: float


_SIDE_CHAINS: Final[dict[str, tuple[_Bond, ...]]] = {
    "A": (),
    "L": (
        _Bond("CG", ("N", "CA", "CB"), 1.53, 116.0, -65.0),
        _Bond("CD1", ("CA", "CB", "CG"), 1.52, 110.5, 175.0),
        _Bond("CD2", ("CA", "CB", "CG"), 1.52, 110.5, -62.0),
    ),
    "E": (
        _Bond("CG", ("N", "CA", "CB"), 1.52, 114.0, -67.0),
        _Bond("CD", ("CA", "CB", "CG"), 1.52, 112.6, 180.0),
        _Bond("OE1", ("CB", "CG", "CD"), 1.25, 118.4, -10.0),
        _Bond("OE2", ("CB", "CG", "CD"), 1.25, 118.4, 170.0),
    ),
    "K": (
        _Bond("CG", ("N", "CA", "CB"), 1.52, 114.1, -67.0),
        _Bond("CD", ("CA", "CB", "CG"), 1.52, 111.3, 180.0),
        _Bond("CE", ("CB", "CG", "CD"), 1.52, 111.3, 180.0),
        _Bond("NZ", ("CG", "CD", "CE"), 1.49, 111.9, 180.0),
    ),
}


class HelixAtoms(NamedTuple):
    """Atoms of one helix along +z, centred on the origin: names, residues, positions in Å."""

    name: Array
    residue: Array
    position_A: FloatArray

    @property
    def element(self) -> Array:
        """Chemical element of each atom (the first letter of its name)."""
        return np.array([name[0] for name in self.name])


def place_atom(
    a: FloatArray, b: FloatArray, c: FloatArray, length_A: float, angle_rad: float, torsion_rad: float
) -> FloatArray:
    """Position of an atom d from the bond c-d, the angle b-c-d and the torsion a-b-c-d.

    Source: Parsons et al. 2005, J. Comput. Chem. 26, 1063 (natural extension reference frame).
    """
    along = (c - b) / np.linalg.norm(c - b)
    normal = np.cross(b - a, along)
    normal /= np.linalg.norm(normal)
    across = np.cross(normal, along)
    local = (-np.cos(angle_rad), np.sin(angle_rad) * np.cos(torsion_rad), np.sin(angle_rad) * np.sin(torsion_rad))
    placed: FloatArray = c + length_A * (local[0] * along + local[1] * across + local[2] * normal)
    return placed


def _backbone(residues: int) -> list[dict[str, FloatArray]]:
    """N, CA, C of ``residues`` amino acids, and of one more that the last carbonyl needs."""
    n = np.array([0.0, 0.0, 0.0])
    ca = np.array([1.458, 0.0, 0.0])
    c = place_atom(np.array([0.0, 1.0, 0.0]), n, ca, 1.525, 111.0 * DEG, _PHI)
    chain = [{"N": n, "CA": ca, "C": c}]
    for _ in range(residues):
        last = chain[-1]
        n = place_atom(last["N"], last["CA"], last["C"], 1.329, 116.6 * DEG, _PSI)
        ca = place_atom(last["CA"], last["C"], n, 1.458, 121.7 * DEG, _OMEGA)
        c = place_atom(last["C"], n, ca, 1.525, 111.0 * DEG, _PHI)
        chain.append({"N": n, "CA": ca, "C": c})
    return chain


def _axis_frame(points: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rotation that turns the axis of a helix of equivalent points to +z, and a point on the axis.

    The second differences of points on a helix point at its axis, so the axis is normal to them.
    """
    inward = points[:-2] - 2.0 * points[1:-1] + points[2:]
    axis = np.linalg.svd(inward)[2][-1]
    axis = axis if axis @ (points[-1] - points[0]) > 0 else -axis
    x = np.cross(axis, [0.0, 0.0, 1.0] if abs(axis[2]) < 0.9 else [1.0, 0.0, 0.0])
    x /= np.linalg.norm(x)
    to_z = np.stack([x, np.cross(axis, x), axis])
    plane = points @ to_z[:2].T
    # Circle through the points: |p|² = 2 p·centre + const.
    design = np.concatenate([2.0 * plane, np.ones((len(plane), 1))], axis=1)
    centre = np.linalg.lstsq(design, np.sum(plane**2, axis=1), rcond=None)[0][:2]
    return to_z, centre @ to_z[:2]


@lru_cache(maxsize=64)
def alpha_helix(residues: int) -> HelixAtoms:
    """Build a right-handed α-helix of L-amino acids with its axis along z, running up.

    1.5 Å and 100° a residue, C-alpha at 2.3 Å from the axis, follow from the torsions (-65°, -40°, 178°).
    The sequence repeats a heptad, so helices have a hydrophobic face towards +x.
    """
    chain = _backbone(max(residues, 8))
    names: list[str] = []
    numbers: list[int] = []
    positions: list[FloatArray] = []
    for index in range(residues):
        atoms = dict(chain[index])
        atoms["O"] = place_atom(chain[index + 1]["CA"], chain[index + 1]["N"], atoms["C"], 1.231, 122.7 * DEG, 0.0)
        atoms["CB"] = place_atom(atoms["C"], atoms["N"], atoms["CA"], 1.53, 110.1 * DEG, -122.6 * DEG)
        for bond in _SIDE_CHAINS[_HEPTAD[index % len(_HEPTAD)]]:
            first, second, third = (atoms[name] for name in bond.frame)
            atoms[bond.name] = place_atom(
                first, second, third, bond.length_A, bond.angle_deg * DEG, bond.torsion_deg * DEG
            )
        names.extend(atoms)
        numbers.extend([index] * len(atoms))
        positions.extend(atoms.values())
    to_z, on_axis = _axis_frame(np.array([residue["CA"] for residue in chain]))
    position = (np.array(positions) - on_axis) @ to_z.T
    name = np.array(names)
    calpha = name == "CA"
    hydrophobic = calpha & np.isin(np.array(numbers) % 7, [0, 3])
    face = position[hydrophobic, :2].mean(axis=0)
    turn = np.arctan2(face[1], face[0])
    unturn = np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]])
    position = position @ unturn.T
    position[:, 2] -= position[calpha, 2].mean()
    for array in (name, position):
        array.setflags(write=False)
    return HelixAtoms(name, np.array(numbers), position)
