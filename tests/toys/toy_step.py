"""A step for tests of the machinery: items, then an iteration with checkpoints; seconds in all."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from halfmap.errors import BadInputError
from halfmap.jobs.atomic import atomic_path
from halfmap.jobs.context import JobContext
from halfmap.jobs.step import Failure, Port, Step
from halfmap.options import Options, option


class ToyOptions(Options):
    length_px: int = option(16, help="Numbers an item.", gt=0, le=1000)
    iterations: int = option(5, help="Iterations.", ge=0)
    pause_s: float = option(0.0, help="Sleep in each item and iteration.", ge=0)
    mask: Path | None = option(None, help="A file that is read.")


def one_item(item: str, *, folder: str, length: int, pause: float, seed: int) -> Mapping[str, Any]:
    """Write a file of numbers made from the item's text; some texts are bad in their own ways."""
    import numpy as np

    text = Path(item).read_text()
    if text == "bad":
        raise BadInputError(item, "content", found="bad", expected="good", remedy="Write good into it.")
    if text == "bug":
        raise ZeroDivisionError("one over nothing")
    if text == "large":
        raise MemoryError("16 EiB wanted")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(pause)
    with open(f"{folder}/trace.txt", "a") as trace:
        trace.write(f"{Path(item).name} {os.environ.get('OMP_NUM_THREADS')}\n")
    values = np.random.default_rng([seed, *text.encode()]).standard_normal(length)
    with atomic_path(f"{folder}/{Path(item).stem}.npy") as part, part.open("wb") as file:
        np.save(file, values)
    return {"sum": values.sum(), "pid": 0, "shape": values.shape}


def process_of(pause_s: float, more: int = 0) -> Mapping[str, Any]:
    """Say which process does the work."""
    time.sleep(pause_s)
    return {"pid": os.getpid()}


def run(job: JobContext, inputs: Mapping[str, list[Path]], options: ToyOptions) -> Mapping[str, Any]:
    import numpy as np

    (job.folder / "numbers").mkdir(exist_ok=True)
    work = partial(
        one_item, folder=str(job.folder / "numbers"), length=options.length_px, pause=options.pause_s, seed=job.seed
    )
    results = job.each("items", [str(path) for path in inputs["texts"]], work, key=lambda item: Path(item).name)
    good = [result for result in results if result.value is not None]
    state = np.array([result.value["sum"] for result in good if result.value is not None])
    if state.sum() == 0 and options.iterations == 0:
        job.fail("nothing", "there is nothing")
    first = 0
    found = job.load_checkpoint("state")
    if found is not None:
        first, arrays, facts = found
        assert facts["iteration"] == first
        state = arrays["state"]
    with job.progress("iterations", options.iterations - first) as bar:
        for iteration in range(first, options.iterations):
            time.sleep(options.pause_s)
            state = np.sin(3.1 * state + iteration) + 0.5 * state
            job.save_checkpoint("state", iteration + 1, {"state": state}, {"iteration": iteration + 1})
            bar.advance()
    with atomic_path(job.folder / "result.npy") as part, part.open("wb") as file:
        np.save(file, state)
    return {"items_in": len(results), "items_out": len(good), "last": state[-1]}


STEP = Step(
    name="toy",
    summary="Turn texts into numbers.",
    options=ToyOptions,
    inputs=(Port("texts", "table", "text files", many=True),),
    outputs=(Port("result", "table", "numbers", file="result.npy"),),
    run=run,
    failures=(Failure("nothing", "No numbers.", "Give texts."),),
    example="halfmap toy a.txt b.txt --out toy",
)
