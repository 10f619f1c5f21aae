"""From movies (or micrographs, or particles) to a map: the steps of a session, one job folder each."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from halfmap.errors import HalfmapError
from halfmap.exec.runner import run_job
from halfmap.exec.running import ChooseExecutor
from halfmap.exec.screen import Screen, clock
from halfmap.jobs.atomic import atomic_path, write_text_atomic
from halfmap.jobs.lock import folder_lock
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Port, Step
from halfmap.options import Options
from halfmap.project.plan import CLASSES_STEP, PLAN_FILE, STARTS, Plan, options_for, plan_text
from halfmap.refine.refine3d.options import FIRST_RESOLUTIONS_A

CHAIN: Final = (
    "gain", "motion", "ctf", "curate", "pick", "extract", "class2d", "select", "abinitio", "refine", "mask",
    "postprocess",
)  # fmt: skip
GOES_ON_WITHOUT: Final = {"gain": ("few-movies", "orientation-not-told")}
"""Step -> failures that the session survives with what it was given; they are said, and stand in the record."""
SUMMARY_FILE: Final = "summary.json"
RESULTS: Final = ("map.mrc", "half1.mrc", "half2.mrc", "mask.mrc", "particles.star", "fsc.star")
"""Files that stand in the session's folder at the end, from the last job that wrote one of that name."""
PARTICLES_PER_CLASS: Final = 100
CLASSES: Final = (8, 50)

CommandOf = Callable[[Step, Sequence[str], Options, RunOptions], tuple[str, ...]]


@dataclass(frozen=True)
class Stage:
    """A step of the session that has been done."""

    step: Step
    folder: Path
    record: JobRecord


def chain_of(plan: Plan, steps: Mapping[str, Step]) -> list[Step]:
    """The steps that this plan needs, in order."""
    start = plan.start()[0]
    names = list(CHAIN[CHAIN.index(STARTS[start]) :])
    if start == "movies" and plan.session.gain is not None:
        names.insert(0, "gain")
    if plan.session.reference is not None:
        names.remove("abinitio")
    absent = [name for name in names if name not in steps]
    if absent:
        raise HalfmapError(f"the steps {', '.join(absent)} are not installed.", remedy="See halfmap doctor.")
    return [steps[name] for name in names]


