"""The picks of a whole session: one threshold, outliers left out, one row a particle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.io.relion import stable_uids
from halfmap.optics.defocus_surface import SURFACE_COLUMNS
from halfmap.picking.blob import PickPlan
from halfmap.picking.contamination import too_strong
from halfmap.picking.threshold import choose_threshold, expected_false
from halfmap.typing import Array

PASSED_ON = (
    "micrograph_name", "optics_group", "half_set", "defocus_u_A", "defocus_v_A", "defocus_angle_rad", "phase_shift_rad",
    "ctf_bfactor_A2", "ctf_scale", "ctf_fit_resolution_A", "ctf_figure_of_merit", *SURFACE_COLUMNS,
)  # fmt: skip
"""Columns of a micrograph that each of its particles needs."""


@dataclass(frozen=True, eq=False)
class SessionPicks:
    """Particles of all micrographs, and what was counted on the way, one entry a micrograph."""

    coordinates: ImageSet
    threshold: float
    counts: list[dict[str, Any]]
    scores: list[float]
    control_scores: list[float]
    copies: int

    @property
    def expected_false(self) -> float:
        """Picks that noise of the same spectrum would have given."""
        return float(sum(count["expected_false"] for count in self.counts))

    def statistics(self) -> dict[str, Any]:
        """Everything counted, JSON-able."""
        return {
            "threshold": self.threshold,
            "copies": self.copies,
            "micrographs": self.counts,
            "scores": self.scores,
            "control_scores": self.control_scores,
        }


def collect(
    micrographs: ImageSet,
    results: Sequence[tuple[int, Mapping[str, Any]]],
    plan: PickPlan,
    *,
    max_false_frac: float,
    threshold: float | None,
) -> SessionPicks | None:
    """Choose the threshold over all micrographs and keep what reaches it.

    Parameters
    ----------
    micrographs
        The set that was picked in.
    results
        Rows of it, each with what :func:`halfmap.picking.blob.pick_micrograph` returned.
    plan
        The plan that they were picked with.
    max_false_frac, threshold
        Largest share of false picks, or the threshold itself if it was given.

    Returns
    -------
    SessionPicks or None
        None if nothing rises above the noise.
    """
    if not results:
        return None
    copies, diameter_A = plan.controls, plan.diameter_A
    scores = [np.array(result["score"], dtype=np.float64) for _, result in results]
    controls = [np.array(result["control"], dtype=np.float64) for _, result in results]
    if threshold is None:
        threshold = choose_threshold(np.concatenate(scores), np.concatenate(controls), copies, max_false_frac)
    if threshold is None or not any((score >= threshold).any() for score in scores):
        return None
    above = [score >= threshold for score in scores]
    strengths = [np.array(result["strength"], dtype=np.float64) for _, result in results]
    strong = too_strong(np.concatenate([s[keep] for s, keep in zip(strengths, above, strict=True)]))
    strong_parts = np.split(strong, np.cumsum([keep.sum() for keep in above])[:-1])
    tables, counts = [], []
    for (row, result), keep, dirt, control in zip(results, above, strong_parts, controls, strict=True):
        chosen = np.flatnonzero(keep)[~dirt]
        tables.append(_rows(micrographs, row, result, chosen, diameter_A))
        counts.append(
            {
                "micrograph": str(micrographs["micrograph_name"][row]),
                "particles": len(chosen),
                "expected_false": round(expected_false(control, copies, threshold), 2),
                "too_strong": int(dirt.sum()),
                "below_threshold": int((~keep).sum()),
                "at_edge": int(result["n_edge"]),
                "in_contamination": int(result["n_contaminated"]),
                "contaminated_frac": round(float(result["contaminated_frac"]), 4),
            }
        )
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    coordinates = ImageSet("coordinates", Table(joined), micrographs.optics)
    return SessionPicks(
        coordinates, threshold, counts, np.concatenate(scores).tolist(), np.concatenate(controls).tolist(), copies
    )


def _rows(
    micrographs: ImageSet, row: int, result: Mapping[str, Any], chosen: Array, diameter_A: float
) -> dict[str, Array]:
    """Columns of the picks of one micrograph, best first."""
    count = len(chosen)
    x, y = (np.array(result[name], dtype=np.float64)[chosen] for name in ("x_px", "y_px"))
    name = str(micrographs["micrograph_name"][row])
    columns = {c: np.repeat(micrographs.rows[c][row : row + 1], count) for c in PASSED_ON if c in micrographs.rows}
    uids = stable_uids([f"{xi},{yi}@{name}" for xi, yi in zip(x.tolist(), y.tolist(), strict=True)])
    return columns | {
        "uid": uids,
        "coordinate_x_px": x,
        "coordinate_y_px": y,
        "pick_figure_of_merit": np.array(result["score"], dtype=np.float64)[chosen],
        "particle_diameter_A": np.full(count, diameter_A),
    }
