"""Split a table of micrographs into those that are kept and those that are left out, each with its reasons."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from halfmap.curation.criteria import CRITERIA, INTENSITY, Criterion, Limits, limits_of
from halfmap.curation.options import CurateOptions
from halfmap.data.conditions import fulfils
from halfmap.data.names import rows_by_name
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import HalfmapError
from halfmap.io.relion import read_image_set
from halfmap.typing import Array, FloatArray

REASON_LABEL: Final = "halfmapReason"
VALUE_LABEL: Final = "halfmapReasonValue"
LIMIT_LABEL: Final = "halfmapReasonLimit"


@dataclass(frozen=True)
class Reason:
    """Why a micrograph is left out: a code, what it has, what was allowed, and who set that."""

    code: str
    value: float | None
    limit: str
    rule: str


@dataclass(frozen=True, eq=False)
class Curation:
    """The kept and the left out, and everything that was judged."""

    names: list[str]
    """Of the whole table, in its order."""
    kept: ImageSet
    excluded: ImageSet
    """With the columns of the reasons."""
    reasons: dict[str, list[Reason]]
    """Of each micrograph left out."""
    spared: dict[str, list[Reason]]
    """What speaks against micrographs that are kept on request."""
    quantities: dict[str, tuple[Criterion, FloatArray, Limits]]
    """By code, for the whole table in its order."""

    def counts(self) -> dict[str, int]:
        """Micrographs by the first of their reasons, the commonest reason first."""
        return dict(Counter(found[0].code for found in self.reasons.values()).most_common())

    def record(self) -> dict[str, Any]:
        """All that was judged, JSON-able."""
        return {
            "micrographs": self.names,
            "left_out": {name: [asdict(reason) for reason in found] for name, found in self.reasons.items()},
            "kept_on_request": {name: [asdict(reason) for reason in found] for name, found in self.spared.items()},
            "quantities": {
                code: {
                    "label": criterion.label,
                    "values": [value if np.isfinite(value) else None for value in values.tolist()],
                    **asdict(limits),
                }
                for code, (criterion, values, limits) in self.quantities.items()
            },
        }


def curate(
    micrographs: ImageSet, intensity: FloatArray | None, unreadable: Mapping[int, str], options: CurateOptions
) -> Curation:
    """Judge every micrograph; nothing is lost: each row is kept or left out with at least one reason.

    Parameters
    ----------
    micrographs
        The table; criteria whose columns it lacks are not applied.
    intensity
        Mean grey value a row (NaN where unknown), or None if it was not measured.
    unreadable
        Rows whose file could not be read, with the error.
    options
        Limits, the automatic rule, and what is kept or left out on request.

    Raises
    ------
    HalfmapError
        A limit on something that the table does not have, limits that leave nothing, or a request
        for a micrograph that is not there or for both sides.
    """
    names = micrographs["micrograph_name"].tolist()
    kept_on_request = _requested(names, options.keep, options.keep_list, "keep")
    left_on_request = _requested(names, options.leave_out, options.leave_out_list, "leave-out")
    both = sorted(names[row] for row in kept_on_request & left_on_request)
    if both:
        raise HalfmapError(f"{both[0]} is to be kept and to be left out.", remedy="Name it once.")
    quantities = _quantities(micrographs, intensity, options)
    found: list[list[Reason]] = [[] for _ in names]
    for row, error in unreadable.items():
        found[row].append(Reason("unreadable", None, error, "given"))
    for code, (_, values, limits) in quantities.items():
        for row, value in enumerate(values.tolist()):
            if row not in unreadable or code != INTENSITY:
                found[row] += _against(code, value, limits)
    for condition in options.where:
        for row in np.flatnonzero(~fulfils(micrographs, condition)).tolist():
            found[row].append(Reason("where", None, condition.replace(" ", ""), "given"))
    for row in left_on_request:
        found[row].append(Reason("on_request", None, "", "given"))
    spared = {names[row]: found[row] for row in sorted(kept_on_request) if found[row]}
    keep = np.array([not reasons or row in kept_on_request for row, reasons in enumerate(found)], dtype=bool)
    left_out = np.flatnonzero(~keep)
    return Curation(
        names=names,
        kept=micrographs.select(keep),
        excluded=_with_reasons(micrographs.select(left_out), [found[row] for row in left_out]),
        reasons={names[row]: found[row] for row in left_out.tolist()},
        spared=spared,
        quantities=quantities,
    )


def _quantities(
    micrographs: ImageSet, intensity: FloatArray | None, options: CurateOptions
) -> dict[str, tuple[Criterion, FloatArray, Limits]]:
    quantities = {}
    for criterion in CRITERIA:
        values = intensity if criterion.code == INTENSITY else criterion.values(micrographs)
        low, high = criterion.given(options)
        if low is not None and high is not None and low >= high:
            raise HalfmapError(
                f"{criterion.label}: the smallest allowed is {low:g} and the largest {high:g}.",
                remedy="Give the smaller limit as the smallest.", code="empty-range",
            )  # fmt: skip
        if values is not None and np.isfinite(values).any():
            quantities[criterion.code] = (criterion, values, limits_of(criterion, values, options))
        elif low is not None or high is not None:
            raise HalfmapError(
                f"there is a limit on {criterion.label}, which these micrographs do not tell.",
                remedy="Leave the limit away, or give a table that has it (intensity needs --intensity).",
            )
    return quantities


def _against(code: str, value: float, limits: Limits) -> list[Reason]:
    if not np.isfinite(value):
        judged = limits.low_rule or limits.high_rule
        return [Reason(code, None, "a number", judged)] if judged else []
    if limits.low is not None and value < limits.low:
        return [Reason(code, value, f">={limits.low:.6g}", limits.low_rule)]
    if limits.high is not None and value > limits.high:
        return [Reason(code, value, f"<={limits.high:.6g}", limits.high_rule)]
    return []


def _requested(names: Sequence[str], given: Sequence[str], file: Path | None, what: str) -> set[int]:
    """Rows that are named, by full name, name without folders, or that without its ending."""
    wanted = [*given, *(_listed(file) if file is not None else [])]
    stems = rows_by_name([str(Path(name).with_suffix("")) for name in names])
    rows = stems | rows_by_name(names)
    unknown = [name for name in wanted if name not in rows]
    if unknown:
        near = difflib.get_close_matches(Path(unknown[0]).name, [Path(name).name for name in names], n=2)
        hint = f"Did you mean {' or '.join(near)}?" if near else "Names stand in the table of micrographs."
        raise HalfmapError(f"--{what}: no micrograph, or more than one, is called {unknown[0]}.", remedy=hint)
    return {rows[name] for name in wanted}


def _listed(file: Path) -> list[str]:
    if file.suffix == ".star":
        return list(read_image_set(file, "micrographs")["micrograph_name"].tolist())
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise HalfmapError(f"{file} is not a list of names.", remedy="Give a STAR file, or one name a line.") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def _with_reasons(excluded: ImageSet, found: Sequence[Sequence[Reason]]) -> ImageSet:
    columns = {
        REASON_LABEL: [",".join(reason.code for reason in reasons) for reasons in found],
        VALUE_LABEL: [",".join("-" if r.value is None else f"{r.value:.6g}" for r in reasons) for reasons in found],
        LIMIT_LABEL: [",".join(reason.limit or "-" for reason in reasons) for reasons in found],
    }
    foreign = {**excluded.rows.foreign, **{name: np.array(texts, dtype=object) for name, texts in columns.items()}}
    return excluded.with_rows(Table(excluded.rows.columns, foreign))


def in_kept(coordinates: ImageSet, micrographs: ImageSet, kept: ImageSet) -> Array:
    """Mask of the coordinates or particles whose micrograph is kept.

    Raises
    ------
    HalfmapError
        A micrograph of theirs is in no table.
    """
    names = micrographs["micrograph_name"].tolist()
    rows, good = rows_by_name(names), set(kept["micrograph_name"].tolist())
    found = {}
    for name in sorted(set(coordinates["micrograph_name"].tolist())):
        row = rows.get(name, rows.get(Path(name).name))
        if row is None:
            raise HalfmapError(
                f"the micrograph {name} of some particles is not among the {len(names)} micrographs.",
                remedy="Give the particles that were picked in these micrographs.",
            )
        found[name] = names[row] in good
    return np.array([found[name] for name in coordinates["micrograph_name"].tolist()], dtype=bool)
