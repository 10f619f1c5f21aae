"""Executors on this machine: in this process, or in worker processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from typing import Any, Final

from halfmap.exec.executor import Executor, Outcome, Work, attempt

THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
PROCESSES_PER_DEVICE: Final = 3
"""Workers that share one accelerator: enough to read and compute at once, few enough for its memory."""


class InlineExecutor:
    """Does the work in this process, in order."""

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        for index, item in enumerate(items):
            yield attempt(index, work, item)


@dataclass(eq=False)
class _Worker:
    """A process that waits for items; it knows the work whose ``code`` it got last."""

    connection: Connection
    process: BaseProcess
    code: bytes = b""

    def give(self, code: bytes, index: int, item: Any) -> None:
        message = (None if code == self.code else code, index, item)
        self.code = code
        with suppress(ConnectionError):  # It died while idle; reading from it says so.
            self.connection.send(message)

    def stop(self) -> None:
        self.connection.close()
        self.process.join()

    def kill(self) -> None:
        self.process.kill()
        self.stop()


class LocalPool:
    """Chooses how items are done on this machine; its workers live from one set of items to the next.

    Workers are started anew (spawn), so that no state is inherited, with one thread each.
    """

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    def __call__(self, n_items: int, threads: int, device: str) -> Executor:
        """Choose by the number of ALL items of a job, so that a continued job computes as the first did.

        One item or one thread: this process, which is spared the start of a worker. Otherwise one
        worker process a core (three for an accelerator).
        """
        most = threads if device == "cpu" else min(threads, PROCESSES_PER_DEVICE)
        processes = min(most, n_items)
        return InlineExecutor() if processes <= 1 else ProcessExecutor(processes, self)

    def take(self) -> _Worker:
        """A worker that waits, or a new one."""
        return self._idle.pop() if self._idle else _start_worker()

    def give_back(self, worker: _Worker) -> None:
        """Keep a worker for later items."""
        self._idle.append(worker)

    def close(self) -> None:
        """End the workers and wait for them, so that their CPU time is known."""
        while self._idle:
            self._idle.pop().stop()


class ProcessExecutor:
    """Does the work in processes of a pool.

    An item whose worker dies (out of memory, a fault in a library) is tried once more, alone,
    when all others are done; if the worker dies again the item has failed.
    """

    def __init__(self, processes: int, pool: LocalPool) -> None:
        self.processes = processes
        self.pool = pool

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        code = pickle.dumps(work)
        crashed: list[int] = []
        for index, outcome, _ in self._serve(code, items, range(len(items)), self.processes):
            if outcome is None:
                crashed.append(index)
            else:
                yield outcome
        for index, outcome, exitcode in self._serve(code, items, crashed, 1):
            yield outcome if outcome is not None else _death(index, exitcode)

    def _serve(
        self, code: bytes, items: Sequence[Any], order: Sequence[int], processes: int
    ) -> Iterator[tuple[int, Outcome | None, int | None]]:
        """Yield (index, outcome, None) for items that ended, (index, None, exit code) where the worker died."""
        waiting = list(reversed(order))
        busy: dict[Connection, tuple[_Worker, int]] = {}
        try:
            while waiting or busy:
                while waiting and len(busy) < processes:
                    worker = self.pool.take()
                    busy[worker.connection] = (worker, waiting.pop())
                    worker.give(code, busy[worker.connection][1], items[busy[worker.connection][1]])
                for ready in wait(list(busy)):
                    assert isinstance(ready, Connection)
                    worker, index = busy.pop(ready)
                    try:
                        outcome: Outcome = ready.recv()
                    except (EOFError, ConnectionError):
                        worker.stop()
                        yield index, None, worker.process.exitcode
                        continue
                    self.pool.give_back(worker)
                    yield index, outcome, None
        finally:
            for worker, _ in busy.values():
                worker.kill()


def _death(index: int, exitcode: int | None) -> Outcome:
    how = f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    return Outcome(
        index,
        None,
        f"the worker process died twice ({how})",
        "Signal 9 mostly means that memory ran out: give fewer --threads or more memory.",
    )


def _start_worker() -> _Worker:
    ours, theirs = multiprocessing.Pipe()
    with one_thread_in_children():
        process = multiprocessing.get_context("spawn").Process(target=_worker, args=(theirs,), daemon=True)
        process.start()
    theirs.close()
    return _Worker(ours, process)


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


def _worker(connection: Connection) -> None:
    """Serve items until the connection closes; die at once when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_die_with_parent, daemon=True).start()

    @lru_cache(maxsize=1)
    def load(code: bytes) -> Work:
        work: Work = pickle.loads(code)
        return work

    def do(code: bytes, item: Any) -> Mapping[str, Any]:
        return load(code)(item)

    current = b""
    while True:
        try:
            code, index, item = connection.recv()
        except (EOFError, ConnectionError):
            return
        current = code if code is not None else current
        connection.send(attempt(index, partial(do, current), item))


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
