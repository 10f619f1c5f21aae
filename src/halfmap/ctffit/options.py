"""Options of the CTF fit."""

from __future__ import annotations

from halfmap.optics.options import OpticsOptions
from halfmap.options import option


class CtfOptions(OpticsOptions):
    """Where to look for the CTF of micrographs."""

    min_defocus_A: float = option(3000.0, help="Smallest mean defocus looked for.", ge=0.0, le=200000.0)
    max_defocus_A: float = option(50000.0, help="Largest mean defocus looked for.", gt=0.0, le=200000.0)
    max_astigmatism_A: float = option(
        2000.0, help="Largest difference of the two defoci looked for at first.", advanced=True, ge=0.0, le=20000.0
    )
    min_resolution_A: float = option(30.0, help="Coarsest resolution used for the fit.", gt=0.0, le=200.0)
    max_resolution_A: float = option(4.0, help="Finest resolution used for the fit.", gt=0.0, le=50.0)
    phase_shift: bool = option(False, help="Also look for the phase shift of a phase plate, over 180 degrees.")
    local: bool = option(
        True, help="Also fit how defocus changes over the micrograph: tilt, and curvature where the data show it."
    )
    power_spectra: bool = option(
        True, help="Fit the summed power spectra of the movies where the table names them.", advanced=True
    )
