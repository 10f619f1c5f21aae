"""Writes docs/reference/steps.md from the declarations; ``--check`` says whether it is stale.

Run it as ``python -m halfmap.cli.reference`` in the folder of the repository.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from halfmap.errors import HalfmapError
from halfmap.jobs.declared import Declared, declared, default_text
from halfmap.jobs.registry import load_all
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Port, Step
from halfmap.project.live_options import LiveOptions
from halfmap.project.pipeline import CHAIN
from halfmap.project.plan import SessionOptions

PAGE: Final = Path("docs/reference/steps.md")
INTRODUCTION: Final = """# Steps

Made from the declarations by `make docs`; do not edit. Each step is run as
`halfmap STEP INPUT... --option value --out FOLDER`, and `halfmap STEP --help` says the same as this page.
"""


def page() -> str:
    """The whole page.

    Raises
    ------
    HalfmapError
        If a step cannot be loaded: the page would lack it.
    """
    steps, broken = load_all()
    if broken:
        faults = ", ".join(f"{entry.name} ({entry.reason})" for entry in broken)
        raise HalfmapError(f"steps that cannot be loaded: {faults}")
    names = sorted(steps, key=lambda name: (CHAIN.index(name) if name in CHAIN else len(CHAIN), name))
    sections = [INTRODUCTION]
    sections.append("\n".join(f"- [`{name}`](#{name.replace(' ', '-')}): {steps[name].summary}" for name in names))
    sections += ["\n".join(_step_lines(steps[name])) for name in names]
    sections.append("## Options of every step\n\n" + "\n".join(_option_table(declared(RunOptions))))
    sections.append("## Options of `halfmap run`\n\n" + "\n".join(_option_table(declared(SessionOptions))))
    sections.append("## Options of `halfmap live`\n\n" + "\n".join(_option_table(declared(LiveOptions))))
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _step_lines(step: Step) -> Iterator[str]:
    yield f"## {step.name}"
    yield ""
    yield step.summary
    if step.example:
        yield from ("", f"    {step.example}")
    sides: tuple[tuple[str, Sequence[Port]], ...] = (("Inputs", step.inputs), ("Outputs", step.outputs))
    for title, ports in sides:
        if ports:
            yield from ("", f"{title}:", "")
            yield from (f"- {_port_text(port)}" for port in ports)
    if step.options.model_fields:
        yield ""
        yield from _option_table(declared(step.options))
    if step.failures:
        yield from ("", "It can end without its outputs:", "")
        yield from (f"- `{failure.code}`: {failure.meaning} {failure.remedy}" for failure in step.failures)
    if step.citations:
        yield from ("", "After:", "")
        for citation in step.citations:
            yield f"- {citation.text}" + (f" <https://doi.org/{citation.doi}>" if citation.doi else "")


def _port_text(port: Port) -> str:
    file = f" in `{port.file}`" if port.file else ""
    count = ", one or more files" if port.many else ""
    optional = ", optional" if port.optional else ""
    columns = f" Columns: {', '.join(f'`{column}`' for column in port.columns)}." if port.columns else ""
    return f"`{port.name}` ({port.kind}{count}{optional}){file}: {port.help.rstrip('.')}.{columns}"


def _option_table(options: Sequence[Declared]) -> Iterator[str]:
    yield "| option | default | unit | range | meaning |"
    yield "|---|---|---|---|---|"
    for option in options:
        cells = (f"`{option.flag}`", default_text(option), option.unit, option.range, option.help)
        advanced = " (advanced)" if option.advanced else ""
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + advanced + " |"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" not in arguments:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE}")
        return 0
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE} is stale: run  make docs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
