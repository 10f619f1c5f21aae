"""What micrographs are judged by, and where the limits lie when nobody gives them.

The automatic rule, for each quantity by itself: an outlier lies beyond the median by more than ``k`` robust
standard deviations, and by more than a margin within which nobody would care. The standard deviation is
1.4826 times the median distance from the median of the values on that side (motion and resolution are
skewed; a normal distribution has its own standard deviation on both sides). Outliers on one side can be up to
a quarter of all values before they hide one another, and fewer than ``FEWEST`` values judge nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from halfmap.curation.options import CurateOptions
from halfmap.data.conditions import column_of
from halfmap.data.records import ImageSet
from halfmap.typing import FloatArray

FEWEST: Final = 8
MAD_OF_NORMAL: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""
INTENSITY: Final = "intensity"

Rule = Literal["given", "automatic", ""]


@dataclass(frozen=True)
class Criterion:
    """One quantity of a micrograph, and on which sides it can be bad."""

    code: str
    label: str
    """As axes and tables show it, with the unit."""
    values: Callable[[ImageSet], FloatArray | None]
    """One number a row, in the unit of the options; None where the table does not tell."""
    low: bool
    high: bool
    margin: float = 0.0
    """Least distance of an automatic limit from the median, in the quantity's unit."""
    margin_frac: float = 0.0
    """The same as a share of the median's size; the larger of the two counts."""

    def given(self, options: CurateOptions) -> tuple[float | None, float | None]:
        """Limits that the user has set: smallest and largest."""
        return tuple(_option(options, f"{side}_{self.code}") for side in ("min", "max"))  # type: ignore[return-value]


@dataclass(frozen=True)
class Limits:
    """Smallest and largest value that is kept (None: no limit), and who says so."""

    low: float | None
    high: float | None
    low_rule: Rule = ""
    high_rule: Rule = ""


def _option(options: CurateOptions, bare: str) -> float | None:
    value: float | None = getattr(options, bare, getattr(options, f"{bare}_A", None))
    return value


def _column(name: str) -> Callable[[ImageSet], FloatArray | None]:
    return lambda images: column_of(images, name)


def _mean_defocus_A(images: ImageSet) -> FloatArray | None:
    u, v = column_of(images, "defocus_u_A"), column_of(images, "defocus_v_A")
    return None if u is None or v is None else (u + v) / 2.0


def _astigmatism_A(images: ImageSet) -> FloatArray | None:
    u, v = column_of(images, "defocus_u_A"), column_of(images, "defocus_v_A")
    return None if u is None or v is None else np.abs(u - v)


CRITERIA: Final = (
    Criterion("fit_resolution", "CTF fit resolution (Å)", _column("ctf_fit_resolution_A"), False, True,
              margin_frac=0.5),
    Criterion("defocus", "mean defocus (Å)", _mean_defocus_A, True, True, margin=5000.0),
    Criterion("astigmatism", "astigmatism (Å)", _astigmatism_A, False, True, margin=500.0),
    Criterion("motion_total", "total motion (Å)", _column("motion_total_A"), False, True, margin_frac=1.0),
    Criterion("motion_early", "early motion (Å)", _column("motion_early_A"), False, True, margin_frac=1.0),
    Criterion("ice_ring", "ice ring density", _column("rlnCtfIceRingDensity"), False, True, margin=0.05),
    Criterion(INTENSITY, "mean grey value", lambda images: None, True, True, margin_frac=0.25),
)  # fmt: skip
"""Intensity is measured from the pixels and given from outside."""


def limits_of(criterion: Criterion, values: FloatArray, options: CurateOptions) -> Limits:
    """The limits given, and automatic ones on the sides without.

    Parameters
    ----------
    criterion
        What the values are.
    values
        One a micrograph; those that are not finite are ignored.
    options
        Limits given, and ``outlier_spreads``.
    """
    low, high = criterion.given(options)
    automatic = automatic_limits(
        values, options.outlier_spreads, margin=criterion.margin, margin_frac=criterion.margin_frac
    )
    low_rule: Rule = "given" if low is not None else ""
    high_rule: Rule = "given" if high is not None else ""
    if automatic is not None:
        if low is None and criterion.low:
            low, low_rule = automatic[0], "automatic"
        if high is None and criterion.high:
            high, high_rule = automatic[1], "automatic"
    return Limits(low, high, low_rule, high_rule)


def automatic_limits(
    values: FloatArray, spreads: float, *, margin: float = 0.0, margin_frac: float = 0.0
) -> tuple[float, float] | None:
    """Limits of the rule that the module states; None for too few values, or ``spreads`` 0."""
    finite = values[np.isfinite(values)]
    if spreads == 0 or len(finite) < FEWEST:
        return None
    median = float(np.median(finite))
    least = max(margin, margin_frac * abs(median))
    below, above = median - finite[finite <= median], finite[finite >= median] - median
    reach = [max(spreads * MAD_OF_NORMAL * float(np.median(side)), least) for side in (below, above)]
    return median - reach[0], median + reach[1]
