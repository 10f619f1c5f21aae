"""An executor for tests: does everything here, in an order and with deaths that the test decides."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from halfmap.exec.executor import Outcome, Work, attempt


class FakeExecutor:
    """Runs items in this process in ``order`` (last first if not given); ``dying`` ones never come back."""

    def __init__(self, order: Sequence[int] | None = None, dying: Container[int] = ()) -> None:
        self.order = order
        self.dying = dying
        self.asked: list[Any] = []

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        order = self.order if self.order is not None else range(len(items) - 1, -1, -1)
        for index in order:
            self.asked.append(items[index])
            if index in self.dying:
                yield Outcome(index, None, "the worker process died twice (signal 9)")
            else:
                yield attempt(index, work, items[index])
