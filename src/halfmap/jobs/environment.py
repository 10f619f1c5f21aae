"""Where a job runs, and what it may use there; looks, and imports nothing heavy."""

from __future__ import annotations

import importlib
import os
import platform
import resource
import socket
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from halfmap import __version__
from halfmap.errors import HalfmapError
from halfmap.jobs.record import Environment

PACKAGES: Final = ("torch", "numpy", "scipy", "numba")
MEMORY_SHARE: Final = 0.8


def environment() -> Environment:
    """Describe this machine and installation."""
    packages = {}
    for name in PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return Environment(
        halfmap=__version__,
        python=platform.python_version(),
        packages=packages,
        host=socket.gethostname(),
        cpu=_cpu_model(),
        cores=available_cores(),
        system=f"{platform.system()} {platform.machine()}",
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def available_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def available_memory_GB() -> float:
    """80 % of the memory that is free now, within the limit of the control group."""
    free = []
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                free.append(int(line.split()[1]) * 1024)
    except OSError:
        free.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="utf-8").strip()
        if limit != "max":
            free.append(int(limit) - int((group / "memory.current").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        pass
    return round(MEMORY_SHARE * min(free) / 1e9, 2)


def cpu_seconds() -> float:
    """CPU time of this process and of its ended children."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def peak_memory_GB() -> float:
    """Largest resident memory so far of this process or of one of its ended children."""
    unit = 1 if sys.platform == "darwin" else 1024
    return (
        unit * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e9
    )


def peak_device_memory_GB() -> float | None:
    """Largest memory that torch held on the accelerator, if torch was imported and uses one."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return float(torch.cuda.max_memory_allocated()) / 1e9


def resolve_device(asked: str, *, uses_accelerator: bool) -> str:
    """Turn ``auto`` into ``cuda`` or ``cpu``; ``cpu`` for a step that has no use for an accelerator.

    Imports torch only where an accelerator could be.

    Raises
    ------
    HalfmapError
        If a CUDA device is asked for and torch cannot use it.
    """
    if asked == "cpu" or not uses_accelerator:
        return "cpu"
    driver = any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg"))
    if asked == "auto" and not driver:
        return "cpu"
    torch = importlib.import_module("torch")  # Named at run time: nothing in the machinery depends on torch.
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if asked == "auto":
        return "cuda" if count else "cpu"
    wanted = int(asked.partition(":")[2] or 0)
    if wanted >= count:
        raise HalfmapError(
            f"device {asked} was asked for; torch {torch.__version__} can use {count} CUDA devices here.",
            remedy="Give --device cpu, or install a driver and a torch build that fit each other.",
            code="no-device",
        )
    return asked
