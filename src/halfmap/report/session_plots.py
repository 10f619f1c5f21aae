"""How a collection goes: quantities over the order of the micrographs, with the limits within which they are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from halfmap.report.plots import COLOURS, new_figure, svg
from halfmap.typing import Array


@dataclass(frozen=True, eq=False)
class Judged:
    """One quantity of all micrographs and its limits."""

    label: str
    values: Array
    low: float | None
    high: float | None


def judged_plot(quantities: Sequence[Judged], left_out: Array) -> bytes:
    """For each quantity its histogram and its course, limits dashed, what is left out in another colour."""
    figure, axes = new_figure(9.4, 1.9 * len(quantities), len(quantities), 2, squeeze=False, width_ratios=(1, 2))
    order = np.arange(1, len(left_out) + 1)
    for (left, right), judged in zip(axes, quantities, strict=True):
        values = np.asarray(judged.values, dtype=np.float64)
        finite = np.isfinite(values)
        edges = np.histogram_bin_edges(values[finite], bins=min(40, max(5, 2 * int(np.sqrt(finite.sum())))))
        parts = [values[finite & ~left_out], values[finite & left_out]]
        left.hist(parts, edges, stacked=True, color=COLOURS[:2])
        left.set(xlabel=judged.label, ylabel="micrographs")
        for mask, colour, name in ((~left_out, COLOURS[0], "kept"), (left_out, COLOURS[1], "left out")):
            right.plot(order[mask & finite], values[mask & finite], ".", color=colour, markersize=4, label=name)
        for limit in (judged.low, judged.high):
            if limit is not None and _near(limit, values[finite]):
                left.axvline(limit, color="0.3", linestyle="--", linewidth=1)
                right.axhline(limit, color="0.3", linestyle="--", linewidth=1)
        right.set(xlabel="micrograph, in the order of the table", ylabel=judged.label)
    axes[0, 1].legend(frameon=False, fontsize=8, loc="upper right")
    return svg(figure)


def _near(limit: float, values: Array) -> bool:
    """Whether a limit lies where drawing it does not squeeze the values into a corner."""
    low, high = float(values.min()), float(values.max())
    reach = max(high - low, 0.1 * abs(high), 1e-12)
    return low - reach <= limit <= high + reach


def course_plot(panels: Mapping[str, tuple[Array, Array]], x_label: str) -> bytes:
    """Quantities over time, one below the other, on one axis; values that are not finite are not drawn.

    ``panels`` holds times and values by the label of the quantity.
    """
    figure, axes = new_figure(9.4, 1.5 * len(panels) + 0.3, len(panels), 1, squeeze=False, sharex=True)
    for axis, (label, (times, values)) in zip(axes[:, 0], panels.items(), strict=True):
        axis.plot(times, values, ".", color=COLOURS[0], markersize=4)
        axis.set_ylabel(label.replace(" (", "\n("), fontsize=8)
    axes[-1, 0].set_xlabel(x_label)
    return svg(figure)
