"""Writing TOML (the standard library reads it only): flat sections of plain values with comments."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any


def toml_value(value: Any) -> str:
    r"""One value as TOML.

    >>> toml_value(1.0), toml_value(True), toml_value([1, 2])
    ('1.0', 'true', '[1, 2]')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str | PurePath):
        return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Sequence):
        return "[" + ", ".join(toml_value(entry) for entry in value) + "]"
    raise TypeError(f"{type(value).__name__} has no place in a plan")
