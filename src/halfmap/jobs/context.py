"""What a step sees of the job that it runs in. The machinery provides the implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NoReturn, Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """A progress bar with rate and remaining time."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Say that ``count`` more units of work are done."""


@dataclass(frozen=True)
class ItemResult(Generic[Item]):
    """Outcome of one item: ``value`` (JSON-able) if it went well, else ``error``."""

    item: Item
    key: str
    value: Mapping[str, Any] | None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the item has a result."""
        return self.value is not None


class JobContext(Protocol):
    """The job, as its step sees it."""

    @property
    def folder(self) -> Path:
        """Where outputs go; final names are used as they are."""

    @property
    def seed(self) -> int:
        """The only source of randomness."""

    @property
    def threads(self) -> int:
        """Cores that may be used."""

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda`` or ``cuda:1``, resolved."""

    @property
    def memory_GB(self) -> float:
        """Memory that may be used."""

    def log(self, message: str) -> None:
        """Write a line to run.log and to the screen."""

    def warn(self, message: str) -> None:
        """Write a warning; it is kept in job.json and shown in the report."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """Show a progress bar while the context lasts."""

    def show(self, write: Callable[[Path], Mapping[str, Any]]) -> None:
        """Let a person look in while the job goes on; at most once in half a minute, so that it costs little.

        ``write`` puts the present state into the folder that it is given, under the names of the step's outputs,
        and returns its figures. The step's page is drawn of it, as ``progress.html``. Both go when the job ends.
        """

    def each(
        self,
        label: str,
        items: Sequence[Item],
        work: Callable[[Item], Mapping[str, Any]],
        *,
        key: Callable[[Item], str],
    ) -> list[ItemResult[Item]]:
        """Do ``work(item)`` for every item, in worker processes, in the order given.

        ``work`` must be picklable (a module-level function, or functools.partial of one). It
        returns a JSON-able mapping, after it has written its files under final names with
        ``jobs.atomic``. A finished item is remembered under its key and not redone when the job
        continues. One bad item is recorded and passed over; when more than the allowed share
        fails, the job fails with the commonest reason.
        """

    def once(self, name: str, decide: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return what ``decide`` returned (JSON-able) the first time that the job asked.

        A job that continues, or that has got more items since, keeps the decision, so that all of its
        items are done alike. If ``decide`` raises, nothing is remembered.
        """

    def save_checkpoint(self, name: str, index: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep numpy arrays and JSON-able facts atomically as state ``index`` of ``name``; drop older ones."""

    def load_checkpoint(self, name: str) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Return (index, arrays, facts) of the newest state of ``name``, or None."""

    def fail(self, code: str, message: str) -> NoReturn:
        """End the job with one of the failures that the step declares."""
