"""Options of the motion correction."""

from __future__ import annotations

from pathlib import Path

from halfmap.optics.options import OpticsOptions
from halfmap.options import option


class MotionOptions(OpticsOptions):
    """How movies become micrographs."""

    gain: Path | None = option(None, help="Gain reference that frames are multiplied with (MRC, TIFF or .gain).")
    binning: float = option(1.0, help="Bin by Fourier cropping, 2 for super-resolution movies.", ge=1.0, le=8.0)
    dose_weighting: bool = option(True, help="Weight frequencies by the damage they have taken.")
    dose_total_e_per_A2: float | None = option(
        None,
        help="Exposure of the whole movie, to group the camera frames of EER files into --dose-per-frame; "
        "from the file if not given.",
        gt=0.0,
        le=10000.0,
    )
    pre_exposure_e_per_A2: float = option(
        0.0, help="Exposure before the first frame.", advanced=True, ge=0.0, le=1000.0
    )
    save_unweighted: bool = option(False, help="Also write the sum without dose weighting (_noDW).", advanced=True)
    local: bool = option(True, help="Correct local motion too, where patches left out confirm it.")
    patches: int | None = option(
        None, help="Patches along the longer edge of the frame; chosen if not given.", advanced=True, ge=2, le=16
    )
    save_halves: bool = option(
        False, help="Also write sums of the odd and of the even frames, to train denoisers with.", advanced=True
    )
    float16: bool = option(False, help="Write micrographs with 16 bits a pixel (MRC mode 12).", advanced=True)
    max_shift_A: float = option(
        80.0, help="Largest motion looked for between any two frames.", advanced=True, gt=0.0, le=1000.0
    )
