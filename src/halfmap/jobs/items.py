"""Results of finished items, one small file each, so that a continued job does not redo them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.hashing import text_hash

FOLDER: Final = "items"


def _file(job_folder: Path, label: str, key: str) -> Path:
    name = text_hash(label + "\n" + key)[:32]
    return job_folder / FOLDER / f"{name}.json"


def save_item(job_folder: Path, label: str, key: str, value: Mapping[str, Any]) -> None:
    """Remember that an item is finished."""
    text = json.dumps({"label": label, "key": key, "value": dict(value)})
    write_text_atomic(_file(job_folder, label, key), text)


def load_item(job_folder: Path, label: str, key: str) -> dict[str, Any] | None:
    """Return the result of a finished item, or None."""
    try:
        stored = json.loads(_file(job_folder, label, key).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    value: dict[str, Any] = stored["value"]
    return value
