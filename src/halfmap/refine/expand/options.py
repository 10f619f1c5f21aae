"""Options of symmetry expansion."""

from __future__ import annotations

from halfmap.geometry.options import SymmetryOptions


class ExpandOptions(SymmetryOptions):
    """Symmetry expansion of refined particles."""
