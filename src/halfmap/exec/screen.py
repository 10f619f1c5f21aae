"""What a person sees while a job runs: bars on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Final, Protocol, TextIO

from halfmap.jobs.context import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

SECONDS_BETWEEN_LINES: Final = 10.0


class Screen(Protocol):
    """Where lines and progress go."""

    def say(self, message: str) -> None:
        """Show a line."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show progress with rate and remaining time while the context lasts."""


def screen_for(stream: TextIO) -> Screen:
    """Bars if the stream is a terminal, plain lines otherwise."""
    return TerminalScreen() if stream.isatty() else PlainScreen(stream)


def clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock(7), clock(75), clock(7325)
    ('7 s', '1 min 15 s', '2 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rate(count: float, seconds: float) -> str:
    """Speed in whichever of /s, /min, /h has a number that can be read.

    >>> rate(30, 10), rate(2, 60)
    ('3.0/s', '2.0/min')
    """
    per_second = count / max(seconds, 1e-9)
    for unit, factor in (("s", 1), ("min", 60)):
        if per_second * factor >= 1:
            return f"{per_second * factor:.1f}/{unit}"
    return f"{per_second * 3600:.1f}/h"


class _Lines:
    """Progress as plain lines, one in ten seconds at most, and the last one always."""

    def __init__(self, stream: TextIO, label: str, total: int) -> None:
        self.stream, self.label, self.total = stream, label, total
        self.done = 0
        self.start = self.last = time.monotonic()

    def advance(self, count: int = 1, note: str = "") -> None:
        """See `Progress`."""
        self.done += count
        now = time.monotonic()
        if self.done < self.total and now - self.last < SECONDS_BETWEEN_LINES:
            return
        self.last = now
        elapsed = now - self.start
        left = elapsed / self.done * (self.total - self.done) if self.done else 0.0
        when = f"{clock(left)} left" if self.done < self.total else f"took {clock(elapsed)}"
        tail = f", {note}" if note else ""
        print(
            f"{self.label}: {self.done}/{self.total}, {rate(self.done, elapsed)}, {when}{tail}",
            file=self.stream,
            flush=True,
        )


class PlainScreen:
    """Lines on a stream that is no terminal: a file, a pipe, a batch system's log."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def say(self, message: str) -> None:
        """See `Screen`."""
        print(message, file=self.stream, flush=True)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Progress]:
        """See `Screen`."""
        yield _Lines(self.stream, label, total)


class _Bar:
    """Progress as a bar of rich."""

    def __init__(self, bars: RichProgress, label: str, total: int) -> None:
        self.bars = bars
        self.start = time.monotonic()
        self.done = 0
        self.task = bars.add_task(label, total=total, note="", speed="")

    def advance(self, count: int = 1, note: str = "") -> None:
        """See `Progress`."""
        self.done += count
        speed = rate(self.done, time.monotonic() - self.start)
        self.bars.update(self.task, advance=count, note=note, speed=speed)


class TerminalScreen:
    """Bars and lines on the terminal (standard error)."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False)
        self.bars: RichProgress | None = None

    def say(self, message: str) -> None:
        """See `Screen`."""
        self.console.print(message, markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Progress]:
        """See `Screen`."""
        from rich import progress as rp

        columns = (
            rp.TextColumn("{task.description}"),
            rp.BarColumn(),
            rp.MofNCompleteColumn(),
            rp.TextColumn("{task.fields[speed]}"),
            rp.TimeRemainingColumn(elapsed_when_finished=True),
            rp.TextColumn("{task.fields[note]}"),
        )
        if self.bars is not None:
            yield _Bar(self.bars, label, total)
            return
        with rp.Progress(*columns, console=self.console) as self.bars:
            try:
                yield _Bar(self.bars, label, total)
            finally:
                self.bars = None
