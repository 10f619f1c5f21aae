"""SerialEM's .mdoc files: global values, then one section for every image of a tilt series or movie."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from halfmap.errors import BadInputError
from halfmap.io.files import existing_file
from halfmap.typing import PathLike

_SECTION = re.compile(r"^\[\s*(\w+)\s*=\s*(.*?)\s*\]$")
_VALUE = re.compile(r"^(\w+)\s*=\s*(.*)$")


@dataclass(frozen=True)
class MdocSection:
    """One ``[ZValue = n]`` or ``[FrameSet = n]``; values are text as in the file."""

    kind: str
    label: str
    values: Mapping[str, str]

    def number(self, key: str, file: PathLike) -> float:
        """A value as a number, or ``BadInputError`` if it is missing or is none."""
        text = self.values.get(key, "absent")
        try:
            return float(text)
        except ValueError:
            raise BadInputError(
                Path(file), f"{key} of {self.kind} {self.label}", found=text, expected="a number",
                remedy="Correct the file.",
            ) from None  # fmt: skip


@dataclass(frozen=True)
class Mdoc:
    """An .mdoc file."""

    general: Mapping[str, str]
    titles: tuple[str, ...] = ()
    """The ``[T = ...]`` lines."""
    sections: tuple[MdocSection, ...] = field(default=())


def read_mdoc(path: PathLike) -> Mdoc:
    """Read an .mdoc file, keeping every key and section in order.

    Raises
    ------
    BadInputError
        A line is neither a section nor ``key = value``, or there is no content.
    """
    path = existing_file(path)
    general: dict[str, str] = {}
    titles: list[str] = []
    sections: list[tuple[str, str, dict[str, str]]] = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        section, value = _SECTION.match(text), _VALUE.match(text)
        if section is not None and section.group(1) == "T":
            titles.append(section.group(2))
        elif section is not None:
            sections.append((section.group(1), section.group(2), {}))
        elif value is not None:
            (sections[-1][2] if sections else general)[value.group(1)] = value.group(2)
        else:
            raise BadInputError(
                path, f"line {number}", found=repr(text[:60]), expected="a section or key = value",
                remedy="Check that this is an .mdoc file.",
            )  # fmt: skip
    if not general and not sections:
        raise BadInputError(path, "content", found="blank", expected="sections", remedy="Copy the file again.")
    return Mdoc(general, tuple(titles), tuple(MdocSection(*section) for section in sections))