class Session:
    """One run of the chain in a folder; run again, it goes on where it was."""

    def __init__(
        self, plan: Plan, chain: Sequence[Step], first_inputs: Sequence[Path], run: RunOptions, screen: Screen,
        command_of: CommandOf, choose_executor: ChooseExecutor | None = None,
    ) -> None:  # fmt: skip
        self.choose_executor = choose_executor
        self.plan, self.chain, self.run, self.screen, self.command_of = plan, chain, run, screen, command_of
        self.stages: list[Stage] = []
        self.derived: dict[str, Any] = {}
        self.first_inputs = list(first_inputs)
        self.available: dict[str, list[Path]] = {chain[0].inputs[0].kind: self.first_inputs}

    def execute(self) -> list[Stage]:
        """Do every step, then leave results, plan and summary in the session's folder.

        Raises
        ------
        HalfmapError
            Whatever ends a step; the session goes on from there when it is run again.
        """
        folder = self.run.out
        with folder_lock(folder):
            write_text_atomic(folder / PLAN_FILE, plan_text(self.plan, self.chain))
            for number, step in enumerate(self.chain, start=1):
                self._say_choices(step)
                self._stage(step, folder / f"{number:02d}_{step.name}")
            _copy_results(self.stages, folder)
            try:
                _write_page(self.stages, folder)
            except Exception as error:
                self.screen.say(f"warning: report.html could not be drawn: {type(error).__name__}: {error}")
            write_text_atomic(folder / SUMMARY_FILE, json.dumps(summary(self.stages), indent=1) + "\n")
        return self.stages

    def _stage(self, step: Step, folder: Path) -> None:
        inputs = {port.name: self._input(step, port) for port in step.inputs}
        inputs = {name: paths for name, paths in inputs.items() if paths}
        derived = self._wired(step)
        bare = [path for paths in inputs.values() for path in paths] == self.first_inputs
        options = options_for(step, self.plan, derived, first=bare)
        run = self.run.model_copy(update={"out": folder})
        self.screen.say(f"== {step.name} in {folder}")
        files = [str(path) for paths in inputs.values() for path in paths]
        given = self.plan.start()[1] if bare else files
        command = self.command_of(step, given, options, run)
        job = partial(
            run_job, step, inputs, options, run, command=command, screen=self.screen,
            choose_executor=self.choose_executor,
        )  # fmt: skip
        try:
            record = job()
        except HalfmapError as error:
            if error.code in GOES_ON_WITHOUT.get(step.name, ()):
                self._go_on_without(step, folder, error.message)
                return
            if error.code != "other-job":
                raise
            self._set_aside(folder, error.message)
            record = job()
        self.stages.append(Stage(step, folder, record))
        self._take_outputs(step, folder, record)

    def _go_on_without(self, step: Step, folder: Path, message: str) -> None:
        """Take a failed job into the session as a warning."""
        warning = f"{message} The session went on with what it was given."
        self.screen.say(f"warning: {step.name}: {warning}")
        record = JobRecord.load(folder)
        record = record.model_copy(update={"warnings": (*record.warnings, warning)})
        self.stages.append(Stage(step, folder, record))

    def _input(self, step: Step, port: Port) -> list[Path]:
        """The newest file of the kind that the port takes; half-maps go to their ports in order."""
        found = self.available.get(port.kind, [])
        same = [other.name for other in step.inputs if other.kind == port.kind]
        mine = found if port.many else found[same.index(port.name) :][:1]
        if not mine and not port.optional:
            raise HalfmapError(f"{step.name} needs {port.name} ({port.kind}), and no step before it gives that.")
        return mine

    def _wired(self, step: Step) -> dict[str, Any]:
        """Options that earlier steps decide: gain reference, diameter, classes, reference map, mask."""
        derived = dict(self.derived)
        if self.available.get("volume") and self.plan.session.reference is None:
            derived["reference"] = self.available["volume"][0]
        if self.available.get("mask"):
            derived["mask"] = self.available["mask"][0]
        return derived

    def _take_outputs(self, step: Step, folder: Path, record: JobRecord) -> None:
        written = {file.port for file in record.outputs}
        kinds: dict[str, list[Path]] = {}
        for port in step.outputs:
            if port.name in written and (folder / port.file).is_file():
                kinds.setdefault(port.kind, []).append(folder / port.file)
        self.available |= kinds
        if self.plan.session.diameter_A is None and record.figures.get("diameter_A"):
            self.derived["diameter_A"] = float(record.figures["diameter_A"])
        if step.name == "gain":
            self.derived["gain"] = folder / "gain.mrc"
        # Low-passed any further, a start would show refinement nothing by which to tell views apart.
        if (record.figures.get("told_apart_A") or FIRST_RESOLUTIONS_A[0]) < FIRST_RESOLUTIONS_A[0]:
            self.derived["initial_resolution_A"] = float(record.figures["told_apart_A"])

    def _say_choices(self, step: Step) -> None:
        """Decide what a person would have to, and say it with the reason."""
        fields = step.options.model_fields
        own = self.plan.steps.get(step.name, {})
        if step.name == CLASSES_STEP and self.plan.session.classes is None and "classes" not in own:
            particles = self._particles()
            classes = min(max(particles // PARTICLES_PER_CLASS, CLASSES[0]), CLASSES[1])
            self.derived["classes"] = classes
            self.screen.say(f"{step.name}: {classes} classes, because there are {particles} particles")
        if "diameter_A" in fields and "diameter_A" not in own and self.plan.session.diameter_A is None:
            found = self.derived.get("diameter_A")
            text = f"{found:.0f} Å, as estimated before" if found else "not given, it is left to the step"
            self.screen.say(f"{step.name}: particle diameter {text}")
        if (
            "initial_resolution_A" in fields
            and "initial_resolution_A" in self.derived
            and "initial_resolution_A" not in own
        ):
            first_A = self.derived["initial_resolution_A"]
            self.screen.say(f"{step.name}: starts at {first_A:g} Å, where the first map begins to tell views apart")
        if step.name != "gain" and "gain" in fields and "gain" in self.derived and "gain" not in own:
            self.screen.say(f"{step.name}: gain reference {self.derived['gain']}, turned as the movies ask for")
        if "symmetry" in fields and "symmetry" not in own:
            self.screen.say(f"{step.name}: symmetry {self.plan.session.symmetry}")

    def _particles(self) -> int:
        from halfmap.io.relion import read_image_set

        return len(read_image_set(self.available["particles"][0], "particles"))

    def _set_aside(self, folder: Path, reason: str) -> None:
        """Move jobs of an earlier plan away: this one, and the later ones that depend on it."""
        self.screen.say(reason)
        for name in (*RESULTS, "report.html", SUMMARY_FILE):
            (self.run.out / name).unlink(missing_ok=True)  # They are of the earlier plan.
        later = [path for path in sorted(self.run.out.glob("[0-9][0-9]_*")) if path.name >= folder.name]
        place = self.run.out / "superseded"
        attempt = 1 + sum(1 for _ in place.glob("*")) if place.is_dir() else 1
        for path in later:
            with folder_lock(path):
                target = place / str(attempt) / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        names = ", ".join(path.name for path in later)
        self.screen.say(f"the plan has changed: {names} moved to {place / str(attempt)}")


def _copy_results(stages: Sequence[Stage], folder: Path) -> None:
    for name in RESULTS:
        sources = [stage.folder / name for stage in stages if (stage.folder / name).is_file()]
        if sources:
            with atomic_path(folder / name) as part:
                shutil.copyfile(sources[-1], part)


def _write_page(stages: Sequence[Stage], folder: Path) -> None:
    from halfmap.steps.pages.write import PAGE, write_session_page

    citations = [citation.text for stage in stages for citation in stage.step.citations]
    write_session_page(folder / PAGE, [(stage.folder, stage.record) for stage in stages], citations)


def summary(stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Figures of every step, for programs."""
    return [
        {
            "step": stage.step.name,
            "folder": stage.folder.name,
            "figures": stage.record.figures,
            "passed_over": len(stage.record.failed_items),
            "warnings": list(stage.record.warnings),
            "cpu_s": round(sum(run.cpu_s or 0.0 for run in stage.record.runs), 1),
        }
        for stage in stages
    ]


def summary_lines(stages: Sequence[Stage]) -> list[str]:
    """Counts of every step and the resolutions found, for people."""
    lines = []
    for stage in stages:
        figures = stage.record.figures
        counts = f"{figures.get('items_in', '')} -> {figures.get('items_out', '')}"
        cpu = sum(run.cpu_s or 0.0 for run in stage.record.runs)
        failed = f", {len(stage.record.failed_items)} passed over" if stage.record.failed_items else ""
        found = [f"{name} {value:.2f}" for name, value in figures.items() if _is_resolution(name, value)]
        lines.append(f"{stage.step.name:12} {counts:>18}{failed}  {clock(cpu)} of CPU  {', '.join(found)}".rstrip())
    warnings = [f"{stage.step.name}: {text}" for stage in stages for text in stage.record.warnings]
    return lines + [f"warning: {text}" for text in warnings]


def _is_resolution(name: str, value: Any) -> bool:
    return "resolution" in name and isinstance(value, int | float)
