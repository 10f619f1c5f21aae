"""How options are declared: once, in an import-light frozen model beside the algorithm.

The command line, the JSON schema, the web form, the documentation table, the plan file and the
generated bad-value tests are all made from these declarations.

>>> class ExampleOptions(Options):
...     diameter_A: float = option(180.0, help="Particle diameter.", gt=0)
>>> ExampleOptions(diameter_A=120).diameter_A
120.0
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from halfmap.units import split_unit


class Options(BaseModel):
    """Base of every options model: frozen, no unknown fields, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


def option(
    default: Any,
    *,
    help: str,
    advanced: bool = False,
    when: dict[str, Any] | None = None,
    **constraints: Any,
) -> Any:
    """Declare one option: default (``...`` = required), one-line help, range, visibility.

    ``when`` is data, not code: ``{"option": "dose_weighting", "is": True}`` shows the option in
    forms only if another one has that value. ``constraints`` are pydantic's (gt, ge, lt, le,
    pattern, min_length ...).
    """
    extra: dict[str, Any] = {"advanced": advanced}
    if when is not None:
        extra["when"] = when
    return Field(default, description=help, json_schema_extra=extra, **constraints)


def bare_name(field_name: str) -> str:
    """Name of an option as users see it: without its unit.

    >>> bare_name("pixel_size_A")
    'pixel_size'
    """
    return split_unit(field_name)[0]
