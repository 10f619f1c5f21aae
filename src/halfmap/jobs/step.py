"""A step, declared once: options, inputs, outputs, failures, resources, citations, function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from halfmap.errors import HalfmapError
from halfmap.options import Options

if TYPE_CHECKING:
    from halfmap.jobs.context import JobContext

PortKind = Literal[
    "movies", "micrographs", "coordinates", "particles", "volume", "half-map", "mask", "images", "table", "model", "job"
]  # fmt: skip


@dataclass(frozen=True)
class Port:
    """A typed input or output: what it holds, which columns it needs or adds, its file name.

    As an input, ``columns`` are required of the file; as an output they are the ones that the
    step writes or changes, and every other column of the input passes through.
    """

    name: str
    kind: PortKind
    help: str
    columns: tuple[str, ...] = ()
    file: str = ""
    """File name of an output, relative to the folder of the job."""
    optional: bool = False
    many: bool = False
    """An input that takes several files (patterns are expanded)."""


@dataclass(frozen=True)
class Failure:
    """A way in which a step can end without its outputs, and what the user can do then."""

    code: str
    meaning: str
    remedy: str


@dataclass(frozen=True)
class Citation:
    """A publication that a method comes from."""

    key: str
    text: str
    doi: str = ""


@dataclass(frozen=True)
class Step:
    """One verb of halfmap.

    ``run(job, inputs, options)`` gets the context of the job, the resolved input files by port
    name, and a validated options model; it returns a JSON-able mapping with ``items_in`` and
    ``items_out`` and any other figures worth keeping in the record. It imports its science inside.
    Options that name files are annotated ``Path`` or ``Path | None``: their contents are recorded
    and hashed as inputs are.
    """

    name: str
    summary: str
    options: type[Options]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    run: Callable[[JobContext, Mapping[str, list[Path]], Any], Mapping[str, Any]]
    failures: tuple[Failure, ...] = ()
    citations: tuple[Citation, ...] = ()
    uses_accelerator: bool = False
    example: str = ""
    """A command line that works as written, for the help and the documentation."""
    version: int = 1
    """Raised when the same options begin to mean something else, or checkpoints to hold something else."""

    def failure(self, code: str) -> Failure:
        """The declared failure of that code."""
        for failure in self.failures:
            if failure.code == code:
                return failure
        raise HalfmapError(f"step {self.name} declares no failure {code}")

    def output(self, name: str) -> Port:
        """The declared output of that name."""
        for port in self.outputs:
            if port.name == name:
                return port
        raise HalfmapError(f"step {self.name} declares no output {name}")
