"""Commands that are no steps: what is installed, schemas, the state of the machine, projects."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from cyclopts import App

from halfmap import __version__
from halfmap.cli.commands import step_help
from halfmap.jobs.environment import PACKAGES, available_cores, available_memory_GB, environment, resolve_device
from halfmap.jobs.registry import get_step, load_all

EXTRAS: Final = {
    "web": ("fastapi", "uvicorn"),
    "cluster": ("distributed", "dask-jobqueue"),
    "model": ("servalcat",),
}


def list_steps() -> None:
    """List the steps that are installed, those of plug-ins too."""
    steps, broken = load_all()
    width = max((len(name) for name in steps), default=0)
    for name, step in steps.items():
        print(f"{name:{width}}  {step.summary}")
    for entry in broken:
        print(f"{entry.name} ({entry.target}) cannot be loaded: {entry.reason}", file=sys.stderr)


def schema(*step: str) -> None:
    """Print the JSON schema of the options of a step.

    Parameters
    ----------
    step
        Name of the step, as on the command line.
    """
    found = get_step(" ".join(step))
    content = found.options.model_json_schema() | {
        "title": found.name,
        "description": found.summary,
        "x-halfmap": {
            "version": found.version,
            "help": step_help(found),
            "inputs": [vars(port) for port in found.inputs],
            "outputs": [vars(port) for port in found.outputs],
        },
    }
    print(json.dumps(content, indent=1, ensure_ascii=False))


def doctor() -> None:
    """Say what is installed, what this machine offers, and what is missing."""
    here = environment()
    print(f"halfmap {__version__}, Python {here.python}, {here.system}")
    print(f"processor: {here.cpu}, {available_cores()} cores may be used")
    print(f"memory: {available_memory_GB():.1f} GB may be used (80 % of what is free)")
    print(f"device: auto means {resolve_device('auto', uses_accelerator=True)}")
    for name in PACKAGES:
        print(f"{name}: {here.packages[name]}")
    for extra, packages in EXTRAS.items():
        print(f"extra [{extra}]: {'installed' if all(map(_installed, packages)) else 'not installed'}")
    steps, broken = load_all()
    print(f"steps: {len(steps)}")
    for entry in broken:
        print(f"broken step {entry.name} ({entry.target}): {entry.reason}")


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _register_steps(app: App) -> None:
    app.command(list_steps, name="steps")


def _register_schema(app: App) -> None:
    app.command(schema)


def _register_doctor(app: App) -> None:
    app.command(doctor)


def _register_run(app: App) -> None:
    from halfmap.cli import run

    run.register(app)


def _register_live(app: App) -> None:
    from halfmap.cli import live

    live.register(app)


def _register_project(app: App) -> None:
    from halfmap.cli import project

    project.register(app)


VERBS: Final[dict[str, Callable[[App], None]]] = {
    "run": _register_run,
    "live": _register_live,
    "project": _register_project,
    "steps": _register_steps,
    "schema": _register_schema,
    "doctor": _register_doctor,
}
