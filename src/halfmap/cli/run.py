"""``halfmap run``: a whole session from one command."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from halfmap.cli.commands import GROUPS, command_of, executor_choice, option_parameters, prepare_process
from halfmap.cli.inputs import expand
from halfmap.exec.screen import screen_for
from halfmap.jobs.declared import validated
from halfmap.jobs.environment import available_cores
from halfmap.jobs.registry import load_all
from halfmap.jobs.run_options import RunOptions
from halfmap.project.pipeline import Session, chain_of, summary_lines
from halfmap.project.plan import SessionOptions, make_plan

HELP = """Take movies, micrographs or particles to a validated map, unattended.

Every step is a job folder in the session; the same command continues an interrupted session. What was chosen is
written to plan.toml in the session's folder, which can be edited and given as --plan.

Example: halfmap run --movies 'raw/*.tif' --gain gain.mrc --pixel-size 1.1 --voltage 300 --cs 2.7
--dose-per-frame 1.0 --symmetry O --out session
"""


def register(app: App) -> None:
    """Add the command."""
    app.command(_command(), name="run")


def _command() -> Callable[..., None]:
    def command(**values: Any) -> None:
        given = {name: values[name] for name in SessionOptions.model_fields if name in values}
        run: RunOptions = validated(RunOptions, {n: values[n] for n in RunOptions.model_fields if n in values})
        run_session(values.get("plan"), given, run)

    shown = Parameter(name="--plan", help="Plan file (TOML); options given here win over it.", group=GROUPS["options"])
    plan = inspect.Parameter(
        "plan", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, shown]
    )
    session = option_parameters(SessionOptions, "options")
    parameters = [plan, *session, *option_parameters(RunOptions, "run")]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = HELP
    return command


def run_session(plan_file: Path | None, given: dict[str, Any], run: RunOptions) -> None:
    """Make the plan, run the session and print its summary."""
    steps, _ = load_all()
    plan = make_plan(plan_file, given, steps)
    chain = chain_of(plan, steps)
    first = chain[0].inputs[0]
    files = [path for argument in plan.start()[1] for path in expand(argument, first)]
    prepare_process(run.threads if run.threads is not None else available_cores())
    session = Session(plan, chain, files, run, screen_for(sys.stderr), command_of, executor_choice(run))
    stages = session.execute()
    print("\n".join(summary_lines(stages)))
    print(f"Report: {run.out / 'report.html'}")
