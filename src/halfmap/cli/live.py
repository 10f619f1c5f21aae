"""``halfmap live``: movies are carried on while they are recorded."""

from __future__ import annotations

import inspect
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from halfmap.cli.commands import GROUPS, command_of, executor_choice, option_parameters, prepare_process
from halfmap.exec.runner import sigterm_interrupts
from halfmap.exec.screen import screen_for
from halfmap.jobs.declared import validated
from halfmap.jobs.environment import available_cores
from halfmap.jobs.registry import load_all
from halfmap.jobs.run_options import RunOptions
from halfmap.project.live import LIVE_PAGE, LiveSession
from halfmap.project.live_options import LiveOptions
from halfmap.project.plan import SessionOptions, make_plan

HELP = """Watch a folder, and take new movies through import, motion, CTF and picking as they come.

The page live.html in --out shows how it goes. The same command goes on after a stop or a crash; Ctrl-C ends it after
the round that is going on. The jobs in --out are ordinary ones, which extract and later steps take.

Example: halfmap live raw --gain gain.mrc --pixel-size 1.1 --voltage 300 --cs 2.7 --dose-per-frame 1.0 --out live
"""


def register(app: App) -> None:
    """Add the command."""
    app.command(_command(), name="live")


def _command() -> Callable[..., None]:
    def command(folder: Path, **values: Any) -> None:
        given = {name: values[name] for name in LiveOptions.model_fields if name in values}
        run: RunOptions = validated(RunOptions, {n: values[n] for n in RunOptions.model_fields if n in values})
        run_live(folder, values.get("plan"), given, run)

    where = Parameter(help="Folder that movies come into, with those below it.", group=GROUPS["inputs"])
    place = inspect.Parameter("folder", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Annotated[Path, where])
    shown = Parameter(
        name="--plan", help="Plan file (TOML) with options of the steps; options given here win over it.",
        group=GROUPS["options"],
    )  # fmt: skip
    plan = inspect.Parameter(
        "plan", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[Path | None, shown]
    )
    parameters = [place, plan, *option_parameters(LiveOptions, "options"), *option_parameters(RunOptions, "run")]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__doc__ = HELP
    return command


def run_live(folder: Path, plan_file: Path | None, given: dict[str, Any], run: RunOptions) -> None:
    """Watch and work until the end, and say what was done."""
    options: LiveOptions = validated(LiveOptions, given)
    steps, _ = load_all()
    plan = make_plan(plan_file, {n: v for n, v in given.items() if n in SessionOptions.model_fields}, steps)
    prepare_process(run.threads if run.threads is not None else available_cores())
    session = LiveSession(folder, options, plan, steps, run, screen_for(sys.stderr), command_of, executor_choice(run))
    with sigterm_interrupts(), _first_interrupt_asks(session):
        counts = session.execute()["counts"]
    print(f"{counts['taken']} movies taken, {counts['ctf']} micrographs, {counts['particles']} picks")
    failed = sum(counts["failed"].values())
    if failed:
        print(f"{failed} passed over, see {run.out / LIVE_PAGE}")
    print(f"Page: {run.out / LIVE_PAGE}")


@contextmanager
def _first_interrupt_asks(session: LiveSession) -> Iterator[None]:
    """Let the first Ctrl-C end the session in its own time, and the second one at once."""

    def ask(signum: int, frame: object) -> None:
        if session.stopping:
            raise KeyboardInterrupt
        session.stop()

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
