"""The states of a job, and the events that lead from one to the next; pure functions."""

from __future__ import annotations

from typing import Final, Literal

from halfmap.errors import HalfmapError

State = Literal["queued", "running", "interrupted", "failed", "finished"]
Event = Literal["start", "interrupt", "fail", "finish"]

TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    ("queued", "start"): "running",
    ("interrupted", "start"): "running",
    ("failed", "start"): "running",
    ("running", "interrupt"): "interrupted",
    ("running", "fail"): "failed",
    ("running", "finish"): "finished",
    ("queued", "fail"): "failed",
    ("queued", "interrupt"): "interrupted",
}


def advance(state: State, event: Event) -> State:
    """State after an event.

    >>> advance("interrupted", "start")
    'running'

    Raises
    ------
    HalfmapError
        If the event cannot happen in that state; a finished job stays as it is.
    """
    if (state, event) not in TRANSITIONS:
        raise HalfmapError(f"a job that is {state} cannot {event}")
    return TRANSITIONS[state, event]


def observed(recorded: State, *, locked: bool) -> State:
    """State of a job as it stands: one that was running and has no owner any more was interrupted.

    >>> observed("running", locked=False)
    'interrupted'
    """
    return "interrupted" if recorded == "running" and not locked else recorded
