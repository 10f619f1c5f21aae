"""Fingerprints of files and options: what makes two jobs the same job."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

FULL_BYTES: Final = 8 * 2**20
"""Files up to this size are hashed whole."""

SAMPLES: Final = 16
SAMPLE_BYTES: Final = 2**16


def content_hash(path: Path) -> str:
    """SHA-256 of a file; for a big one, of its size and 16 blocks spread evenly from first to last.

    The prefix says which. Names and times do not enter, so a copied project keeps its hashes.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with path.open("rb") as file:
        if size <= FULL_BYTES:
            digest.update(file.read())
            return f"sha256:{digest.hexdigest()}"
        digest.update(str(size).encode())
        for sample in range(SAMPLES):
            file.seek((size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            digest.update(file.read(SAMPLE_BYTES))
    return f"sampled-sha256:{digest.hexdigest()}"


def content_hashes(paths: Iterable[Path]) -> list[str]:
    """Hash many files, several at a time (the disk is what takes time)."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(content_hash, paths))


def canonical_json(value: Any) -> str:
    """JSON text that is the same for equal values: sorted keys, no spaces.

    >>> canonical_json({"b": 1, "a": [2.0, None]})
    '{"a":[2.0,null],"b":1}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def text_hash(text: str) -> str:
    """SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
