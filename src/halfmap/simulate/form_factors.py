"""How single atoms scatter electrons, and the solvent that they displace."""

from __future__ import annotations

from typing import Final

import gemmi
import numpy as np

from halfmap.constants import ELECTRON_MASS_KG, ELEMENTARY_CHARGE_C, PLANCK_J_S
from halfmap.errors import HalfmapError
from halfmap.optics.electron import interaction_constant_rad_per_VA
from halfmap.typing import FloatArray

POTENTIAL_PER_FORM_FACTOR_V_A2: Final = 1e20 * PLANCK_J_S**2 / (2 * np.pi * ELECTRON_MASS_KG * ELEMENTARY_CHARGE_C)
"""h²/(2π m e) = 47.878 V·Å²: electron form factor in Å -> transform of the potential in V·Å³."""

_ICE_G_PER_CM3: Final = 0.94
"""Density of vitreous ice."""
_WATER_PER_A3: Final = _ICE_G_PER_CM3 / 18.015 * 0.602214

_DISPLACED_VOLUME_A3: Final = {"H": 5.15, "D": 5.15, "C": 16.44, "N": 2.49, "O": 9.13, "S": 19.86, "P": 5.73}
"""Solvent displaced by an atom (Fraser, MacRae & Suzuki 1978, J. Appl. Cryst. 11, 693, table 1)."""
_DISPLACED_BY_OTHERS_A3: Final = 8.0
_IMPLICIT_HYDROGENS: Final = {"C": 1.35, "N": 0.95, "O": 0.2}
"""Mean number of hydrogens bound to a heavy atom of a protein."""
_BOND_TO_HYDROGEN_A: Final = 1.05


def form_factor_A(element: str, frequency_per_A: FloatArray) -> FloatArray:
    """Electron form factor of a neutral atom in Å, same shape as the frequencies.

    Source: International Tables for Crystallography C (2006), table 4.3.2.2 (five Gaussians), from gemmi.

    Raises
    ------
    HalfmapError
        For an element without tabulated form factor.
    """
    coefficients = gemmi.Element(element).c4322
    if coefficients is None:
        raise HalfmapError(
            f"there is no electron form factor for the element {element!r}.", remedy="Remove or rename such atoms."
        )
    quarter_k2 = 0.25 * np.asarray(frequency_per_A) ** 2
    total: FloatArray = np.zeros_like(quarter_k2)
    for a, b in zip(coefficients.a, coefficients.b, strict=True):
        total += a * np.exp(-b * quarter_k2)
    return total


def water_form_factor_A(frequency_per_A: FloatArray) -> FloatArray:
    """Form factor of a water molecule, averaged over its orientations, in Å."""
    k = np.asarray(frequency_per_A)
    water: FloatArray = form_factor_A("O", k) + 2.0 * form_factor_A("H", k) * np.sinc(2.0 * 0.96 * k)
    return water


ICE_POTENTIAL_V: Final = float(POTENTIAL_PER_FORM_FACTOR_V_A2 * _WATER_PER_A3 * water_form_factor_A(np.zeros(1))[0])
"""Mean inner potential of vitreous ice made of isolated atoms (4.57 V)."""


def potential_transform(
    element: str, frequency_per_A: FloatArray, *, solvent_V: float, with_hydrogens: bool
) -> FloatArray:
    """Transform in V·Å³ of the potential of one atom over that of the solvent it displaces.

    The displaced solvent is a Gaussian of the atom's volume (Fraser et al. 1978). ``with_hydrogens`` adds
    the mean number of hydrogens that the element carries in proteins, at the length of a bond in any direction:
    for models that leave hydrogens out.
    """
    k = np.asarray(frequency_per_A)
    scattering = form_factor_A(element, k)
    volume_A3 = _DISPLACED_VOLUME_A3.get(element, _DISPLACED_BY_OTHERS_A3)
    if with_hydrogens:
        hydrogens = _IMPLICIT_HYDROGENS.get(element, 0.0)
        scattering = scattering + hydrogens * form_factor_A("H", k) * np.sinc(2.0 * _BOND_TO_HYDROGEN_A * k)
        volume_A3 += hydrogens * _DISPLACED_VOLUME_A3["H"]
    displaced = solvent_V * volume_A3 * np.exp(-np.pi * volume_A3 ** (2.0 / 3.0) * k**2)
    transform: FloatArray = POTENTIAL_PER_FORM_FACTOR_V_A2 * scattering - displaced
    return transform


def ice_phase_variance_density(frequency_per_A: FloatArray, thickness_A: float, voltage_kV: float) -> FloatArray:
    """Power spectrum in rad²·Å² of the phase that a slab of vitreous ice gives to the electron wave.

    Independent molecules times a structure factor that is low at low frequency (water is nearly
    incompressible) and peaks at 1/3.7 Å, as in diffraction from vitreous ice (Dubochet et al. 1988,
    Q. Rev. Biophys. 21, 129).
    """
    k = np.asarray(frequency_per_A)
    structure = 0.15 + 0.85 * (1.0 - np.exp(-((k / 0.25) ** 4))) + 1.0 * np.exp(-(((k - 0.27) / 0.035) ** 2))
    per_molecule = interaction_constant_rad_per_VA(voltage_kV) * POTENTIAL_PER_FORM_FACTOR_V_A2 * water_form_factor_A(k)
    density: FloatArray = _WATER_PER_A3 * thickness_A * structure * per_molecule**2
    return density
