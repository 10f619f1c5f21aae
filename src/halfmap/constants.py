"""Physical constants (CODATA 2018, exact in SI since 2019 except the electron mass)."""

from typing import Final

PLANCK_J_S: Final = 6.62607015e-34
ELECTRON_MASS_KG: Final = 9.1093837015e-31
ELEMENTARY_CHARGE_C: Final = 1.602176634e-19
SPEED_OF_LIGHT_M_PER_S: Final = 299792458.0

FSC_HALF_MAP_THRESHOLD: Final = 0.143
"""Resolution threshold between independent halves (Rosenthal & Henderson 2003)."""
FSC_HALF_MAP_RECOVERED: Final = 0.25
"""Twice the signal-to-noise ratio of that threshold: what shells beyond a fall must show for a resolution to be read
past it. Halves may share a little that is not signal, and a curve that lingers about the threshold proves nothing."""
FSC_TRUTH_THRESHOLD: Final = 0.5
"""Resolution threshold of a full map against the truth or a model."""
PIXEL_SIZE_TOLERANCE: Final = 1e-3
"""Relative disagreement of two pixel sizes of one thing above which reading it is an error."""
