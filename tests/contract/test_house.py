"""The house rules that a linter does not know: sizes, light imports, tests that can fail."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
TESTS = sorted((REPOSITORY / "tests").rglob("test_*.py"))

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
MAX_STEP_LINES = 100
HEAVY = {"torch", "numba", "scipy", "pandas", "matplotlib", "gemmi", "tifffile", "imagecodecs", "mrcfile"}
MACHINERY = ("cli", "project", "exec", "jobs", "steps")


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    assert function.end_lineno is not None
    first = function.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    doc_lines = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return function.end_lineno - function.lineno + 1 - doc_lines


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name_of)
def test_files_and_functions_stay_small(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    long = {f.name: code_lines(f) for f in functions(ast.parse(text)) if code_lines(f) > MAX_FUNCTION_LINES}
    assert not long, f"functions over {MAX_FUNCTION_LINES} lines: {long}"


def imported_at_import_time(tree: ast.Module) -> set[str]:
    """Top-level packages imported when the module is, not those inside functions."""
    found: set[str] = set()
    stack: list[ast.AST] = list(tree.body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
        stack.extend(ast.iter_child_nodes(node))
    return found


LIGHT = [p for p in SOURCES if p.parts[len(REPOSITORY.parts) + 2] in MACHINERY or p.stem.endswith("options")]


@pytest.mark.parametrize("path", LIGHT, ids=name_of)
def test_machinery_and_options_import_nothing_heavy(path):
    assert not imported_at_import_time(ast.parse(path.read_text())) & HEAVY


def core_packages() -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    return {re.split(r"[^\w-]", requirement)[0] for requirement in project["dependencies"]}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_core_install_can_import_every_module(path):
    """What belongs to an extra, or to the developers, may be imported inside functions only."""
    foreign = imported_at_import_time(ast.parse(path.read_text())) - set(sys.stdlib_module_names) - {"halfmap"}
    assert foreign <= core_packages()


@pytest.mark.parametrize("path", sorted((REPOSITORY / "src/halfmap/steps").glob("*.py")), ids=name_of)
def test_step_files_are_short(path):
    assert len(path.read_text().splitlines()) <= MAX_STEP_LINES


def asserts(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert):
        return True
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func).split(".")[-1]
    return called in {"raises", "warns", "fail", "deprecated_call"} or called.startswith("assert")


def thrown_away(node: ast.AST) -> bool:
    """A comparison whose result nobody looks at."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Compare):
        return True
    if not isinstance(node.value, ast.Call):
        return False
    return ast.unparse(node.value.func).split(".")[-1] in {"allclose", "array_equal", "equal", "isclose"}


@pytest.mark.parametrize("path", TESTS, ids=name_of)
def test_every_test_can_fail(path):
    tree = ast.parse(path.read_text())
    silent = [f.name for f in functions(tree) if f.name.startswith("test_") and not any(map(asserts, ast.walk(f)))]
    assert not silent, f"tests without an assertion: {silent}"
    assert not [ast.unparse(node) for node in ast.walk(tree) if thrown_away(node)]


def test_benchmarks_can_be_imported():
    """All of them in one process: what they import of the program is still there."""
    names = sorted(file.stem for file in (REPOSITORY / "benchmarks").glob("*.py"))
    code = f"import sys, importlib; sys.path.insert(0, 'benchmarks'); [importlib.import_module(n) for n in {names}]"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert names
    assert done.returncode == 0, done.stderr
