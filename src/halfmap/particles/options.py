"""Options of extraction and selection."""

from __future__ import annotations

from pathlib import Path

from halfmap.optics.options import OpticsOptions
from halfmap.options import Options, option


class ExtractOptions(OpticsOptions):
    """Options of ``halfmap extract``."""

    diameter_A: float | None = option(
        None, help="Longest diameter of the particle; the one that picking wrote if absent.", ge=20, le=5000
    )
    micrographs: Path | None = option(
        None, help="STAR of micrographs with CTF, for coordinates that do not bring it along."
    )
    local_defocus: bool = option(
        True, help="Give each particle the defocus that the surface of its micrograph has at its place."
    )
    resolution_A: float | None = option(
        None, help="Finest detail that the box must hold; 3 Å, or Nyquist if that is coarser, if absent.", gt=0, le=100
    )
    box_px: int | None = option(
        None,
        help="Box in micrograph pixels, even; diameter + 2λΔf/resolution if absent.",
        ge=16,
        le=4096,
        multiple_of=2,
    )
    binned_pixel_size_A: float | None = option(
        None, help="Pixel size to bin the images to (Fourier cropping).", gt=0, le=100
    )
    binned_box_px: int | None = option(
        None, help="Box to bin the images to, in place of a pixel size.", ge=16, le=4096, multiple_of=2
    )


class SelectOptions(Options):
    """Options of ``halfmap select``."""

    keep: str = option(
        "",
        help="Classes to keep, such as 1,4,7-9; chosen automatically if absent.",
        pattern=r"^(\d+(-\d+)?(,\d+(-\d+)?)*)?$",
    )
    min_score: float = option(0.5, help="Quality from 0 to 1 that a class needs to be kept automatically.", ge=0, le=1)
    where: tuple[str, ...] = option(
        (), help="Conditions on columns that particles must fulfil, such as 'defocus_u_A<30000'."
    )
