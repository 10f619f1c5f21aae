"""Options of curation."""

from __future__ import annotations

from pathlib import Path

from halfmap.options import Options, option


class CurateOptions(Options):
    """Options of ``halfmap curate``."""

    max_fit_resolution_A: float | None = option(
        None, help="Coarsest resolution to which the CTF has to fit.", gt=0, le=1000
    )
    min_defocus_A: float | None = option(None, help="Smallest mean defocus.", ge=-100_000, le=200_000)
    max_defocus_A: float | None = option(None, help="Largest mean defocus.", ge=-100_000, le=200_000)
    max_astigmatism_A: float | None = option(
        None, help="Largest difference of the two defocus values.", ge=0, le=100_000
    )
    max_motion_total_A: float | None = option(None, help="Largest accumulated motion.", ge=0, le=10_000)
    max_motion_early_A: float | None = option(
        None, help="Largest accumulated motion of the first 4 e/Å².", ge=0, le=10_000
    )
    max_ice_ring: float | None = option(
        None, help="Largest density of the ice ring (rlnCtfIceRingDensity), where the table has it.", ge=0
    )
    min_intensity: float | None = option(None, help="Smallest mean of a micrograph, in its own grey values.")
    max_intensity: float | None = option(None, help="Largest mean of a micrograph, in its own grey values.")
    intensity: bool = option(True, help="Read the micrographs for their mean; without it none is opened.")
    where: tuple[str, ...] = option(
        (), help="Conditions on any column that micrographs must fulfil, such as 'ctf_figure_of_merit>0.1'."
    )
    outlier_spreads: float = option(
        5.0,
        help="Where no limit is given, leave out what lies this many robust standard deviations of its own side "
        "beyond the median; 0 to go by the given limits alone.",
        ge=0,
        le=100,
    )
    keep: tuple[str, ...] = option((), help="Micrographs to keep whatever is found (names, with or without folders).")
    leave_out: tuple[str, ...] = option((), help="Micrographs to leave out whatever is found.")
    keep_list: Path | None = option(None, help="The same as --keep from a file: STAR, or one name a line.")
    leave_out_list: Path | None = option(None, help="The same as --leave-out from a file: STAR, or one name a line.")
