"""The steps that are installed: halfmap's own and those of plug-ins, found by entry points."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Final

from halfmap.errors import HalfmapError
from halfmap.jobs.step import Step

GROUP: Final = "halfmap.steps"


@dataclass(frozen=True)
class BrokenStep:
    """An entry point that gives no step, and why."""

    name: str
    target: str
    reason: str


def entries() -> dict[str, EntryPoint]:
    """Entry points by the name of their step, in alphabetical order; nothing of them is imported."""
    return {entry.name: entry for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name)}


def load(entry: EntryPoint) -> Step | BrokenStep:
    """Import one step; whatever goes wrong in a plug-in is its own affair."""
    try:
        step = entry.load()
    except Exception as error:
        return BrokenStep(entry.name, entry.value, f"{type(error).__name__}: {error}")
    if not isinstance(step, Step):
        return BrokenStep(entry.name, entry.value, f"it is a {type(step).__name__}, not a Step")
    if step.name != entry.name:
        return BrokenStep(entry.name, entry.value, f"it calls itself {step.name}")
    return step


def load_all() -> tuple[dict[str, Step], tuple[BrokenStep, ...]]:
    """All steps by name, and those that cannot be loaded."""
    loaded = [load(entry) for entry in entries().values()]
    steps = {step.name: step for step in loaded if isinstance(step, Step)}
    return steps, tuple(broken for broken in loaded if isinstance(broken, BrokenStep))


def get_step(name: str) -> Step:
    """Load one step by name.

    Raises
    ------
    HalfmapError
        If there is none of that name (the nearest names are given), or it cannot be loaded.
    """
    found = entries()
    if name not in found:
        near = difflib.get_close_matches(name, found, n=3)
        hint = f"Did you mean {' or '.join(near)}?" if near else "halfmap steps lists them."
        raise HalfmapError(f"there is no step {name}.", remedy=hint, code="no-step")
    step = load(found[name])
    if isinstance(step, BrokenStep):
        raise HalfmapError(
            f"step {name} ({step.target}) cannot be loaded: {step.reason}.",
            remedy="Repair or uninstall the plug-in.",
            code="broken-step",
        )
    return step
