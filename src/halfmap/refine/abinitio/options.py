"""Options of ab initio reconstruction."""

from __future__ import annotations

from halfmap.geometry.options import SymmetryOptions
from halfmap.options import option


class AbInitioOptions(SymmetryOptions):
    """How a first map is found from particles alone."""

    diameter_A: float | None = option(
        None, help="Diameter of the particle; three quarters of the box if not given.", gt=0
    )
    classes: int = option(
        1, help="Maps that are sought together. Memory grows with their number, time with its square.", ge=1, le=20
    )
    resolution_A: float | None = option(
        None, help="Finest resolution used. If not given, 12 Å, and 9 Å where views cannot be told apart at 12 Å.",
        gt=0,
    )  # fmt: skip
    start_resolution_A: float = option(35.0, help="Resolution of the first passes.", gt=0, advanced=True)
    offset_range_A: float = option(
        10.0, help="Half the largest shift expected (standard deviation of its prior).", gt=0
    )
    starts: int = option(4, help="Independent random starts; the likeliest goes on.", ge=1, le=100)
    iterations: int = option(60, help="Steps of the start that is chosen in the end.", ge=8, advanced=True)
    max_particles: int = option(2000, help="Most particles used to find the map.", ge=50, advanced=True)
