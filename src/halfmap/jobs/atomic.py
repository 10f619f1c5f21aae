"""Files that are either whole or absent, whenever the process is killed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PathLike = str | os.PathLike[str]


@contextmanager
def atomic_path(path: PathLike) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that replaces it when the block ends well."""
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last so that writers which look at it (.gz, .mrcs) behave the same.
    part = final.with_name(f".part-{os.getpid()}-{final.name}")
    try:
        yield part
        os.replace(part, final)
    finally:
        part.unlink(missing_ok=True)


def write_text_atomic(path: PathLike, text: str) -> None:
    """Write text so that readers see the old or the new content, never a part."""
    with atomic_path(path) as part:
        part.write_text(text, encoding="utf-8")
