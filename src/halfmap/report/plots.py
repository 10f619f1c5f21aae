"""Curves and distributions as SVG; every function takes arrays and returns the bytes of a picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from halfmap.constants import FSC_HALF_MAP_THRESHOLD, FSC_TRUTH_THRESHOLD
from halfmap.typing import Array
from halfmap.units import DEG

COLOURS = ("#1769aa", "#c4551a", "#19734a", "#8a3fa0", "#7a7a7a", "#b08900")


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs: Any) -> tuple[Any, Any]:
    """A matplotlib figure that knows no screen, and its axes."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, **kwargs)


def svg(figure: Any) -> bytes:
    """The figure as SVG, the same bytes each time."""
    from matplotlib import rc_context

    stream = io.BytesIO()
    with rc_context({"svg.hashsalt": "halfmap", "svg.fonttype": "path"}):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return stream.getvalue()


def png(figure: Any, dots_per_inch: int = 110) -> bytes:
    """The figure as PNG, for pictures made of pixels."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dots_per_inch)
    return stream.getvalue()


def fsc_plot(
    frequency_per_A: Array,
    curves: Mapping[str, Array],
    read_at_A: float | None = None,
    threshold: float = FSC_HALF_MAP_THRESHOLD,
) -> bytes:
    """Fourier shell correlations from shell 1 on, with the threshold, and the resolution if there is one."""
    figure, axes = new_figure(7.2, 3.8)
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(frequency_per_A[1:], values[1:], color=colour, label=name, linewidth=1.6)
    if read_at_A is not None and np.isfinite(read_at_A):
        axes.axvline(1 / read_at_A, color="#888", linewidth=0.8, linestyle=":")
    axes.axhline(threshold, color="#888", linewidth=0.8, linestyle="--")
    axes.text(frequency_per_A[-1], threshold + 0.015, f"{threshold:g}", ha="right", color="#666", fontsize=8)
    if threshold != FSC_TRUTH_THRESHOLD:
        axes.axhline(FSC_TRUTH_THRESHOLD, color="#bbb", linewidth=0.8, linestyle=":")
    axes.axhline(0, color="#ccc", linewidth=0.8)
    axes.set(xlim=(0, frequency_per_A[-1]), ylim=(-0.15, 1.05), ylabel="Fourier shell correlation")
    _resolution_axis(axes, float(frequency_per_A[-1]))
    axes.legend(frameon=False, loc="upper right")
    return svg(figure)


def _resolution_axis(axes: Any, highest_per_A: float) -> None:
    ticks = np.linspace(0, highest_per_A, 7)[1:]
    axes.set_xticks(ticks, [f"{tick:.3f}\n{1 / tick:.1f} Å" for tick in ticks])
    axes.set_xlabel("frequency (1/Å) and resolution")


def curve_plot(x: Array, curves: Mapping[str, Array], x_label: str, y_label: str) -> bytes:
    """Plain curves against one axis."""
    figure, axes = new_figure(7.2, 3.2)
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(x, values, color=colour, label=name, linewidth=1.4)
    axes.set(xlabel=x_label, ylabel=y_label)
    if len(curves) > 1:
        axes.legend(frameon=False)
    return svg(figure)


def ctf_plot(frequency_per_A: Array, curves: Mapping[str, Array], fit_resolution_A: float) -> bytes:
    """Averaged spectrum and its fit, with the resolution to which the fit holds."""
    figure, axes = new_figure(7.2, 2.6)
    for colour, (name, values) in zip(COLOURS, curves.items(), strict=False):
        axes.plot(frequency_per_A, values, color=colour, label=name, linewidth=1.2)
    if np.isfinite(fit_resolution_A) and fit_resolution_A > 0:
        axes.axvline(1 / fit_resolution_A, color="#888", linewidth=0.9, linestyle="--")
    axes.set_xlim(0, float(frequency_per_A[-1]))
    _resolution_axis(axes, float(frequency_per_A[-1]))
    axes.legend(frameon=False, loc="upper right")
    return svg(figure)


def histogram_plot(panels: Mapping[str, Array]) -> bytes:
    """Histograms side by side; the key is the label of the axis."""
    figure, axes = new_figure(3.4 * len(panels), 2.6, 1, len(panels), squeeze=False)
    for axis, (label, values) in zip(axes[0], panels.items(), strict=True):
        finite = np.asarray(values, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        axis.hist(finite, bins=min(40, max(5, int(np.sqrt(finite.size)) * 2)), color=COLOURS[0])
        axis.set(xlabel=label, ylabel="count")
    return svg(figure)


def score_plot(scores: Array, control_scores: Array, copies: int, threshold: float) -> bytes:
    """Scores of places against those that signal-free copies have, a copy, and where picks begin."""
    figure, axis = new_figure(6.4, 2.8)
    values = np.asarray(scores, dtype=np.float64)
    lowest, highest = float(values.min(initial=threshold)), float(values.max(initial=threshold))
    edges = np.linspace(lowest, highest + 1e-6, 60)
    axis.hist(values, edges, color=COLOURS[0], label="micrographs")
    control = np.asarray(control_scores, dtype=np.float64)
    weights = np.full(control.size, 1.0 / copies)
    axis.hist(control, edges, weights=weights, histtype="step", color=COLOURS[1], label="signal-free copies")
    axis.axvline(threshold, color="0.3", linestyle="--", linewidth=1, label=f"picks from {threshold:.2f}")
    axis.set(xlabel="score (in units of the noise)", ylabel="places", yscale="log")
    axis.set_ylim(bottom=0.5)
    axis.legend(frameon=False, fontsize=8)
    return svg(figure)


def motion_plot(tracks_A: Sequence[Array], names: Sequence[str]) -> bytes:
    """Whole-frame trajectories ``[frames, (x, y)]`` of several movies; the dot is the first frame."""
    figure, axes = new_figure(5.2, 4.6)
    for index, (track, name) in enumerate(zip(tracks_A, names, strict=True)):
        label = name if len(names) <= 12 else None
        axes.plot(track[:, 0], track[:, 1], linewidth=1.1, label=label, color=_spread_colour(index, len(names)))
        axes.plot(track[:1, 0], track[:1, 1], "o", markersize=3.5, color=_spread_colour(index, len(names)))
    axes.set(xlabel="x (Å)", ylabel="y (Å)", aspect="equal")
    axes.invert_yaxis()
    if len(names) <= 12:
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return svg(figure)


def patch_plot(
    places_px: Array, measured_px: Array, model_px: Array | None, shape: tuple[int, int], exaggerated: float
) -> bytes:
    """Local paths of patches about their places in the frame: what each tells by itself, and the surface through them.

    ``places_px [p, 2]``, ``measured_px`` and ``model_px [p, frames, 2]`` (drawn ``exaggerated`` times), ``shape``
    rows and columns of the frame; the dot is the first frame.
    """
    figure, axes = new_figure(5.6, 0.4 + 5.0 * min(1.4, shape[0] / shape[1]))
    for index, place in enumerate(places_px):
        axes.plot(*(place + exaggerated * measured_px[index]).T, color=COLOURS[1], linewidth=0.9, alpha=0.7)
        if model_px is not None:
            axes.plot(*(place + exaggerated * model_px[index]).T, color=COLOURS[0], linewidth=1.5)
        axes.plot(*place, "o", color="#444", markersize=2.5)
    axes.set(xlim=(0, shape[1]), ylim=(shape[0], 0), xlabel="x (px)", ylabel="y (px)", aspect="equal")
    return svg(figure)


def _spread_colour(index: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["viridis"](0.9 * index / max(1, count - 1))


def orientation_plot(rot_rad: Array, tilt_rad: Array) -> bytes:
    """Views on the sphere (Mollweide): how often each direction is seen, per equal area."""
    figure, axes = new_figure(7.2, 3.8, subplot_kw={"projection": "mollweide"})
    rot_edges = np.linspace(-np.pi, np.pi, 49)
    latitude_edges = np.arcsin(np.linspace(-1, 1, 25))
    rot = np.mod(np.asarray(rot_rad) + np.pi, 2 * np.pi) - np.pi
    counts, _, _ = np.histogram2d(rot, np.pi / 2 - np.asarray(tilt_rad), bins=(rot_edges, latitude_edges))
    mesh = axes.pcolormesh(rot_edges, latitude_edges, counts.T, cmap="viridis", rasterized=True)
    figure.colorbar(mesh, ax=axes, label="particles in cells of equal area", shrink=0.8)
    axes.set_xticks(np.array([-120, -60, 0, 60, 120]) * DEG)
    axes.tick_params(labelsize=7, colors="#999")
    axes.grid(visible=True, linewidth=0.3)
    return svg(figure)


def guinier_plot(
    inverse_square_per_A2: Array, ln_amplitude: Array, slope_A2: float | None, intercept: float | None
) -> bytes:
    """Logarithm of the amplitudes against squared frequency, and the fitted line, whose slope is -B / 4."""
    figure, axes = new_figure(6.4, 3.0)
    axes.plot(inverse_square_per_A2, ln_amplitude, color=COLOURS[0], linewidth=1.4)
    if slope_A2 is not None and intercept is not None:
        line = intercept + slope_A2 * inverse_square_per_A2
        axes.plot(inverse_square_per_A2, line, color=COLOURS[1], linewidth=1.0, label=f"B = {-4 * slope_A2:.0f} Å²")
        axes.legend(frameon=False)
    axes.set(xlabel="squared frequency (1/Å²)", ylabel="ln amplitude")
    axes.set_ylim(np.min(ln_amplitude) - 0.5, np.max(ln_amplitude) + 0.5)
    return svg(figure)
