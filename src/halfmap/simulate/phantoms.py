"""Built-in models made by code: a symmetric cage, an asymmetric complex, and closed-form Gaussians."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Complex, Float

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_rotation_vector
from halfmap.geometry.symmetry import point_group
from halfmap.simulate.atoms import Atoms, join
from halfmap.simulate.helix import RISE_A, alpha_helix
from halfmap.typing import Array, FloatArray
from halfmap.units import DEG

HELIX_SPACING_A: Final = 10.0
"""Distance of the axes of packed helices."""
_BFACTOR_A2: Final = 40.0


def helix(residues: int, centre_A: FloatArray, axis: FloatArray, face: FloatArray) -> Atoms:
    """Put an α-helix at a centre, running along ``axis``, its hydrophobic side towards ``face``."""
    atoms = alpha_helix(residues)
    z = axis / np.linalg.norm(axis)
    x = face - (face @ z) * z
    x /= np.linalg.norm(x)
    from_local = np.stack([x, np.cross(z, x), z], axis=1)
    return Atoms.uniform(atoms.element, atoms.position_A @ from_local.T + centre_A, _BFACTOR_A2)


def cage_subunit() -> Atoms:
    """One four-helix bundle of the cage, beside the two-fold axis (1, 1, 0).

    Two helices lie in an outer layer at 52 Å from the centre and two in an inner one at 42 Å, tangential,
    turned by 25° from the line that joins two four-fold axes, antiparallel to their neighbours.
    """
    radial = np.array([1.0, 1.0, 0.0]) / np.sqrt(2.0)
    towards_four_fold = np.array([1.0, -1.0, 0.0]) / np.sqrt(2.0)
    towards_three_fold = np.array([0.0, 0.0, 1.0])
    slew = 25.0 * DEG
    axis = np.cos(slew) * towards_four_fold + np.sin(slew) * towards_three_fold
    lateral = np.cos(slew) * towards_three_fold - np.sin(slew) * towards_four_fold
    bundle_centre = 47.0 * radial + 12.0 * towards_three_fold
    half = HELIX_SPACING_A / 2.0
    placed = ((28, half, -half, 1.0), (26, half, half, -1.0), (22, -half, half, 1.0), (24, -half, -half, -1.0))
    parts = []
    for residues, out, side, direction in placed:
        offset = out * radial + side * lateral
        parts.append(helix(residues, bundle_centre + offset, direction * axis, -offset))
    return join(parts)


def cage() -> Atoms:
    """Hollow cage of 24 four-helix bundles with octahedral symmetry (O, RELION's setting), 128 Å across."""
    subunit = cage_subunit()
    return join([subunit.moved(operator) for operator in point_group("O").numpy()])


@dataclass(frozen=True)
class _Domain:
    """Packed parallel helices: how many, how long, how much their lengths vary, where, which way."""

    helices: int
    residues: int
    spread: int
    centre_A: tuple[float, float, float]
    axis: tuple[float, float, float]


_BODY: Final = _Domain(19, 36, 4, (0.0, 0.0, -20.0), (0.1, 0.0, 1.0))
_SHOULDER: Final = _Domain(10, 30, 3, (46.0, 14.0, -26.0), (0.3, 1.0, 0.2))
_ARM: Final = _Domain(4, 40, 4, (-38.0, -18.0, 14.0), (-0.25, -0.35, 1.0))
_HEAD: Final = _Domain(12, 24, 4, (6.0, 12.0, 34.5), (1.0, 0.6, 0.0))
_HINGE_A: Final = (0.0, 0.0, 14.0)
_HINGE_AXIS: Final = (0.2, 1.0, 0.0)
HINGE_ANGLE_RAD: Final = 20.0 * DEG
"""Turn of the head of the asymmetric model between its two conformations."""


def _hexagonal(count: int) -> FloatArray:
    """The ``count`` points of a hexagonal lattice of spacing 1 that are nearest to the origin, ``[count, 2]``."""
    steps = np.arange(-4, 5)
    a, b = (grid.ravel() for grid in np.meshgrid(steps, steps, indexing="ij"))
    points = np.stack([a + 0.5 * b, np.sqrt(0.75) * b], axis=1)
    turn = np.arctan2(points[:, 1], points[:, 0])
    nearest = np.lexsort((np.round(turn, 6), np.round(np.hypot(*points.T), 6)))
    return points[nearest[:count]]


def _bundle(domain: _Domain) -> Atoms:
    axis = np.array(domain.axis) / np.linalg.norm(domain.axis)
    side = np.cross(axis, [0.0, 1.0, 0.0] if abs(axis[1]) < 0.7 else [1.0, 0.0, 0.0])
    side /= np.linalg.norm(side)
    across = np.cross(axis, side)
    points = HELIX_SPACING_A * _hexagonal(domain.helices)
    points -= points.mean(axis=0)
    parts = []
    for index, (u, v) in enumerate(points):
        # Lengths and heights differ from helix to helix in a fixed irregular order.
        residues = domain.residues + ((7 * index) % (2 * domain.spread + 1)) - domain.spread
        lift = RISE_A * (((5 * index) % 7) - 3) / 2.0
        offset = u * side + v * across
        towards_axis = -offset if np.linalg.norm(offset) > 1.0 else side
        centre = np.array(domain.centre_A) + offset + lift * axis
        parts.append(helix(residues, centre, axis * (-1.0) ** index, towards_axis))
    return join(parts)


def asymmetric(conformation: int = 1) -> Atoms:
    """Complex of four different domains without any symmetry, about 145 Å across, in two conformations.

    Conformation 2 differs by a turn of the head domain by 20° about a hinge. Both are in the frame of the
    first, whose centre of mass is the origin.

    Raises
    ------
    HalfmapError
        For a conformation other than 1 or 2.
    """
    if conformation not in (1, 2):
        raise HalfmapError(f"the asymmetric model has conformations 1 and 2, not {conformation}")
    rigid = [_bundle(domain) for domain in (_BODY, _SHOULDER, _ARM)]
    head = _bundle(_HEAD)
    centre = join([*rigid, head]).centre_of_mass_A()
    if conformation == 2:
        axis = np.array(_HINGE_AXIS) / np.linalg.norm(_HINGE_AXIS)
        turn = np.asarray(matrix_from_rotation_vector(HINGE_ANGLE_RAD * axis))
        hinge = np.array(_HINGE_A)
        head = head.moved(np.eye(3), -hinge).moved(turn, hinge)
    return join([*rigid, head]).moved(np.eye(3), -centre)


@dataclass(frozen=True, eq=False)
class GaussianPhantom:
    """Sum of isotropic Gaussians: its samples, projections and Fourier transform have closed forms.

    ``density(r) = Σ amplitude · exp(−|r − position|² / 2 sigma²)``, ``position_A`` ``[n, 3]`` in the order x, y, z.
    """

    amplitude: Float[np.ndarray, " n"]
    position_A: Float[np.ndarray, "n 3"]
    sigma_A: Float[np.ndarray, " n"]

    @classmethod
    def random(cls, count: int, extent_A: float, sigma_A: tuple[float, float], seed: int) -> GaussianPhantom:
        """Positive blobs inside a ball of radius ``extent_A``, standard deviations in the given range."""
        generator = np.random.default_rng(seed)
        direction = generator.standard_normal((count, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        radius = extent_A * generator.random(count) ** (1.0 / 3.0)
        return cls(generator.uniform(0.5, 1.5, count), direction * radius[:, None], generator.uniform(*sigma_A, count))

    def volume(self, box_px: int, pixel_size_A: float) -> Float[np.ndarray, "{box_px} {box_px} {box_px}"]:
        """Samples ``[z, y, x]`` on a grid whose origin is voxel ``box_px // 2``, float64."""
        axis = (np.arange(box_px) - box_px // 2) * pixel_size_A
        x, y, z = (_profile(axis, self.position_A[:, i], self.sigma_A) for i in range(3))
        volume: FloatArray = np.einsum("n,nz,ny,nx->zyx", self.amplitude, z, y, x, optimize=True)
        return volume

    def projection(
        self, rot_img_from_map: Float[np.ndarray, "3 3"], box_px: int, pixel_size_A: float
    ) -> Float[np.ndarray, "{box_px} {box_px}"]:
        """Line integral ``[y, x]`` along the beam of the map turned by ``rot_img_from_map``, density × Å."""
        axis = (np.arange(box_px) - box_px // 2) * pixel_size_A
        seen = self.position_A @ np.asarray(rot_img_from_map).T
        x, y = (_profile(axis, seen[:, i], self.sigma_A) for i in range(2))
        along_beam = self.amplitude * np.sqrt(2.0 * np.pi) * self.sigma_A
        projection: FloatArray = np.einsum("n,ny,nx->yx", along_beam, y, x, optimize=True)
        return projection

    def transform(self, frequency_per_A: Float[np.ndarray, "*grid 3"]) -> Complex[np.ndarray, "*grid"]:
        """Fourier transform at frequencies ``[..., 3]`` in the order x, y, z: ``∫ density exp(−2πi k·r) d³r``."""
        k = np.asarray(frequency_per_A)
        k2 = np.sum(k**2, axis=-1)[..., None]
        weight = self.amplitude * (2.0 * np.pi) ** 1.5 * self.sigma_A**3
        envelope = np.exp(-2.0 * np.pi**2 * self.sigma_A**2 * k2)
        transform: Array = np.sum(weight * envelope * np.exp(-2j * np.pi * (k @ self.position_A.T)), axis=-1)
        return transform


def _profile(axis_A: FloatArray, centre_A: FloatArray, sigma_A: FloatArray) -> FloatArray:
    """One-dimensional Gaussians ``[n, axis]``."""
    profile: FloatArray = np.exp(-((axis_A[None] - centre_A[:, None]) ** 2) / (2.0 * sigma_A[:, None] ** 2))
    return profile
