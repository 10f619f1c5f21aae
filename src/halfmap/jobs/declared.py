"""What an options model declares, as data: for the command line, the documentation and the tests."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from halfmap.errors import HalfmapError
from halfmap.options import Options
from halfmap.units import split_unit

_BOUNDS = (("gt", "> "), ("ge", "≥ "), ("lt", "< "), ("le", "≤ "))


class BadOptionError(HalfmapError):
    """An option has a value that it cannot have."""

    code = "bad-option"


@dataclass(frozen=True)
class Declared:
    """One option as people see it."""

    field: str
    """Name in the model, with its unit."""
    flag: str
    """On the command line: ``--pixel-size``."""
    unit: str
    annotation: Any
    required: bool
    default: Any
    help: str
    range: str
    advanced: bool
    bounds: Mapping[str, Any]
    """Constraints as declared: gt, ge, lt, le, pattern, min_length, max_length."""
    choices: tuple[Any, ...]


def declared(model: type[Options]) -> list[Declared]:
    """All options of a model, in the order of declaration."""
    return [_one(name, field) for name, field in model.model_fields.items()]


def flag_of(field: str) -> str:
    """Spelling of a field on the command line.

    >>> flag_of("dose_per_frame_e_per_A2")
    '--dose-per-frame'
    """
    return "--" + split_unit(field)[0].replace("_", "-")


def _one(name: str, field: FieldInfo) -> Declared:
    bounds = {}
    for item in field.metadata:
        for attribute in ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern"):
            value = getattr(item, attribute, None)
            if value is not None:
                bounds[attribute] = value
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    choices = _choices(field.annotation)
    return Declared(
        field=name,
        flag=flag_of(name),
        unit=split_unit(name)[1],
        annotation=field.annotation,
        required=field.is_required(),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        help=field.description or "",
        range=_range_text(bounds, choices),
        advanced=bool(extra.get("advanced", False)),
        bounds=bounds,
        choices=choices,
    )


def _choices(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return tuple(choice for part in get_args(annotation) for choice in _choices(part))
    return ()


def _range_text(bounds: Mapping[str, Any], choices: Sequence[Any]) -> str:
    if choices:
        return "one of " + ", ".join(str(choice) for choice in choices)
    parts = [f"{sign}{bounds[name]}" for name, sign in _BOUNDS if name in bounds]
    if "pattern" in bounds:
        parts.append(f"of the form {bounds['pattern']}")
    if "min_length" in bounds or "max_length" in bounds:
        parts.append(f"length {bounds.get('min_length', 0)} to {bounds.get('max_length', 'any')}")
    return ", ".join(parts)


def default_text(option: Declared) -> str:
    """Default as the documentation shows it."""
    if option.required:
        return "required"
    if option.default is None:
        return ""
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    if isinstance(option.default, tuple | list):
        return " ".join(str(value) for value in option.default)
    return str(option.default)


def validated(model: type[Options], values: Mapping[str, Any], *, source: str = "") -> Any:
    """Build the model, or raise one error that names each bad option, its value and what is allowed.

    Parameters
    ----------
    model
        The declaration.
    values
        By field name.
    source
        Where the values come from, if not the command line (a plan file and its section).
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        _raise(model, error.errors(include_url=False), source)


def check_given(model: type[Options], values: Mapping[str, Any], *, source: str) -> None:
    """Raise an error for values that cannot be, and none for required ones that are still to come."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        problems = [problem for problem in error.errors(include_url=False) if problem["type"] != "missing"]
        if problems:
            _raise(model, problems, source)


def _raise(model: type[Options], problems: Sequence[Any], source: str) -> NoReturn:
    by_field = {option.field: option for option in declared(model)}
    messages = [_message(problem, by_field, source) for problem in problems]
    where = f"{source}: " if source else ""
    raise BadOptionError(where + " ".join(dict.fromkeys(messages))) from None


def _message(problem: Any, by_field: Mapping[str, Declared], source: str) -> str:
    field = str(problem["loc"][0]) if problem["loc"] else ""
    if field not in by_field:
        return f"{problem['msg'].removeprefix('Value error, ')}." if not field else f"there is no option {field}."
    option = by_field[field]
    name = field if source else option.flag
    if problem["type"] == "missing":
        return f"{name} is needed: {option.help}"
    allowed = option.range or problem["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    unit = f" {option.unit}" if option.unit else ""
    return f"{name} is {problem['input']!r}, allowed is {allowed}{unit}."
