"""The electron as a wave."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from halfmap.constants import ELECTRON_MASS_KG, ELEMENTARY_CHARGE_C, PLANCK_J_S, SPEED_OF_LIGHT_M_PER_S

_METRE_A = 1e10


def wavelength_A(voltage_kV: Tensor | float) -> Tensor:
    """Relativistic wavelength in Å of electrons accelerated by a voltage in kV (float64).

    λ = h / sqrt(2 m e V (1 + e V / 2 m c²)).

    >>> [round(float(wavelength_A(kV)), 7) for kV in (300.0, 200.0, 100.0)]
    [0.0196875, 0.0250793, 0.0370144]
    """
    energy_J = torch.as_tensor(voltage_kV, dtype=torch.float64) * (1e3 * ELEMENTARY_CHARGE_C)
    rest_energy_J = ELECTRON_MASS_KG * SPEED_OF_LIGHT_M_PER_S**2
    momentum = torch.sqrt(2.0 * ELECTRON_MASS_KG * energy_J * (1.0 + energy_J / (2.0 * rest_energy_J)))
    return PLANCK_J_S * _METRE_A / momentum


def relativistic_mass_ratio(voltage_kV: float) -> float:
    """Ratio of relativistic to rest mass of the electron, 1 + e V / m c²."""
    return 1.0 + voltage_kV * 1e3 * ELEMENTARY_CHARGE_C / (ELECTRON_MASS_KG * SPEED_OF_LIGHT_M_PER_S**2)


def interaction_constant_rad_per_VA(voltage_kV: float) -> float:
    """Phase in rad that a potential of 1 V over 1 Å adds to the wave: 2π m e λ / h²  (σ_e)."""
    mass_kg = ELECTRON_MASS_KG * relativistic_mass_ratio(voltage_kV)
    wavelength_m = float(wavelength_A(voltage_kV)) / _METRE_A
    return 2.0 * math.pi * mass_kg * ELEMENTARY_CHARGE_C * wavelength_m / PLANCK_J_S**2 / _METRE_A
