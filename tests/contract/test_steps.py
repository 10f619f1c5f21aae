"""Every registered step keeps the contract: help, examples, failures with remedies, options that refuse nonsense."""

import json
import re
import shlex
from typing import get_args

import pytest

from halfmap.cli.inputs import resolve_inputs
from halfmap.cli.main import app_for
from halfmap.jobs.declared import BadOptionError, declared, default_text, flag_of, validated
from halfmap.jobs.registry import entries, load_all
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import PortKind
from halfmap.options import bare_name
from halfmap.project.live_options import LiveOptions
from halfmap.project.plan import SessionOptions

STEPS, BROKEN = load_all()
OPTIONS = [(name, option) for name, step in STEPS.items() for option in declared(step.options)]
OPTIONS += [("run", option) for model in (RunOptions, SessionOptions, LiveOptions) for option in declared(model)]
METHOD_STEPS = {"motion", "ctf", "pick", "extract", "class2d", "abinitio", "refine", "postprocess", "simulate movies"}


def option_id(value):
    return value if isinstance(value, str) else value.field


def test_every_entry_point_gives_a_step():
    assert [f"{broken.name}: {broken.reason}" for broken in BROKEN] == []
    assert len(STEPS) == len(entries()) >= 16


@pytest.mark.parametrize("name", STEPS)
def test_step_is_described(name):
    step = STEPS[name]
    assert len(step.summary) > 10
    assert "\n" not in step.summary
    assert step.outputs
    assert re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)?", name)
    assert step.failures or not step.inputs, "a step that reads files can fail in ways that it should declare"
    for failure in step.failures:
        assert re.fullmatch(r"[a-z0-9-]+", failure.code)
        assert len(failure.meaning) > 5
        assert len(failure.remedy) > 5
    if name in METHOD_STEPS:
        assert step.citations
    for citation in step.citations:
        assert re.search(r"\d{4}", citation.text), "a citation has a year"


@pytest.mark.parametrize("name", STEPS)
def test_ports_are_described(name):
    step = STEPS[name]
    ports = [*step.inputs, *step.outputs]
    for port in ports:
        assert port.kind in get_args(PortKind)
        assert port.help
    assert all(port.file for port in step.outputs)
    assert len({port.name for port in step.inputs}) == len(step.inputs)
    assert len({port.name for port in step.outputs}) == len(step.outputs)
    assert sum(port.many for port in step.inputs) <= 1
    assert not {port.name for port in step.inputs} & set(step.options.model_fields)


@pytest.mark.parametrize("name", STEPS)
def test_option_names_are_free_and_distinct(name):
    fields = [*STEPS[name].options.model_fields, *RunOptions.model_fields]
    bare = [bare_name(field) for field in fields]
    assert len(set(bare)) == len(bare), "options of one name, or of a name that every run has"


@pytest.mark.parametrize("name", STEPS)
def test_example_works_as_written(name, tmp_path, monkeypatch):
    """The example parses, its inputs fit the ports, and its options are valid."""
    step = STEPS[name]
    words = shlex.split(step.example)
    assert words[: 1 + len(name.split())] == ["halfmap", *name.split()]
    assert "--out" in words
    monkeypatch.chdir(tmp_path)
    for word in words[1 + len(name.split()) :]:
        if not word.startswith("-") and "." in word:
            (tmp_path / word.replace("*", "1")).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / word.replace("*", "1")).write_text("")
    if any(port.kind == "job" for port in step.inputs):
        (tmp_path / "session" / "01_job").mkdir(parents=True)
        (tmp_path / "session" / "01_job" / "job.json").write_text("")
    _, bound, _ = app_for(words[1:]).parse_args(words[1:], exit_on_error=False, print_error=False)
    values = {key: bound.arguments[key] for key in step.options.model_fields if key in bound.arguments}
    assert validated(step.options, values) is not None
    given = bound.arguments.get("inputs", ())
    resolved = resolve_inputs(step, given)
    assert {port.name for port in step.inputs if not port.optional} <= set(resolved)


@pytest.mark.parametrize("name", STEPS)
def test_schema_is_json(name):
    schema = json.loads(json.dumps(STEPS[name].options.model_json_schema()))
    assert set(schema["properties"]) == set(STEPS[name].options.model_fields)


@pytest.mark.parametrize(("step", "option"), OPTIONS, ids=option_id)
def test_option_is_described(step, option):
    assert option.help, f"{step} {option.field} has no help"
    assert "\n" not in option.help
    assert option.required or isinstance(default_text(option), str)
    measured = option.annotation in (float, float | None) and option.unit
    assert not measured or option.bounds, f"{step} {option.field} is a measured number without a range"


def bad_values(option):
    """One value that breaks each constraint, and one of a wrong type."""
    bounds = option.bounds
    if "gt" in bounds:
        yield bounds["gt"]
    if "ge" in bounds:
        yield bounds["ge"] - 1
    if "lt" in bounds:
        yield bounds["lt"]
    if "le" in bounds:
        yield bounds["le"] + 1
    if "pattern" in bounds:
        yield "~ not this ~"
    if bounds.get("min_length"):
        yield [] if "tuple" in str(option.annotation) or "list" in str(option.annotation) else ""
    if option.choices:
        yield "no such choice"
    if option.annotation in (float, float | None):
        yield float("nan")
        yield float("inf")
    if option.annotation in (float, float | None, int, int | None, bool, bool | None):
        yield "seven"


BAD = [(step, option, value) for step, option in OPTIONS for value in bad_values(option)]


@pytest.mark.parametrize(("step", "option", "value"), BAD, ids=lambda value: str(getattr(value, "field", value)))
def test_bad_value_is_refused_by_name(step, option, value):
    models = [STEPS[step].options] if step != "run" else [RunOptions, SessionOptions, LiveOptions]
    model = next(m for m in models if option.field in m.model_fields)
    with pytest.raises(BadOptionError) as caught:
        validated(model, {option.field: value})
    assert f"{flag_of(option.field)} is {value!r}, allowed is " in caught.value.message
    assert "Traceback" not in caught.value.message
