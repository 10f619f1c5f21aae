"""Items on a cluster, through Dask: a running scheduler, or jobs of SLURM and others by dask-jobqueue.

Needs the extra ``halfmap[cluster]``. The workers must see the same files under the same names.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from halfmap.errors import BadInputError, HalfmapError
from halfmap.exec.executor import Outcome, Work, attempt
from halfmap.exec.local import one_thread_in_children

KINDS: Final = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}


class DaskExecutor:
    """Does items as tasks of a Dask client; an item whose worker keeps dying is an outcome, too."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, work: Work, items: Sequence[Any]) -> Iterator[Outcome]:
        """See `Executor`."""
        from distributed import as_completed

        shared = self.client.scatter(work, broadcast=True, hash=False)
        futures = {
            self.client.submit(attempt, index, shared, item, pure=False, retries=1): index
            for index, item in enumerate(items)
        }
        try:
            for future in as_completed(futures):
                if future.status == "finished":
                    yield future.result()
                else:
                    reason = f"{type(future.exception()).__name__}: {future.exception()}"
                    yield Outcome(futures[future], None, reason, "See the logs of the cluster's workers.")
        finally:
            self.client.cancel(list(futures))


def connect(cluster: str) -> Any:
    """Return a Dask client of a scheduler's address (``tcp://...``) or of a cluster described in a TOML file.

    The file says ``kind = "slurm"`` (pbs, sge, lsf, local), ``jobs = 10``, and in ``[options]`` what
    dask-jobqueue's class for it takes: queue, account, cores, memory, walltime.

    Raises
    ------
    HalfmapError
        If the extra is not installed.
    BadInputError
        If the file does not describe a cluster.
    """
    try:
        import distributed
    except ImportError:
        raise HalfmapError("a cluster was asked for, and Dask is not installed.",
                           remedy="pip install 'halfmap[cluster]'", code="no-cluster") from None  # fmt: skip
    if "://" in cluster:
        return distributed.Client(cluster)
    path = Path(cluster)
    kind, jobs, options = _described(path)
    with one_thread_in_children():
        if kind == "local":
            made = distributed.LocalCluster(n_workers=jobs, threads_per_worker=1, **options)
        else:
            made = _jobqueue_class(path, kind)(**options)
            made.scale(jobs=jobs)
        return distributed.Client(made)


def _described(path: Path) -> tuple[str, int, dict[str, Any]]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadInputError(path, "file", found=error.strerror, expected="a scheduler's address or a TOML file",
                            remedy="Check the name.") from None  # fmt: skip
    except tomllib.TOMLDecodeError as error:
        raise BadInputError(path, "content", found=str(error), expected="TOML", remedy="Correct it.") from None
    kind, jobs, options = content.get("kind"), content.get("jobs", 1), content.get("options", {})
    if kind != "local" and kind not in KINDS:
        raise BadInputError(path, "kind", found=repr(kind), expected=f"local, {', '.join(KINDS)}",
                            remedy="Correct it.")  # fmt: skip
    if not isinstance(jobs, int) or jobs < 1:
        raise BadInputError(path, "jobs", found=repr(jobs), expected="a number from 1", remedy="Correct it.")
    return str(kind), jobs, dict(options)


def _jobqueue_class(path: Path, kind: str) -> Any:
    try:
        import dask_jobqueue
    except ImportError:
        raise HalfmapError(f"{path} asks for {kind}, and dask-jobqueue is not installed.",
                           remedy="pip install 'halfmap[cluster]'", code="no-cluster") from None  # fmt: skip
    return getattr(dask_jobqueue, KINDS[kind])
