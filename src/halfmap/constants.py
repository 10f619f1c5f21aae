"""Physical constants (CODATA 2018, exact in SI since 2019 except the electron mass)."""

from typing import Final

PLANCK_J_S: Final = 6.62607015e-34
ELECTRON_MASS_KG: Final = 9.1093837015e-31
ELEMENTARY_CHARGE_C: Final = 1.602176634e-19
SPEED_OF_LIGHT_M_PER_S: Final = 299792458.0

FSC_HALF_MAP_THRESHOLD: Final = 0.143
"""Resolution threshold between independent halves (Rosenthal & Henderson 2003)."""
FSC_TRUTH_THRESHOLD: Final = 0.5
"""Resolution threshold of a full map against the truth or a model."""
PIXEL_SIZE_TOLERANCE: Final = 1e-3
"""Relative disagreement of two pixel sizes of one thing above which reading it is an error."""
