"""Executors on this machine: in this process, or in worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from typing import Any, Final

from halfmap.exec.executor import Executor, Outcome, Work, attempt

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PROCESSES_PER_DEVICE: Final = 3
"""Workers that share one accelerator: enough to read and compute at once, few enough for its memory."""


def local_executor(n_items: int, threads: int, device: str) -> Executor:
    """Choose by the number of ALL items of a job, so that a continued job computes as the first did.

    One item or one thread: this process, which is spared the start of a worker. Otherwise one
    worker process a core (three for an accelerator), each with one thread.
    """
    most = threads if device == "cpu" else min(threads, PROCESSES_PER_DEVICE)
    processes = min(most, n_items)
    return InlineExecutor() if processes <= 1 else ProcessExecutor(processes)


class InlineExecutor:
    """Does the work in this process, in order."""

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        for index, item in enumerate(items):
            yield attempt(index, work, item)


class ProcessExecutor:
    """Does the work in processes that are started anew (spawn), so that no state is inherited.

    An item whose worker dies (out of memory, a fault in a library) is tried once more, alone,
    when all others are done; if the worker dies again the item has failed.
    """

    def __init__(self, processes: int) -> None:
        self.processes = processes

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        crashed: list[int] = []
        for index, outcome, _ in _serve_all(work, items, range(len(items)), min(self.processes, len(items))):
            if outcome is None:
                crashed.append(index)
            else:
                yield outcome
        for index, outcome, exitcode in _serve_all(work, items, crashed, min(1, len(crashed))):
            yield outcome if outcome is not None else _death(index, exitcode)


def _death(index: int, exitcode: int | None) -> Outcome:
    how = f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    return Outcome(
        index,
        None,
        f"the worker process died twice ({how})",
        "Signal 9 mostly means that memory ran out: give fewer --threads or more memory.",
    )


def _serve_all(
    work: Work, items: Sequence[Any], order: Sequence[int], processes: int
) -> Iterator[tuple[int, Outcome | None, int | None]]:
    """Yield (index, outcome, None) for items that ended and (index, None, exit code) for those whose worker died."""
    waiting = list(reversed(order))
    code = pickle.dumps(work)
    busy: dict[Connection, tuple[BaseProcess, int]] = {}
    try:
        while waiting or busy:
            while waiting and len(busy) < processes:
                connection, process = _start_worker(code)
                _hand_out(busy, connection, process, waiting, items)
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                process, index = busy.pop(ready)
                try:
                    outcome: Outcome = ready.recv()
                except (EOFError, ConnectionError):
                    ready.close()
                    process.join()
                    yield index, None, process.exitcode
                    continue
                if waiting:
                    _hand_out(busy, ready, process, waiting, items)
                else:
                    ready.close()
                    process.join()
                yield index, outcome, None
    finally:
        for connection, (process, _) in busy.items():
            process.terminate()
            connection.close()
            process.join()


def _hand_out(
    busy: dict[Connection, tuple[BaseProcess, int]],
    connection: Connection,
    process: BaseProcess,
    waiting: list[int],
    items: Sequence[Any],
) -> None:
    index = waiting.pop()
    busy[connection] = (process, index)
    with suppress(ConnectionError):  # The worker died while idle; reading from it says so.
        connection.send((index, items[index]))


def _start_worker(code: bytes) -> tuple[Connection, BaseProcess]:
    ours, theirs = multiprocessing.Pipe()
    with one_thread_in_children():
        process = multiprocessing.get_context("spawn").Process(target=_worker, args=(theirs, code), daemon=True)
        process.start()
    theirs.close()
    return ours, process


@contextmanager
def one_thread_in_children() -> Iterator[None]:
    """Let processes started inside the block find the variables that torch and others read when imported."""
    wanted = dict.fromkeys(THREAD_VARIABLES, "1") | {"OMP_WAIT_POLICY": "PASSIVE"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _worker(connection: Connection, code: bytes) -> None:
    """Serve items until the connection closes; die at once when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    @cache
    def load() -> Work:
        work: Work = pickle.loads(code)
        return work

    def do(item: Any) -> Any:
        return load()(item)

    while True:
        try:
            index, item = connection.recv()
        except (EOFError, ConnectionError):
            return
        connection.send(attempt(index, do, item))


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
