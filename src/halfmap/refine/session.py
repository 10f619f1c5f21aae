"""What a long computation of this folder asks of whoever runs it; a job's context fits, and so does a test's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Ticker(Protocol):
    """Counts finished units of work."""

    def advance(self, count: int = 1, note: str = "") -> None:
        """Say that ``count`` more are done."""


@runtime_checkable
class Session(Protocol):
    """Log, progress, checkpoints, and limits."""

    @property
    def seed(self) -> int:
        """The only source of randomness."""

    @property
    def threads(self) -> int:
        """Cores that may be used."""

    @property
    def memory_GB(self) -> float:
        """Memory that may be used."""

    def log(self, message: str) -> None:
        """Tell the user."""

    def warn(self, message: str) -> None:
        """Tell the user what puts the result in doubt."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Ticker]:
        """Show progress while the context lasts."""

    def show(self, write: Callable[[Path], Mapping[str, Any]]) -> None:
        """Let a person look in, now and then: ``write`` puts the present state where it is told to."""

    def save_checkpoint(self, name: str, index: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep the state ``index`` of ``name`` and drop older ones."""

    def load_checkpoint(self, name: str) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """Index, arrays and facts of the newest state, or None."""
