"""The point group, as every step that knows symmetry asks for it."""

from __future__ import annotations

from halfmap.options import Options, option


class SymmetryOptions(Options):
    """Point group of the particle."""

    symmetry: str = option(
        "C1",
        help="Point group: C1, C4, D2, T, O, I, ... (RELION's axes).",
        pattern=r"^([CcDd][1-9][0-9]*|[Tt]|[Oo]|[Ii][1-4]?)$",
    )
