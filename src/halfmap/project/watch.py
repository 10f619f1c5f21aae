"""Which files in a folder are whole: looked at again and again, since network file systems send no events.

A file is whole when its size and time have not changed for some seconds and it opens. Times are those of this
process (the clock of a file server may differ); only whether they change is asked of the files.
"""

from __future__ import annotations

import fnmatch
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Opens = Callable[[Path], str]
"""Says why a file does not open; "" if it does."""


@dataclass(frozen=True)
class Sight:
    """A file that is not taken yet, as it was seen last."""

    size: int
    mtime_ns: int
    since: float
    """When it was first seen like that, by our clock."""
    tries: int = 0
    """How often it was opened like that: once when it has settled, once more before it is given up."""
    fault: str = ""
    """Why it did not open."""


@dataclass(frozen=True)
class WholeFile:
    """A file that can be taken, and its size and time when it was found whole."""

    path: Path
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class View:
    """What is in the folder besides what was taken."""

    ready: tuple[WholeFile, ...]
    """Whole, in the order in which they were written."""
    waiting: tuple[Path, ...]
    """Still written, or not yet long enough unchanged, or not opening yet."""
    incomplete: dict[Path, str]
    """Unchanged for so long that they will not be completed any more, with the reason."""
    last_change: float
    """When something new or changed was seen last, by our clock."""


def movie_fault(path: Path) -> str:
    """Why a file is not a whole movie; "" if it is, as far as its headers and its length tell."""
    from halfmap.errors import HalfmapError
    from halfmap.io.movies import open_movie

    try:
        frames = open_movie(path, eer_frames_per_fraction=1).n_frames
    except HalfmapError as error:
        return error.message
    return "" if frames > 1 else f"{path}: it holds one image, and a movie has more."


class Watch:
    """The folder; ``look`` is one look at it, ``start`` looks at it in a thread until ``stop``."""

    def __init__(
        self,
        folder: Path,
        *,
        opens: Opens = movie_fault,
        patterns: Sequence[str] = (),
        settle_s: float = 10.0,
        give_up_s: float = 600.0,
        ignored: Collection[Path] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.opens, self.patterns = folder, opens, tuple(patterns)
        self.settle_s, self.give_up_s, self.clock = settle_s, give_up_s, clock
        self.ignored = {path.absolute() for path in ignored}
        self._sights: dict[Path, Sight] = {}
        self._taken: dict[Path, tuple[int, int] | None] = {}
        self._guard = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._last_change = clock()
        self.looks = 0
        self.fault = ""
        """Why the folder could not be looked at last time."""

    def take(self, files: Collection[WholeFile]) -> None:
        """These files are in work from now on and not looked at any more."""
        with self._guard:
            for file in files:
                self._taken[file.path] = None
                self._sights.pop(file.path, None)

    def look_again(self, files: Collection[WholeFile]) -> None:
        """These files, taken before, were no good: offer them again if they are replaced by others."""
        with self._guard:
            for file in files:
                self._taken[file.path] = (file.size, file.mtime_ns)

    def look(self) -> View:
        """Look at the folder now."""
        now = self.clock()
        with self._guard:
            taken = dict(self._taken)
        found = dict(self._files(taken))
        for path, status in found.items():
            self._see(path, status, now)
        with self._guard:
            self._sights = {path: sight for path, sight in self._sights.items() if path in found}
        self.looks += 1
        return self.view()

    def view(self) -> View:
        """What the last look saw."""
        with self._guard:
            sights = dict(self._sights)
        ready, waiting, incomplete = [], [], {}
        for path, sight in sights.items():
            if sight.tries and not sight.fault:
                ready.append(WholeFile(path, sight.size, sight.mtime_ns))
            elif sight.tries > 1:
                incomplete[path] = sight.fault
            else:
                waiting.append(path)
        ready.sort(key=lambda file: (file.mtime_ns, file.path))
        return View(tuple(ready), tuple(sorted(waiting)), incomplete, self._last_change)

    def _see(self, path: Path, status: os.stat_result, now: float) -> None:
        with self._guard:
            before = self._sights.get(path)
        if before is None or (before.size, before.mtime_ns) != (status.st_size, status.st_mtime_ns):
            seen = Sight(status.st_size, status.st_mtime_ns, now)
            self._last_change = now
        elif before.tries == 0 or (before.tries == 1 and before.fault):
            if now - before.since < (self.give_up_s if before.tries else self.settle_s):
                return
            fault = self.opens(path) if before.size else f"{path}: it is empty."
            seen = Sight(before.size, before.mtime_ns, before.since, before.tries + 1, fault)
        else:
            return
        with self._guard:
            if path not in self._taken or self._taken[path] is not None:
                self._sights[path] = seen

    def _files(self, taken: dict[Path, tuple[int, int] | None]) -> Iterator[tuple[Path, os.stat_result]]:
        """Files that could be movies and are not in work."""
        self.fault = "" if self.folder.is_dir() else f"there is no folder {self.folder}"
        for folder, below, names in os.walk(self.folder):
            below[:] = sorted(
                name for name in below if name[0] != "." and Path(folder, name).absolute() not in self.ignored
            )
            for name in sorted(names):
                path = Path(folder, name)
                if not self._wanted(path) or (path in taken and taken[path] is None):
                    continue
                try:
                    status = path.stat()
                except OSError:
                    continue  # It was renamed or removed since the folder was listed.
                if taken.get(path) != (status.st_size, status.st_mtime_ns):
                    yield path, status

    def _wanted(self, path: Path) -> bool:
        if path.name.startswith(".") or path.absolute() in self.ignored:
            return False
        if self.patterns:
            return any(fnmatch.fnmatch(path.name, pattern) for pattern in self.patterns)
        from halfmap.io.files import format_suffix
        from halfmap.io.movies import MOVIE_SUFFIXES

        return format_suffix(path) in MOVIE_SUFFIXES

    def start(self, poll_s: float) -> None:
        """Look in a thread, every ``poll_s`` seconds."""

        def run() -> None:
            while not self._end.wait(poll_s):
                try:
                    self.look()
                except OSError as error:
                    self.fault = f"{self.folder} cannot be looked at: {error}"

        self._thread = threading.Thread(target=run, daemon=True, name="watch")
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
