"""A session that grows while movies are recorded: import, motion, CTF and picks of what has come, round by round.

Every round runs the ordinary steps in the ordinary job folders, as jobs that grow (``run_job(..., grows=True)``):
each item is done once, and after every round the tables are those of a chain that later steps take. What was taken,
in which order, stands in `live.json` and `taken.star`; everything else is in the jobs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from halfmap.errors import HalfmapError
from halfmap.exec.local import PROCESSES_PER_DEVICE, LocalPool, ProcessExecutor
from halfmap.exec.runner import run_job
from halfmap.exec.running import ChooseExecutor
from halfmap.exec.screen import Screen
from halfmap.jobs.atomic import write_text_atomic
from halfmap.jobs.context import Progress
from halfmap.jobs.environment import available_cores, resolve_device
from halfmap.jobs.lock import folder_lock
from halfmap.jobs.record import RECORD_FILE, JobRecord
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Step
from halfmap.optics.options import OpticsOptions
from halfmap.project.live_options import LiveOptions
from halfmap.project.live_status import Taken, progress_line, status_of
from halfmap.project.pipeline import CommandOf
from halfmap.project.plan import PLAN_FILE, Plan, options_for, plan_text
from halfmap.project.watch import Watch, WholeFile
from halfmap.steps.files import output_stems

LIVE_CHAIN: Final = ("import", "motion", "ctf", "pick")
TAKES: Final[Mapping[str, str]] = {"motion": "movies", "ctf": "micrographs", "pick": "micrographs"}
"""Step -> kind of the output of the step before that it reads."""
STATE_FILE: Final = "live.json"
TAKEN_FILE: Final = "taken.star"
STATUS_FILE: Final = "status.json"
LIVE_PAGE: Final = "live.html"
PUBLISHED_EVERY_S: Final = 30.0
BATCH_PER_WORKER: Final = 8
"""Movies of one round for each worker: enough that the few seconds between rounds do not matter."""
RETRY_S: Final = 60.0
HEALING: Final = frozenset({"too-many-failures", "no-particles", "nothing", "unexpected"})
"""Failures of a step that more movies, or another try, may mend; others end the session."""


class LiveSession:
    """One watched folder, carried on in ``run.out``; started again, it goes on where it was."""

    def __init__(
        self, folder: Path, options: LiveOptions, plan: Plan, steps: Mapping[str, Step], run: RunOptions,
        screen: Screen, command_of: CommandOf, choose_executor: ChooseExecutor | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.out, self.options, self.plan = folder, run.out, options, plan
        self.chain = [steps[name] for name in LIVE_CHAIN]
        # One bad movie never ends a session: a step fails only if all of its items do.
        self.run = run.model_copy(update={"max_failed_frac": 1.0})
        self.screen, self.command_of = screen, command_of
        self.pool = LocalPool()
        self.choose_executor: ChooseExecutor = choose_executor or self._workers
        self.movies: list[Taken] = []
        self.refused: dict[str, str] = {}
        self.trouble = ""
        self.stopping = False
        self.doing = ""
        self.last_try = self.published = -PUBLISHED_EVERY_S
        gain = plan.session.gain
        self.watch = Watch(
            folder, patterns=options.pattern, settle_s=options.settle_s,
            give_up_s=options.settle_s if options.once else options.give_up_s,
            ignored=[run.out, *([gain] if gain is not None else [])],
        )  # fmt: skip

    def _workers(self, n_items: int, threads: int, device: str) -> ProcessExecutor:
        """Workers that live as long as the session; never this process, which a bad item could take along."""
        return ProcessExecutor(_worker_count(threads, device), self.pool)

    def execute(self) -> dict[str, Any]:
        """Watch and work until asked to stop, or nothing comes any more; the last status.

        Raises
        ------
        HalfmapError
            What more movies cannot mend: options that contradict the files, an output folder in use.
        """
        if not self.folder.is_dir():
            raise HalfmapError(f"there is no folder {self.folder}.", remedy="Name the folder that movies come into.")
        with folder_lock(self.out):
            self._load()
            write_text_atomic(self.out / PLAN_FILE, plan_text(self.plan, self.chain))
            if self.movies:
                self.screen.say(f"going on with {len(self.movies)} movies taken before")
            self.watch.look()
            self.watch.start(min(self.options.poll_s, max(self.options.settle_s, 0.05)))
            state = "stopped"
            try:
                self._loop()
                self._close()
                state = "ended"
            finally:
                self.watch.stop()
                self.pool.close()
                status = self.publish(state)
            return status

    def stop(self) -> None:
        """End after the round that is going on."""
        self.stopping = True
        self.screen.say("ending after this round; Ctrl-C again to leave at once (nothing that is done is lost)")

    # --- the loop -----------------------------------------------------------------------------

    def _loop(self) -> None:
        unfinished = any(record.state != "finished" for record in self.records().values())
        if unfinished or any(movie.done is None for movie in self.movies):
            self._round()
        while not self.stopping:
            taken = self._take()
            late = self.trouble and time.monotonic() - self.last_try > RETRY_S
            if taken or late:
                self._round()
                continue
            self._publish_now_and_then()
            if self._nothing_more():
                return
            time.sleep(min(self.options.poll_s, 0.5))

    def _nothing_more(self) -> bool:
        view = self.watch.view()
        if view.waiting or view.ready:
            return False
        if self.options.once:
            return self.watch.looks > 1
        idle = self.options.stop_after_idle_s
        return idle is not None and self.watch.clock() - view.last_change > idle

    def _take(self) -> int:
        """Take whole files, at most a batch of them, and remember that before anything is done with them."""
        device = resolve_device(self.run.device, uses_accelerator=True)
        workers = _worker_count(self.run.threads or available_cores(), device)
        known = {movie.name: movie for movie in self.movies}
        stems = {output_stems([movie.name])[0]: movie.name for movie in self.movies}
        ready = self.watch.view().ready[: BATCH_PER_WORKER * workers]
        self.watch.take(ready)
        now, count = time.time(), 0
        for file in ready:
            name = str(file.path)
            stem = output_stems([name])[0]
            if name in known:
                self._forget_failure(name)
                known[name].size, known[name].mtime_ns, known[name].done = file.size, file.mtime_ns, None
            elif stem in stems:
                self.refused[name] = f"outputs are named after movies, and {stems[stem]} has the same name: rename it"
                continue
            else:
                stems[stem] = name
                self.movies.append(Taken(name, file.size, file.mtime_ns, now))
            count += 1
        if ready:
            self._save()
        return count

    def _round(self, *, last: bool = False) -> None:
        """Bring everything that was taken as far as it goes."""
        self.last_try, before = time.monotonic(), self.trouble
        self.trouble = ""
        began = time.monotonic()
        waiting = [movie for movie in self.movies if movie.done is None]
        try:
            self._write_taken()
            self._stages(last=last)
            for movie in waiting:
                movie.done = time.time()
            self._save()
        except HalfmapError as error:
            if error.code not in HEALING:
                raise
            self.trouble = f"{error.message} {error.remedy}".strip()
        except OSError as error:
            self.trouble = f"{error}; it is tried again every {RETRY_S:.0f} s."  # A full disk, most likely.
        if self.trouble not in ("", before):
            self.screen.say(f"warning: {self.trouble}")
        self._look_again()
        status = self.publish("collecting")
        if waiting:
            self.screen.say(progress_line(status, len(waiting), time.monotonic() - began))

    def _stages(self, *, last: bool) -> None:
        source = self.out / TAKEN_FILE
        for number, step in enumerate(self.chain, start=1):
            folder = self.out / f"{number:02d}_{step.name}"
            if number > 1:
                before = self.chain[number - 2]
                source = self._folder(before) / next(p.file for p in before.outputs if p.kind == TAKES[step.name])
            options = options_for(step, self.plan, {}, first=number == 1)
            enough = getattr(options, "survey_micrographs", 0)
            if not last and enough and self._fitted() < enough and not (folder / RECORD_FILE).exists():
                return  # What to pick is decided once: from as many micrographs as the step wants to see for that.
            run = self.run.model_copy(update={"out": folder})
            self.doing = step.name
            run_job(
                step, {step.inputs[0].name: [source]}, options, run,
                command=self.command_of(step, [str(source)], options, run), screen=_Quiet(self),
                choose_executor=self.choose_executor, grows=True,
            )  # fmt: skip
            self.doing = ""

    def _close(self) -> None:
        """Pick if that was still to come, and draw the pages that jobs which grow do not draw themselves."""
        from halfmap.steps.pages.write import write_page

        pick = self.chain[-1]
        if self._fitted() and not (self._folder(pick) / RECORD_FILE).exists():
            self._round(last=True)
        for step in self.chain:
            folder = self._folder(step)
            if (folder / RECORD_FILE).exists() and (record := JobRecord.load(folder)).state == "finished":
                try:
                    write_page(folder, record, [citation.text for citation in step.citations])
                except Exception as error:
                    self.screen.say(f"warning: the page of {step.name} could not be drawn: {error}")

    # --- files --------------------------------------------------------------------------------

    def _folder(self, step: Step) -> Path:
        return self.out / f"{1 + LIVE_CHAIN.index(step.name):02d}_{step.name}"

    def _load(self) -> None:
        with suppress(FileNotFoundError):
            stored = json.loads((self.out / STATE_FILE).read_text(encoding="utf-8"))
            spelled = Path(stored["folder"])
            if spelled.absolute() != self.folder.absolute():
                raise HalfmapError(
                    f"{self.out} is the session of the folder {spelled}, which is not {self.folder} from here.",
                    remedy="Give another --out, or that folder, started from where it was started.", code="other-job",
                )  # fmt: skip
            self.folder = self.watch.folder = spelled
            self.movies = [Taken(**movie) for movie in stored["movies"]]
            self.refused = stored["refused"]
        self.watch.take([WholeFile(Path(movie.name), movie.size, movie.mtime_ns) for movie in self.movies])
        self.watch.take([WholeFile(Path(name), 0, 0) for name in self.refused])
        self._look_again()

    def _save(self) -> None:
        content = {
            "folder": str(self.folder),
            "movies": [vars(movie) for movie in self.movies],
            "refused": self.refused,
        }
        write_text_atomic(self.out / STATE_FILE, json.dumps(content))

    def _write_taken(self) -> None:
        """Put what is new behind the table of the movies; halves that were given stay."""
        from halfmap.data.halves import assign_half_sets
        from halfmap.data.join import join_image_sets
        from halfmap.io.relion import read_image_set, write_image_set
        from halfmap.steps.inputs import image_set_from

        star = self.out / TAKEN_FILE
        earlier = [read_image_set(star, "movies")] if star.exists() else []
        known: dict[str, int] = {}
        for images in earlier:
            known |= dict(zip(images["movie_name"].tolist(), images["half_set"].tolist(), strict=True))
        new = [Path(movie.name) for movie in self.movies if movie.name not in known]
        if not new:
            return
        optics = OpticsOptions(**{name: getattr(self.plan.session, name) for name in OpticsOptions.model_fields})
        images = join_image_sets([*earlier, image_set_from(new, "movies", optics, seed=self.run.seed)])
        halves = assign_half_sets(images["movie_name"].tolist(), self.run.seed, known)
        write_image_set(star, images.with_columns(half_set=halves))

    def _fitted(self) -> int:
        """Micrographs that have a CTF."""
        record = self.records().get("ctf")
        return int(record.figures.get("items_out", 0)) if record is not None else 0

    def records(self) -> dict[str, JobRecord]:
        """Records of the jobs that there are, by step."""
        folders = {step.name: self._folder(step) for step in self.chain}
        return {name: JobRecord.load(path) for name, path in folders.items() if (path / RECORD_FILE).exists()}

    def _look_again(self) -> None:
        """Watch the movies that did not become micrographs: they may be replaced by good ones."""
        records = self.records()
        first = [records[name] for name in ("import", "motion") if name in records]
        bad = {failure.item for record in first for failure in record.failed_items}
        movies = [movie for movie in self.movies if movie.name in bad and movie.done is not None]
        self.watch.look_again([WholeFile(Path(movie.name), movie.size, movie.mtime_ns) for movie in movies])

    def _forget_failure(self, movie: str) -> None:
        """A bad movie was replaced: try it again."""
        for step in self.chain[:2]:
            folder = self._folder(step)
            if not (folder / RECORD_FILE).exists():
                continue
            record = JobRecord.load(folder)
            left = tuple(failure for failure in record.failed_items if failure.item != movie)
            if left != record.failed_items:
                record.model_copy(update={"failed_items": left, "state": "interrupted"}).save(folder)

    # --- what people and programs see ---------------------------------------------------------

    def _publish_now_and_then(self) -> None:
        if time.monotonic() - self.published >= PUBLISHED_EVERY_S:
            self.publish("collecting")

    def publish(self, state: str) -> dict[str, Any]:
        """Write `status.json` and the page; return the status."""
        from halfmap.steps.pages.live import write_live_page

        status = status_of(
            state, self.movies, self.refused, self.watch.view(), self.records(),
            folder=str(self.folder), doing=self.doing, trouble=self.trouble or self.watch.fault,
        )  # fmt: skip
        try:
            write_text_atomic(self.out / STATUS_FILE, json.dumps(status, indent=1) + "\n")
            written = {movie.name: movie.mtime_ns / 1e9 for movie in self.movies}
            write_live_page(self.out / LIVE_PAGE, status, written, {s.name: self._folder(s) for s in self.chain})
        except Exception as error:
            # A look at the session must not end it.
            self.screen.say(f"warning: {LIVE_PAGE} could not be drawn: {type(error).__name__}: {error}")
        self.published = time.monotonic()
        return status


def _worker_count(threads: int, device: str) -> int:
    return threads if device == "cpu" else min(threads, PROCESSES_PER_DEVICE)


class _Quiet:
    """The screen of the jobs: what is passed over and warned of, and a look at the session now and then."""

    def __init__(self, session: LiveSession) -> None:
        self.session = session

    def say(self, message: str) -> None:
        """See `Screen`."""
        if message.startswith("warning:") or "is passed over" in message:
            self.session.screen.say(message)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Progress]:
        """See `Screen`."""
        yield _Glance(self.session, label, total)


class _Glance:
    def __init__(self, session: LiveSession, label: str, total: int) -> None:
        self.session, self.label, self.total, self.done = session, label, total, 0

    def advance(self, count: int = 1, note: str = "") -> None:
        """See `Progress`."""
        self.done += count
        self.session.doing = f"{self.label}, {self.done} of {self.total}"
        self.session._publish_now_and_then()
