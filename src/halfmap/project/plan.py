"""The plan of a session: every choice of `halfmap run` in one TOML file that can be edited and run again."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from halfmap.geometry.options import SymmetryOptions
from halfmap.jobs.declared import BadOptionError, Declared, check_given, declared, flag_of, validated
from halfmap.jobs.step import Step
from halfmap.optics.options import OpticsOptions
from halfmap.options import Options, bare_name, option
from halfmap.project.toml import toml_value

PLAN_FILE: Final = "plan.toml"
SESSION: Final = "session"


class SessionOptions(SymmetryOptions, OpticsOptions):
    """What is true of a whole session; each step takes those that it declares too."""

    movies: tuple[str, ...] = option((), help="Movies (files, quoted pattern, or STAR): start with motion.")
    micrographs: tuple[str, ...] = option((), help="Micrographs (files, pattern, or STAR): start with ctf.")
    particles: tuple[str, ...] = option((), help="Particles (STAR): start with class2d.")
    gain: Path | None = option(None, help="Gain reference of the movies.")
    diameter_A: float | None = option(None, help="Particle diameter; estimated by pick if not given.", gt=0)
    reference: Path | None = option(None, help="Reference map; abinitio is left out if given.")
    classes: int | None = option(None, help="2D classes; one per 100 particles, 8 to 50, if not given.", ge=1)


STARTS: Final[Mapping[str, str]] = {"movies": "motion", "micrographs": "ctf", "particles": "class2d"}
"""What is given -> the step that the session starts with."""

CLASSES_STEP: Final = "class2d"
"""The step that ``classes`` of a session are for; other steps have classes of their own."""


@dataclass(frozen=True)
class Plan:
    """Choices for the session and for single steps; the latter win."""

    session: SessionOptions
    steps: Mapping[str, Mapping[str, Any]]
    """By step: option values that were set for that step alone, by field name."""

    def start(self) -> tuple[str, tuple[str, ...]]:
        """Name of what is given (movies, micrographs or particles), and its files.

        Raises
        ------
        BadOptionError
            Unless exactly one is given.
        """
        given = {name: getattr(self.session, name) for name in STARTS if getattr(self.session, name)}
        if len(given) != 1:
            found = " and ".join(flag_of(name) for name in given) or "none of them is given"
            raise BadOptionError(
                f"a session starts from one of --movies, --micrographs, --particles: {found}.",
                remedy="Example: halfmap run --particles particles.star --diameter 120 --out session",
            )
        return next(iter(given.items()))


def make_plan(path: Path | None, given: Mapping[str, Any], steps: Mapping[str, Step]) -> Plan:
    """Join a plan file (if there is one) and what the command line says, which wins.

    Raises
    ------
    BadOptionError
        Naming file, section and option, if something is unknown or out of range.
    """
    sections: dict[str, dict[str, Any]] = {}
    if path is not None:
        sections = _read(path, steps)
    session = sections.pop(SESSION, {}) | dict(given)
    source = f"{path} [session]" if path is not None and not given else ""
    for name, values in sections.items():
        check_given(steps[name].options, values, source=f"{path} [{name}]")
    return Plan(validated(SessionOptions, session, source=source), sections)


def _read(path: Path, steps: Mapping[str, Step]) -> dict[str, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadOptionError(f"{path} cannot be read: {error.strerror}.", remedy="Check the name.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadOptionError(f"{path} is not TOML: {error}.", remedy="Correct that line.") from None
    known = [SESSION, *steps]
    sections = {}
    for name, values in content.items():
        if name not in known or not isinstance(values, dict):
            raise BadOptionError(f"{path} has the section {name}.", remedy=f"Sections are {', '.join(known)}.")
        model = SessionOptions if name == SESSION else steps[name].options
        sections[name] = _by_field(model, values, f"{path} [{name}]")
    return sections


def _by_field(model: type[Options], values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Accept options with their unit (``pixel_size_A``) and without (``pixel_size``, ``pixel-size``)."""
    fields = {bare_name(field): field for field in model.model_fields}
    found = {}
    for name, value in values.items():
        field = name if name in model.model_fields else fields.get(name.replace("-", "_"))
        if field is None:
            raise BadOptionError(f"{source}: there is no option {name}.", remedy=f"There are {', '.join(fields)}.")
        found[field] = value
    return found


def is_shared(step: Step, field: str) -> bool:
    """Whether an option of a step means the same as that of its name in the session."""
    return field != "classes" or step.name == CLASSES_STEP


def options_for(step: Step, plan: Plan, derived: Mapping[str, Any], *, first: bool) -> Options:
    """Options of a step: its own section, then what earlier steps gave, then the session's values.

    The optics of bare files go to the first step alone; later ones read them from its STAR file.
    """
    values: dict[str, Any] = {}
    for field in step.options.model_fields:
        if field in STARTS or not is_shared(step, field):
            continue  # What the session starts from is no option of a step, whatever its name.
        if field in SessionOptions.model_fields and (first or field not in OpticsOptions.model_fields):
            value = getattr(plan.session, field)
            if value is not None:
                values[field] = value
        if field in derived:
            values[field] = derived[field]
    own = dict(plan.steps.get(step.name, {}))
    options: Options = validated(step.options, values | own, source=f"step {step.name}")
    return options


def plan_text(plan: Plan, chain: Sequence[Step]) -> str:
    """The whole plan: each option of each step with help, unit and range; unset ones as comments."""
    lines = [
        "# Plan of a session. Change what you like and run  halfmap run --plan plan.toml --out FOLDER",
        "# Lines that start with # are not set. A step's own section wins over [session].",
        "",
        f"[{SESSION}]",
    ]
    lines += [line for o in declared(SessionOptions) for line in _entry(o, getattr(plan.session, o.field), "")]
    for step in chain:
        lines += ["", f"# {step.summary}", f"[{_key(step.name)}]"]
        own = plan.steps.get(step.name, {})
        for o in declared(step.options):
            if o.field in own:
                lines += _entry(o, own[o.field], "")
            elif o.field in SessionOptions.model_fields and o.field not in STARTS and is_shared(step, o.field):
                lines += _entry(o, None, "as in [session] or from an earlier step")
            else:
                lines += _entry(o, None if o.required else o.default, "")
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.isidentifier() else toml_value(name)


def _entry(o: Declared, value: Any, note: str) -> list[str]:
    details = ", ".join(part for part in (o.unit, o.range, note) if part)
    comment = f"# {o.help}" + (f" [{details}]" if details else "")
    if value is None or value == ():
        return [comment, f"# {o.field} ="]
    return [comment, f"{o.field} = {toml_value(value)}"]
