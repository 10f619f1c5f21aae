"""One process at a time on one folder; who comes second is told who is there."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from halfmap.errors import HalfmapError

LOCK_FILE: Final = ".lock"


class LockedError(HalfmapError):
    """Another process works in the folder."""

    code = "locked"


def _owner_text() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    owner = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "user": user,
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv),
    }
    return json.dumps(owner)


def _describe(text: str) -> str:
    try:
        owner = json.loads(text)
        return "process {pid} of {user} on {host} since {since} ({command})".format(**owner)
    except (ValueError, KeyError, TypeError):
        return "another process"


def _try_lock(handle: int) -> bool:
    """Try for half a second: ``is_locked`` of another process holds it for a moment."""
    for _ in range(10):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


@contextmanager
def folder_lock(folder: Path, *, name: str = LOCK_FILE) -> Iterator[None]:
    """Hold the lock of a folder while the block lasts; the system frees it however the process ends.

    Raises
    ------
    LockedError
        Naming the owner, if another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if not _try_lock(handle):
            owner = _describe(os.pread(handle, 4096, 0).decode("utf-8", "replace"))
            raise LockedError(f"{folder} is in use by {owner}.", remedy="Wait until it ends, or give another --out.")
        os.ftruncate(handle, 0)
        os.pwrite(handle, _owner_text().encode(), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder now."""
    with suppress(FileNotFoundError):
        handle = os.open(folder / LOCK_FILE, os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(handle)
    return False
