"""Atoms in the frame of a map: the origin of the coordinates is the map's origin pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from halfmap.errors import HalfmapError
from halfmap.typing import Array, FloatArray


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms of a model.

    ``element`` holds chemical symbols; ``position_A`` is ``[n, 3]`` in the order x, y, z;
    ``bfactor_A2`` and ``occupancy`` have one value an atom.
    """

    element: Array
    position_A: FloatArray
    bfactor_A2: FloatArray
    occupancy: FloatArray

    def __post_init__(self) -> None:
        n = len(self.element)
        if n == 0:
            raise HalfmapError("a model without atoms cannot be simulated")
        if self.position_A.shape != (n, 3) or self.bfactor_A2.shape != (n,) or self.occupancy.shape != (n,):
            raise HalfmapError(
                f"{n} elements, positions {self.position_A.shape}, B factors {self.bfactor_A2.shape} and "
                f"occupancies {self.occupancy.shape} do not belong together"
            )

    @classmethod
    def uniform(cls, element: Array, position_A: FloatArray, bfactor_A2: float) -> Atoms:
        """Fully occupied atoms that all have one B factor."""
        n = len(element)
        return cls(element, np.asarray(position_A, float), np.full(n, float(bfactor_A2)), np.ones(n))

    def __len__(self) -> int:
        return len(self.element)

    @property
    def has_hydrogens(self) -> bool:
        """Whether hydrogen atoms are among the atoms."""
        return bool(np.isin(self.element, ["H", "D"]).any())

    def centre_of_mass_A(self) -> FloatArray:
        """Mean position ``[3]``, every atom weighing its occupancy."""
        centre: FloatArray = np.average(self.position_A, axis=0, weights=self.occupancy)
        return centre

    def moved(self, rotation: FloatArray, translation_A: FloatArray | Sequence[float] = (0.0, 0.0, 0.0)) -> Atoms:
        """Atoms at ``rotation @ position + translation``."""
        position = self.position_A @ np.asarray(rotation).T + np.asarray(translation_A)
        return Atoms(self.element, position, self.bfactor_A2, self.occupancy)

    def centred(self) -> Atoms:
        """Atoms with their centre of mass at the origin."""
        return self.moved(np.eye(3), -self.centre_of_mass_A())

    def diameter_A(self) -> float:
        """Twice the largest distance of an atom from the origin."""
        return 2.0 * float(np.linalg.norm(self.position_A, axis=1).max())


def join(parts: Sequence[Atoms]) -> Atoms:
    """Join the atoms of several parts."""
    return Atoms(
        np.concatenate([part.element for part in parts]),
        np.concatenate([part.position_A for part in parts]),
        np.concatenate([part.bfactor_A2 for part in parts]),
        np.concatenate([part.occupancy for part in parts]),
    )
