"""Options of 2D classification."""

from __future__ import annotations

from halfmap.options import Options, option


class Class2DOptions(Options):
    """How particles are sorted into class averages."""

    classes: int = option(50, help="Number of classes.", ge=1, le=1000)
    diameter_A: float | None = option(
        None, help="Diameter of the circular mask; three quarters of the box if not given.", gt=0
    )
    resolution_A: float = option(6.0, help="Finest resolution used for the alignment.", gt=0)
    start_resolution_A: float = option(30.0, help="Resolution of the first passes.", gt=0, advanced=True)
    offset_range_A: float = option(
        10.0, help="Half the largest shift expected (standard deviation of its prior).", gt=0
    )
    iterations: int = option(20, help="Passes, mini-batches and full passes together.", ge=1)
    batch_per_class: int = option(15, help="Particles per class in the first mini-batches.", ge=1, advanced=True)
