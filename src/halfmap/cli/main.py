"""Entry point of the program ``halfmap``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

from cyclopts import App, Group
from cyclopts.exceptions import CycloptsError

from halfmap import __version__
from halfmap.cli.commands import step_command
from halfmap.cli.verbs import VERBS
from halfmap.errors import HalfmapError
from halfmap.exec.runner import InterruptedJobError
from halfmap.jobs.declared import BadOptionError
from halfmap.jobs.registry import entries, get_step, load
from halfmap.jobs.step import Step
from halfmap.project.pipeline import CHAIN

SUMMARY = "Cryo-EM from raw movies to a density map that can be trusted."
STEPS: Final = Group("Steps", sort_key=0)
VERBS_GROUP: Final = Group("Sessions, projects, installation", sort_key=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the program and exit: 0 done, 1 failed, 2 wrong use, 130 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command line and return the exit code."""
    try:
        app = app_for(words)
        app(words or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _complain(str(error), f"See halfmap {_command_part(words)} --help.".replace("  ", " "), 2)
    except BadOptionError as error:
        return _complain(error.message, error.remedy, 2)
    except InterruptedJobError as error:
        return _complain(error.message, error.remedy, 130)
    except HalfmapError as error:
        return _complain(error.message, error.remedy, 1)
    except KeyboardInterrupt:
        return _complain("interrupted", "", 130)
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    return 0


def _complain(message: str, remedy: str, code: int) -> int:
    print(f"halfmap: {message}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)
    return code


def app_for(words: Sequence[str]) -> App:
    """The app with as many commands as these words need: one step, or all of them for the help."""
    app = App(name="halfmap", help=SUMMARY, version=__version__, help_format="plaintext")
    command = [word for word in words[:2] if not word.startswith("-")]
    found = entries()
    for length in (2, 1):
        name = " ".join(command[:length])
        if len(command) >= length and name in found:
            _add_step(app, get_step(name), found)
            return app
    group = {name for name in found if command and name.startswith(f"{command[0]} ")}
    if command and command[0] not in VERBS and not group:
        get_step(command[0])
    for name, entry in found.items():
        step = load(entry) if not command or name in group else None
        if isinstance(step, Step):
            _add_step(app, step, found)
    for verb, register in VERBS.items():
        if not command or command[0] == verb:
            register(app)
            app[verb].group = VERBS_GROUP
    return app


def command_words(name: str) -> tuple[str, ...]:
    """Words of a step's command: "simulate movies" is a command of ``simulate``."""
    return tuple(name.split())


def _add_step(app: App, step: Step, known: Iterable[str]) -> None:
    words = command_words(step.name)
    parent = app
    for word in words[:-1]:
        parent = _sub_app(parent, word, known)
    parent.command(step_command(step), name=words[-1], **(_place(step.name) if parent is app else {}))


def _place(name: str) -> dict[str, Any]:
    """Group and rank of a command in the help: steps in the order in which data flow, others after them."""
    return {"group": STEPS, "sort_key": CHAIN.index(name) if name in CHAIN else len(CHAIN)}


def _sub_app(app: App, word: str, known: Iterable[str]) -> App:
    try:
        return app[word]
    except KeyError:
        members = [name.partition(" ")[2] for name in known if name.startswith(f"{word} ")]
        child = App(name=word, help=f"One of: {', '.join(members)}.", help_format="plaintext", **_place(word))
        app.command(child)
        return child


def _command_part(words: Sequence[str]) -> str:
    """The words of the command, without what is given to it."""
    command = [word for word in words[:2] if not word.startswith("-")]
    if len(command) == 2 and " ".join(command) not in entries() and command[0] != "project":
        command.pop()
    return " ".join(command)


if __name__ == "__main__":
    main()
