"""The documentation: every command line parses, every link leads somewhere, every step and failure is there."""

import ast
import re
import shlex
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from cyclopts.exceptions import CycloptsError

from halfmap.cli.main import app_for, command_words
from halfmap.jobs import registry
from halfmap.jobs.declared import BadOptionError, declared, validated
from halfmap.jobs.registry import entries, get_step, load_all
from halfmap.jobs.run_options import RunOptions
from halfmap.project.live_options import LiveOptions
from halfmap.project.plan import SessionOptions

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
PLUGIN = REPOSITORY / "examples" / "plugin"
STEPS, _ = load_all()
PROJECT_VERBS = {"history", "reindex", "lineage", "command"}
OTHER_VERBS = {"run", "live", "project", "steps", "schema", "doctor"}
LINK = re.compile(r"\]\(([^)\s]+)\)")
INLINE = re.compile(r"`(halfmap [^`]+)`")
CODE = re.compile(r"[a-z]+(-[a-z]+)*")


def page_name(page):
    return str(page.relative_to(REPOSITORY))


def block_lines(text):
    """Lines of fenced and indented blocks, those that end in a backslash joined with the next."""
    fenced, found = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            found.append(line.strip())
    return re.sub(r"\\\n", " ", "\n".join(found)).splitlines()


def command_lines(page):
    return [line for line in block_lines(page.read_text()) if line.startswith("halfmap ")]


COMMANDS = [(page_name(page), line) for page in PAGES for line in command_lines(page)]
MENTIONED = [(page_name(page), line) for page in PAGES for line in INLINE.findall(page.read_text())]


@pytest.fixture
def with_plugin(monkeypatch):
    """The example plug-in is installed beside halfmap's own steps."""
    monkeypatch.syspath_prepend(str(PLUGIN))
    own = list(entries().values())
    example = EntryPoint("invert", "halfmap_invert:STEP", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [*own, example])


def step_of(words):
    """The step that these words call, or None for other commands."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in entries() and tuple(words[:length]) == command_words(name):
            return get_step(name)
    return None


def fault_of(line):
    """What is wrong with a whole command line; nothing is run."""
    words = shlex.split(line)[1:]
    step = step_of(words)
    if step is None and words[0] not in OTHER_VERBS:
        return f"there is no step {words[0]}"
    if words[0] == "schema":
        return None if " ".join(words[1:]) in entries() else f"there is no step {words[1:]}"
    if words[0] == "project" and words[1] not in PROJECT_VERBS:
        return f"there is no project {words[1]}"
    try:
        _, bound, _ = app_for(words).parse_args(words, exit_on_error=False, print_error=False)
        if step is not None:
            fields = step.options.model_fields
            validated(step.options, {name: bound.arguments[name] for name in fields if name in bound.arguments})
            if len(bound.arguments.get("inputs", ())) < sum(not port.optional for port in step.inputs):
                return "inputs are missing"
    except (CycloptsError, BadOptionError) as error:
        return str(error)
    return None


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 30
    assert {"motion", "ctf", "pick", "extract", "refine", "postprocess", "run"} <= {
        shlex.split(line)[1] for page, line in COMMANDS if page.startswith("docs/tutorials")
    }


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_command_parses(page, line, with_plugin):
    assert fault_of(line) is None, f"{page}: {line}"


@pytest.mark.parametrize(
    "line",
    [
        "halfmap motions a.tif --out b",
        "halfmap motion a.tif --pixelsize 2 --out b",
        "halfmap motion a.tif --pixel-size two --out b",
        "halfmap ctf --out b",
        "halfmap ctf a.star",
        "halfmap simulate atoms --out b",
        "halfmap project future",
        "halfmap run --symetry O --out b",
    ],
)
def test_wrong_commands_are_noticed(line):
    assert fault_of(line) is not None


@pytest.mark.parametrize(("page", "line"), MENTIONED)
def test_command_in_a_sentence_names_what_there_is(page, line, with_plugin):
    words = line.split()[1:]
    if words[0].isupper() or words[0].startswith("-"):
        return
    step = step_of(words)
    assert step is not None or words[0] in {*OTHER_VERBS, "simulate"}, f"{page}: {line}"
    model = step.options if step is not None else {"live": LiveOptions}.get(words[0], SessionOptions)
    known = {option.flag for options in (model, RunOptions) for option in declared(options)}
    known |= {flag.replace("--", "--no-", 1) for flag in known} | {"--help", "--plan", "--project", "--version"}
    assert {word for word in words if word.startswith("--")} <= known, f"{page}: {line}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page):
    links = [link.partition("#")[0] for link in LINK.findall(page.read_text()) if "://" not in link]
    absent = [link for link in links if link and not (page.parent / link).exists()]
    assert absent == []


def test_every_page_is_reached_from_the_index():
    index = REPOSITORY / "docs" / "index.md"
    reached, open_pages = set(), [index]
    while open_pages:
        page = open_pages.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        open_pages += [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(page.read_text())]
    folders = {"tutorials", "how-to", "theory", "reference"}
    pages = {page for page in PAGES if page.parent.name in folders}
    assert sorted(page_name(page) for page in pages - reached) == []


def test_reference_mentions_every_step():
    headings = re.findall(r"^## (.+)$", (REPOSITORY / "docs" / "reference" / "steps.md").read_text(), re.MULTILINE)
    assert sorted(set(entries()) - set(headings)) == []


def rows_of_trouble():
    """The tables of trouble.md: code -> rows."""
    rows = {}
    for line in (REPOSITORY / "docs" / "how-to" / "trouble.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows.setdefault(cells[0].strip("`"), []).append(cells)
    return rows


def declared_failures():
    return [
        [f"`{failure.code}`", f"`{name}`", failure.meaning, failure.remedy]
        for name, step in STEPS.items()
        for failure in step.failures
    ]


@pytest.mark.parametrize("row", declared_failures(), ids=lambda row: f"{row[1]}-{row[0]}")
def test_every_declared_failure_is_explained(row):
    assert row in rows_of_trouble().get(row[0].strip("`"), []), (
        "in trouble.md should stand: | " + " | ".join(row) + " |"
    )


def code_of(node):
    """The code that a piece of source gives to an error, if any."""
    if isinstance(node, ast.Assign):
        named = any(getattr(target, "id", "") == "code" for target in node.targets)
    else:
        named = isinstance(node, ast.keyword) and node.arg == "code"
    return node.value.value if named and isinstance(node.value, ast.Constant) else None


def codes_in_source():
    """Every code that an error of the machinery or the science can carry, from the source itself."""
    sources = (REPOSITORY / "src" / "halfmap").rglob("*.py")
    found = {code_of(node) for path in sources for node in ast.walk(ast.parse(path.read_text()))}
    return sorted(code for code in found if isinstance(code, str) and CODE.fullmatch(code))


@pytest.mark.parametrize("code", codes_in_source())
def test_every_code_of_an_error_is_explained(code):
    assert code in rows_of_trouble()


def test_verdicts_are_explained():
    source = (REPOSITORY / "src" / "halfmap" / "validation" / "noise_control.py").read_text()
    codes = {
        node.args[0].value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Verdict"
    }
    page = (REPOSITORY / "docs" / "theory" / "resolution_and_doubt.md").read_text()
    assert len(codes) >= 6
    assert sorted(code for code in codes if f"`{code}`" not in page) == []
