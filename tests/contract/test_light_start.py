"""The command line starts in no time and without the libraries that it does not need yet."""

import resource
import subprocess
import sys

HELP_CPU_S = 0.5
FORBIDDEN = {"torch", "numpy", "scipy", "pandas", "numba", "matplotlib", "gemmi", "mrcfile", "tifffile"}


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_help_takes_less_than_half_a_second_of_cpu():
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        shown = run(sys.executable, "-m", "halfmap.cli.main", "--help").stdout
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "motion" in shown
    assert min(times) < HELP_CPU_S


def test_help_imports_nothing_heavy():
    code = "import sys; from halfmap.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    loaded = set(run(sys.executable, "-c", code).stderr.split())
    assert "halfmap.cli.main" in loaded
    assert not loaded & FORBIDDEN
