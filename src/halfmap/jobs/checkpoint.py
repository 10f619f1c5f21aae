"""State of a long computation on disk: the newest whole one, or none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from halfmap.jobs.atomic import atomic_path, write_text_atomic

FOLDER: Final = "checkpoints"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stem(name: str, index: int) -> str:
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}-{index:08d}"


def save_checkpoint(
    job_folder: Path, name: str, index: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]
) -> None:
    """Write arrays, then the facts with the checksum of the arrays; only then drop older states."""
    import numpy as np

    folder = job_folder / FOLDER
    stem = _stem(name, index)
    data = folder / f"{stem}.npz"
    with atomic_path(data) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, **{key: np.asarray(value) for key, value in arrays.items()})
    head = {"name": name, "index": index, "sha256": _digest(data), "facts": dict(facts)}
    write_text_atomic(folder / f"{stem}.json", json.dumps(head))
    for other_index, path in _states(job_folder, name):
        if other_index != index:
            path.unlink(missing_ok=True)
            path.with_suffix(".npz").unlink(missing_ok=True)


def load_checkpoint(job_folder: Path, name: str) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Return (index, arrays, facts) of the newest state whose checksum is right, or None."""
    import numpy as np

    for index, path in sorted(_states(job_folder, name), reverse=True):
        head = json.loads(path.read_text(encoding="utf-8"))
        data = path.with_suffix(".npz")
        if not data.exists() or _digest(data) != head["sha256"]:
            continue
        with np.load(data, allow_pickle=False) as arrays:
            return index, dict(arrays), head["facts"]
    return None


def _states(job_folder: Path, name: str) -> list[tuple[int, Path]]:
    pattern = re.compile(re.escape(_stem(name, 0)[:-8]) + r"(\d{8})\.json")
    folder = job_folder / FOLDER
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("*.json")) if folder.is_dir() else ()
    return [(int(match[1]), path) for match, path in matches if match]
