"""Commands made from declared steps."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Group, Parameter

from halfmap.cli.inputs import resolve_inputs, told
from halfmap.exec.local import THREAD_VARIABLES
from halfmap.exec.runner import run_job
from halfmap.exec.running import ChooseExecutor
from halfmap.exec.screen import screen_for
from halfmap.jobs.declared import Declared, declared, default_text, validated
from halfmap.jobs.environment import available_cores
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Step
from halfmap.options import Options

GROUPS: Final = {
    "inputs": Group("Inputs", sort_key=1),
    "options": Group("Options", sort_key=2),
    "advanced": Group("Advanced options", sort_key=3),
    "run": Group("Run", sort_key=4),
}


def step_command(step: Step) -> Callable[..., JobRecord]:
    """Make the function behind ``halfmap STEP INPUT... --option value --out DIR``."""

    def command(*given: str, **values: Any) -> JobRecord:
        options = validated(step.options, {n: values[n] for n in step.options.model_fields if n in values})
        run: RunOptions = validated(RunOptions, {n: values[n] for n in RunOptions.model_fields if n in values})
        return run_step(step, given, options, run)

    command.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [*_input_parameter(step), *option_parameters(step.options, "options"), *option_parameters(RunOptions, "run")]
    )
    command.__doc__ = step_help(step)
    return command


def run_step(step: Step, given: Sequence[str], options: Options, run: RunOptions) -> JobRecord:
    """Resolve the inputs, run the job and say what it gave."""
    inputs = resolve_inputs(step, given)
    prepare_process(run.threads if run.threads is not None else available_cores())
    record = run_job(
        step,
        inputs,
        options,
        run,
        command=command_of(step, given, options, run),
        screen=screen_for(sys.stderr),
        choose_executor=executor_choice(run),
    )
    for line in summary_lines(step, record, run.out):
        print(line)
    return record


def executor_choice(run: RunOptions) -> ChooseExecutor | None:
    """Where items are done: on this machine unless a cluster is named."""
    if run.cluster is None:
        return None
    from halfmap.exec.cluster import DaskExecutor, connect

    executor = DaskExecutor(connect(run.cluster))
    return lambda n_items, threads, device: executor


def prepare_process(threads: int) -> None:
    """Set what numerical libraries read when they are first imported; nothing has imported them yet."""
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(threads)))
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def summary_lines(step: Step, record: JobRecord, folder: Path) -> list[str]:
    """What a job took in and gave out, for people."""
    lines = []
    if "items_in" in record.figures and "items_out" in record.figures:
        lines.append(f"{record.figures['items_in']} in, {record.figures['items_out']} out")
    if record.failed_items:
        lines.append(f"{len(record.failed_items)} passed over, see {folder / 'failures.json'}")
    for port in step.outputs:
        if any(file.port == port.name for file in record.outputs):
            lines.append(f"{folder / port.file}  {port.help}")
    return lines


def command_of(step: Step, given: Sequence[str], options: Options, run: RunOptions) -> tuple[str, ...]:
    """The command that reproduces a job: every option that is not at its default, and the seed."""
    words = ["halfmap", *step.name.split(), *given]
    for option in declared(type(options)):
        value = getattr(options, option.field)
        if option.required or value != option.default:
            words += _as_words(option, value)
    words += ["--seed", str(run.seed)]
    if run.max_failed_frac != RunOptions.model_fields["max_failed_frac"].default:
        words += ["--max-failed", str(run.max_failed_frac)]
    if run.device != "auto":
        words += ["--device", run.device]
    return (*words, "--out", str(run.out))


def _as_words(option: Declared, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [option.flag if value else "--no-" + option.flag.removeprefix("--")]
    if isinstance(value, tuple | list):
        return [option.flag, *(str(entry) for entry in value)]
    return [option.flag, str(value)]


def _input_parameter(step: Step) -> list[inspect.Parameter]:
    if not step.inputs:
        return []
    words = [
        f"{port.name}{'...' if port.many else ''}: {told(port)}{' (optional)' if port.optional else ''}."
        for port in step.inputs
    ]
    shown = Parameter(help=" ".join(words), group=GROUPS["inputs"], show_default=False, required=False)
    return [inspect.Parameter("inputs", inspect.Parameter.VAR_POSITIONAL, annotation=Annotated[str, shown])]


def option_parameters(model: type[Options], group: str) -> list[inspect.Parameter]:
    """Keyword parameters, in the field's names without units, of an options model."""
    return [_parameter(option, group) for option in declared(model)]


def _parameter(option: Declared, group: str) -> inspect.Parameter:
    unit = f" [{option.unit}]" if option.unit else ""
    hidden = option.choices or "pattern" in option.bounds
    allowed = f" ({option.range})" if option.range and not hidden else ""
    shown_default = default_text(option)
    shown = Parameter(
        name=option.flag,
        help=f"{option.help.rstrip('.')}{unit}{allowed}.",
        group=GROUPS["advanced" if option.advanced and group == "options" else group],
        show_default=(lambda value: shown_default) if shown_default else False,
        negative=None if _is_bool(option) else (),
        consume_multiple=True,
    )
    return inspect.Parameter(
        option.field,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if option.required else option.default,
        annotation=Annotated[option.annotation, shown],
    )


def _is_bool(option: Declared) -> bool:
    return option.annotation is bool


def step_help(step: Step) -> str:
    """Help of a step: summary, outputs, failures, example, citations."""
    parts = [step.summary]
    if step.outputs:
        parts.append("Writes: " + "; ".join(f"{port.file} ({told(port)})" for port in step.outputs) + ".")
    if step.example:
        parts.append(f"Example: {step.example}")
    if step.citations:
        parts.append("After: " + "; ".join(citation.text for citation in step.citations))
    return "\n\n".join(parts)
