"""The microscope's constants as options, for inputs that do not bring them along."""

from __future__ import annotations

from halfmap.options import Options, option


class OpticsOptions(Options):
    """Mix into the options of a step that takes bare image files as well as STAR files.

    A value given here and one that stands in the input must agree within 0.1 %.
    """

    pixel_size_A: float | None = option(
        None, help="Pixel size of the input images; needed when neither STAR nor header states it.", gt=0, le=100
    )
    voltage_kV: float | None = option(
        None, help="Acceleration voltage; needed for files without a STAR.", ge=20, le=1500
    )
    cs_mm: float | None = option(None, help="Spherical aberration; needed for files without a STAR.", ge=0, le=20)
    amplitude_contrast: float | None = option(
        None, help="Fraction of amplitude contrast; 0.1 where nothing states it.", ge=0, lt=1
    )
    dose_per_frame_e_per_A2: float | None = option(
        None, help="Exposure of one movie frame (of one fraction for EER).", gt=0, le=100
    )
