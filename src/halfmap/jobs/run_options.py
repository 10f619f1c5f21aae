"""What every step takes besides its own options: where to write, and what it may use."""

from __future__ import annotations

from pathlib import Path

from halfmap.options import Options, option


class RunOptions(Options):
    """How a job runs. None of these changes what the options of a step mean."""

    out: Path = option(..., help="Folder of the job; the same command on it continues an interrupted job.")
    seed: int = option(0, help="The only source of randomness.", ge=0, lt=2**63)
    threads: int | None = option(None, help="Processor cores to use; all that this process may use if not given.", ge=1)
    device: str = option(
        "auto",
        help="auto (a CUDA device if there is one), cpu, cuda, or cuda:N.",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
    )
    memory_GB: float | None = option(None, help="Memory to use; 80 % of what is free if not given.", gt=0)
    cluster: str | None = option(
        None,
        help="Do items on a cluster: a Dask scheduler's address, or a TOML file that describes one.",
        advanced=True,
    )
    max_failed_frac: float = option(
        0.2,
        help="Share of items that may fail before the job does; one failure is passed over unless this is 0.",
        ge=0,
        le=1,
        advanced=True,
    )
