"""Options of masks that are made from maps."""

from __future__ import annotations

from halfmap.options import Options, option


class MaskOptions(Options):
    """How a mask is made from a map."""

    mask_low_pass_A: float = option(
        15.0, help="Low-pass filter before the threshold is applied.", advanced=True, gt=0, le=200
    )
    mask_threshold: float | None = option(
        None, help="Threshold on the low-passed map; decided from the map if not given.", advanced=True
    )
    mask_extend_A: float | None = option(
        None, help="Width by which the mask is extended; the larger of 6 Å and 3 pixels if not given.",
        advanced=True, ge=0, le=200,
    )  # fmt: skip
    mask_soft_edge_A: float | None = option(
        None, help="Width of the soft edge beyond; the larger of 10 Å and 6 pixels if not given.",
        advanced=True, ge=0, le=200,
    )  # fmt: skip
