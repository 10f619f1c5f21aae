"""The job context that steps see, over a folder: items, checkpoints, log, warnings."""

from __future__ import annotations

import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from halfmap.errors import HalfmapError, StepFailedError
from halfmap.exec.executor import Executor, Outcome, json_copy
from halfmap.exec.local import LocalPool
from halfmap.exec.screen import Screen
from halfmap.jobs.checkpoint import load_checkpoint, save_checkpoint
from halfmap.jobs.context import ItemResult, Progress
from halfmap.jobs.environment import available_cores, available_memory_GB, resolve_device
from halfmap.jobs.items import load_item, save_item
from halfmap.jobs.record import ItemFailure, ItemTimes, JobRecord
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Step

LOG_FILE: Final = "run.log"
NOW: Final = "now"
"""Folder of the present state of a job that goes on."""
PROGRESS_PAGE: Final = "progress.html"
SHOWN_EVERY_S: Final = 30.0
DECISIONS: Final = "decisions"
"""Label under which decisions stand among the results of items."""
ChooseExecutor = Callable[[int, int, str], Executor]
"""(number of items, threads, device) -> executor."""

Item = TypeVar("Item")


class RunningJob:
    """A job while its step runs; implements `jobs.context.JobContext`."""

    def __init__(
        self,
        step: Step,
        run: RunOptions,
        screen: Screen,
        choose_executor: ChooseExecutor | None = None,
        before: JobRecord | None = None,
    ) -> None:
        """``before`` is what a job that grows was when it ended last: its failures and warnings stand."""
        self.step = step
        self.run = run
        self.screen = screen
        self.pool = LocalPool()
        self.choose_executor: ChooseExecutor = choose_executor or self.pool
        self.warnings: list[str] = []
        self.failed_items: list[ItemFailure] = []
        self.failed_before = {(f.label, f.item): f for f in before.failed_items} if before is not None else {}
        self.said_before = frozenset(before.warnings) if before is not None else frozenset()
        self.item_times: dict[str, ItemTimes] = {}
        self._shown = time.monotonic()

    @property
    def folder(self) -> Path:
        """See `JobContext`."""
        return self.run.out

    @property
    def seed(self) -> int:
        """See `JobContext`."""
        return self.run.seed

    @cached_property
    def threads(self) -> int:
        """See `JobContext`."""
        return self.run.threads if self.run.threads is not None else available_cores()

    @cached_property
    def device(self) -> str:
        """See `JobContext`."""
        return resolve_device(self.run.device, uses_accelerator=self.step.uses_accelerator)

    @property
    def resolved_device(self) -> str | None:
        """The device, if the step has asked for it."""
        return self.__dict__.get("device")

    @cached_property
    def memory_GB(self) -> float:
        """See `JobContext`."""
        return self.run.memory_GB if self.run.memory_GB is not None else available_memory_GB()

    def log(self, message: str) -> None:
        """See `JobContext`."""
        self.write_log(message)
        self.screen.say(message)

    def write_log(self, message: str) -> None:
        """Write to run.log alone."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        with (self.folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.writelines(f"{stamp}  {line}\n" for line in message.splitlines() or [""])

    def warn(self, message: str) -> None:
        """See `JobContext`."""
        if message not in self.warnings:
            self.warnings.append(message)
        if message not in self.said_before:
            self.log(f"warning: {message}")

    def progress(self, label: str, total: int) -> AbstractContextManager[Progress]:
        """See `JobContext`."""
        return self.screen.progress(label, total)

    def each(
        self,
        label: str,
        items: Sequence[Item],
        work: Callable[[Item], Mapping[str, Any]],
        *,
        key: Callable[[Item], str],
    ) -> list[ItemResult[Item]]:
        """See `JobContext`."""
        keys = [key(item) for item in items]
        repeated = [name for name, count in Counter(keys).items() if count > 1]
        if repeated:
            raise HalfmapError(f"{label}: {repeated[0]} occurs more than once.", remedy="Give each input once.")
        results: dict[int, ItemResult[Item]] = {}
        for index, (item, name) in enumerate(zip(items, keys, strict=True)):
            stored = load_item(self.folder, label, name)
            if stored is not None:
                results[index] = ItemResult(item, name, stored)
        failures: list[ItemFailure] = []
        for index, (item, name) in enumerate(zip(items, keys, strict=True)):
            known = self.failed_before.get((label, name))
            if known is not None and index not in results:
                failures.append(known)
                results[index] = ItemResult(item, name, None, known.error)
        self.failed_items += failures
        self._stop_if_too_many(label, failures, len(items))
        todo = [index for index in range(len(items)) if index not in results]
        if results:
            self.log(f"{label}: {len(results)} of {len(items)} were finished before and are kept")
        executor = self.choose_executor(len(items), self.threads, self.device)
        with self.progress(label, len(todo)) as bar:
            for outcome in executor.run(work, [items[index] for index in todo]):
                index = todo[outcome.index]
                name = keys[index]
                self._count(label, outcome)
                if outcome.value is not None:
                    save_item(self.folder, label, name, outcome.value)
                else:
                    failures.append(self._passed_over(label, name, outcome))
                    self._stop_if_too_many(label, failures, len(items))
                results[index] = ItemResult(items[index], name, outcome.value, outcome.error)
                bar.advance(1, note=f"{len(failures)} failed" if failures else "")
        return [results[index] for index in range(len(items))]

    def _count(self, label: str, outcome: Outcome) -> None:
        took = ItemTimes(count=1, wall_s=outcome.wall_s, cpu_s=outcome.cpu_s)
        self.item_times[label] = self.item_times[label].plus(took) if label in self.item_times else took

    @property
    def lent_cpu_s(self) -> float:
        """CPU time of items that were done by workers which outlive this job."""
        mine = self.choose_executor is self.pool
        return 0.0 if mine else sum(times.cpu_s for times in self.item_times.values())

    def once(self, name: str, decide: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """See `JobContext`."""
        stored = load_item(self.folder, DECISIONS, name)
        if stored is None:
            stored = json_copy(decide())
            save_item(self.folder, DECISIONS, name, stored)
        return stored

    def _passed_over(self, label: str, name: str, outcome: Outcome) -> ItemFailure:
        failure = ItemFailure(label=label, item=name, error=outcome.error, remedy=outcome.remedy)
        self.failed_items.append(failure)
        self.log(f"{label}: {name} is passed over: {outcome.error} {outcome.remedy}".rstrip())
        if outcome.details:
            self.write_log(outcome.details)
        return failure

    def _stop_if_too_many(self, label: str, failures: Sequence[ItemFailure], total: int) -> None:
        if len(failures) <= allowed_failures(total, self.run.max_failed_frac):
            return
        kinds = Counter(failure.error.replace(failure.item, "<item>") for failure in failures)
        commonest, times = kinds.most_common(1)[0]
        example = next(f for f in failures if f.error.replace(f.item, "<item>") == commonest)
        raise StepFailedError(
            f"{label}: {len(failures)} of {total} failed, {times} of them like {example.item}: {example.error}",
            remedy=example.remedy or "See failures.json; --max-failed allows a larger share.",
            code="too-many-failures",
        )

    def show(self, write: Callable[[Path], Mapping[str, Any]]) -> None:
        """See `JobContext`."""
        if time.monotonic() - self._shown < SHOWN_EVERY_S:
            return
        from halfmap.steps.pages.write import write_progress_page

        folder = self.folder / NOW
        folder.mkdir(exist_ok=True)
        try:
            figures = write(folder)
            write_progress_page(self.folder / PROGRESS_PAGE, folder, self.step.name, figures, self.warnings)
        except Exception as error:
            # A look at the job must not end it.
            self.write_log(traceback.format_exc())
            self.log(f"{PROGRESS_PAGE} could not be drawn: {type(error).__name__}: {error}")
        self._shown = time.monotonic()

    def save_checkpoint(self, name: str, index: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """See `JobContext`."""
        save_checkpoint(self.folder, name, index, arrays, facts)

    def load_checkpoint(self, name: str) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
        """See `JobContext`."""
        return load_checkpoint(self.folder, name)

    def fail(self, code: str, message: str) -> NoReturn:
        """See `JobContext`."""
        raise StepFailedError(message, remedy=self.step.failure(code).remedy, code=code)


def allowed_failures(total: int, max_failed_frac: float) -> int:
    """How many of ``total`` items may fail: the share, but at least one if any may, and never all.

    >>> allowed_failures(100, 0.2), allowed_failures(3, 0.2), allowed_failures(3, 0.0), allowed_failures(1, 1.0)
    (20, 1, 0, 0)
    """
    if max_failed_frac == 0:
        return 0
    return min(max(1, int(total * max_failed_frac + 1e-9)), total - 1)
