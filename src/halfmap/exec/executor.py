"""The executor protocol: do one piece of work for many items, wherever, and say how each ended."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from halfmap.errors import HalfmapError

Work = Callable[[Any], Mapping[str, Any]]
MORE_MEMORY: Final = (
    "Give fewer --threads, particles with larger pixels or in smaller boxes, or a machine with more memory; "
    "where a GPU's memory ran out, --device cpu."
)


@dataclass(frozen=True)
class Outcome:
    """How one item ended: ``value`` if well, otherwise ``error`` with what to do about it."""

    index: int
    value: dict[str, Any] | None
    error: str = ""
    remedy: str = ""
    details: str = ""
    """Traceback of an error that nobody expected, for run.log."""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    """Of the process that did the item; 0 where it died."""


class Executor(Protocol):
    """Does work for items; a bad item, and the death of a worker, end as outcomes, not as exceptions."""

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """Yield one outcome an item, as they end, in any order."""


def attempt(index: int, work: Work, item: Any) -> Outcome:
    """Do the work for one item in this process, time it, and turn every exception into an outcome."""
    wall, cpu = time.monotonic(), time.process_time()
    outcome = _attempt(index, work, item)
    return replace(outcome, wall_s=time.monotonic() - wall, cpu_s=time.process_time() - cpu)


def _attempt(index: int, work: Work, item: Any) -> Outcome:
    try:
        return Outcome(index, json_copy(work(item)))
    except HalfmapError as error:
        return Outcome(index, None, error.message, error.remedy)
    except Exception as error:
        remedy = MORE_MEMORY if memory_ran_out(error) else ""
        return Outcome(index, None, f"{type(error).__name__}: {error}", remedy, details=traceback.format_exc())


def memory_ran_out(error: Exception) -> bool:
    """Whether this is Python's error of that kind or torch's, which is not imported for it."""
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def json_copy(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what reading the value back from a file would give: fresh and continued jobs see the same.

    >>> json_copy({"track": (1.0, 2.0)})
    {'track': [1.0, 2.0]}
    """
    copy: dict[str, Any] = json.loads(json.dumps(dict(value), default=_plain))
    return copy


def finite(value: Any) -> Any:
    """Replace what JSON has no number for (NaN, infinite) by null, however deep.

    >>> finite({"resolution_A": float("inf"), "shells": [1.0, float("nan")]})
    {'resolution_A': None, 'shells': [1.0, None]}
    """
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    """Numpy's scalars and arrays, and paths, as JSON has them."""
    for method in ("tolist", "__fspath__"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"results of items are JSON: {type(value).__name__} is not")
