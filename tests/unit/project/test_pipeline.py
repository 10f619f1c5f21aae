"""A session: the right files reach the right steps, choices are said, the plan can be edited and run again."""

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from quiet import Quiet
from toy_chain import STEPS, toy

from halfmap.errors import HalfmapError
from halfmap.jobs.declared import BadOptionError
from halfmap.jobs.run_options import RunOptions
from halfmap.jobs.step import Failure
from halfmap.project import pipeline
from halfmap.project.pipeline import CHAIN, Session, chain_of, summary_lines
from halfmap.project.plan import SESSION, SessionOptions, make_plan, plan_text
from halfmap.steps.pages import write


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Session, "_particles", lambda self: 1234)
    monkeypatch.setattr(write, "SECTIONS", {})
    for name in ("m1.tif", "m2.tif", "gain.mrc", "p.star", "ref.mrc"):
        (tmp_path / name).write_text(name)


@pytest.fixture
def session():
    def run(out="s", plan=None, steps=STEPS, **given):
        made = make_plan(plan, given, steps)
        files = [Path(name) for name in made.start()[1]]
        screen = Quiet()
        run_options = RunOptions(out=Path(out), threads=1)
        stages = Session(
            made,
            chain_of(made, steps),
            files,
            run_options,
            screen,
            lambda step, given, options, run: ("halfmap", step.name),
        ).execute()
        return stages, screen.text

    return run


MOVIES = {"movies": ("m1.tif", "m2.tif"), "gain": Path("gain.mrc"), "pixel_size_A": 1.1, "symmetry": "O"}


def told(folder, file):
    return json.loads((Path(folder) / file).read_text())


def test_movies_to_map(session):
    stages, text = session(**MOVIES)
    assert [stage.folder.name for stage in stages] == [f"{i:02d}_{name}" for i, name in enumerate(CHAIN, start=1)]
    motion = told("s/02_motion", "micrographs.star")
    assert motion["inputs"] == {"movies": ["m1.tif", "m2.tif"]}
    assert (motion["options"]["gain"], motion["options"]["pixel_size_A"]) == ("s/01_gain/gain.mrc", 1.1)
    assert told("s/01_gain", "gain.mrc")["options"]["gain"] == "gain.mrc"
    assert told("s/03_ctf", "micrographs.star")["options"]["pixel_size_A"] is None
    assert told("s/06_extract", "particles.star")["options"]["diameter_A"] == 131.0
    assert told("s/07_class2d", "particles.star")["options"]["classes"] == 12
    assert told("s/09_abinitio", "map.mrc")["options"]["classes"] == 1
    assert told("s/08_select", "particles.star")["inputs"] == {
        "particles": ["particles.star"], "classes": ["classes.mrcs"],
    }  # fmt: skip
    refine = told("s/10_refine", "map.mrc")["options"]
    assert refine["reference"] == "s/09_abinitio/map.mrc"
    assert refine["symmetry"] == "O"
    assert refine["initial_resolution_A"] == 11.5
    assert "refine: starts at 11.5 Å, where the first map begins to tell views apart" in text
    post = told("s/12_postprocess", "map.mrc")
    assert post["inputs"] == {"half1": ["half1.mrc"], "half2": ["half2.mrc"]}
    assert post["options"]["mask"] == "s/11_mask/mask.mrc"
    assert told("s", "map.mrc") == post
    assert "diameter 131 Å, as estimated before" in text
    assert "12 classes, because there are 1234 particles" in text
    assert any("refine" in line and "resolution_A 3.40" in line and "5 -> 4" in line for line in summary_lines(stages))
    assert json.loads(Path("s/summary.json").read_text())[9]["figures"]["resolution_A"] == 3.4


def test_page_of_the_session(session):
    session(**MOVIES)
    page = Path("s/report.html").read_text()
    assert page.count("halfmap refine") >= 1
    assert "3.4" in page
    assert "Toy" not in page


def test_page_that_cannot_be_drawn_is_a_warning(session, monkeypatch):
    def draw(page, folder, figures):
        raise ValueError("no ink")

    monkeypatch.setattr(write, "SECTIONS", {"refine": draw})
    stages, text = session(**MOVIES)
    assert "report.html could not be drawn: ValueError: no ink" in stages[9].record.warnings
    assert stages[9].record.state == "finished"
    assert "warning: report.html could not be drawn: ValueError: no ink" in text.splitlines()[-1]


def test_again_does_nothing(session):
    session(**MOVIES)
    before = {path: path.stat().st_mtime_ns for path in Path("s").rglob("*.star")}
    _, text = session(**MOVIES)
    assert text.count("is finished already") == len(CHAIN)
    assert {p: t for p, t in before.items() if p.parent.name != "s"} == {
        p: p.stat().st_mtime_ns for p in before if p.parent.name != "s"
    }


def test_written_plan_runs_to_the_same_jobs(session):
    first, _ = session(**MOVIES)
    second, text = session(out="again", plan=Path("s/plan.toml"))
    assert [a.record.figures for a in first] == [b.record.figures for b in second]
    assert first[0].record.key == second[0].record.key
    assert text.count("finished again/") == len(CHAIN)


def test_edited_plan_redoes_what_depends_on_it(session):
    session(**MOVIES)
    plan = Path("s/plan.toml")
    content = plan.read_text()
    section = content.index("[class2d]")
    plan.write_text(content[:section] + "[class2d]\nclasses = 7\n" + content[content.index("# Toy select.") :])
    stages, text = session(plan=plan)
    assert "07_class2d" in text[text.index("the plan has changed") :]
    assert "02_motion is finished already" in text
    assert stages[6].record.options["classes"] == 7
    assert told("s/superseded/1/07_class2d", "particles.star")["options"]["classes"] == 12
    assert tomllib.loads(plan.read_text())["class2d"]["classes"] == 7


def test_from_particles_and_with_a_reference(session):
    stages, _ = session(particles=("p.star",), reference=Path("ref.mrc"), diameter_A=100.0)
    names = [stage.step.name for stage in stages]
    assert names[0] == "class2d"
    assert "abinitio" not in names
    refine = told(stages[names.index("refine")].folder, "map.mrc")
    assert refine["options"] == {
        "diameter_A": 100.0, "symmetry": "C1", "reference": "ref.mrc", "initial_resolution_A": None,
    }  # fmt: skip


def test_classes_of_a_session_are_two_dimensional(session):
    session(**MOVIES, classes=20)
    assert told("s/07_class2d", "particles.star")["options"]["classes"] == 20
    assert told("s/09_abinitio", "map.mrc")["options"]["classes"] == 1
    assert tomllib.loads(Path("s/plan.toml").read_text())["abinitio"]["classes"] == 1


def test_given_diameter_is_not_replaced_by_the_estimate(session):
    stages, _ = session(**MOVIES, diameter_A=99.0)
    assert {s.record.options["diameter_A"] for s in stages if "diameter_A" in s.record.options} == {99.0}


def test_failure_of_a_step_ends_the_session_and_is_continued(session):
    def broken(job, inputs, options):
        raise HalfmapError("no micrographs", remedy="Give some.")

    steps = STEPS | {"ctf": STEPS["ctf"].__class__(**{**vars(STEPS["ctf"]), "run": broken})}
    with pytest.raises(HalfmapError, match="no micrographs"):
        session(**MOVIES, steps=steps)
    assert not Path("s/05_pick").exists()
    stages, text = session(**MOVIES)
    assert "02_motion is finished already" in text
    assert len(stages) == len(CHAIN)


def test_without_a_gain_reference_none_is_looked_for(session):
    stages, _ = session(**{name: value for name, value in MOVIES.items() if name != "gain"})
    assert [stage.folder.name for stage in stages][:3] == ["01_motion", "02_ctf", "03_curate"]
    options = told("s/01_motion", "micrographs.star")["options"]
    assert (options["gain"], options["pixel_size_A"]) == (None, 1.1)


def test_a_gain_reference_that_cannot_be_told_is_used_as_it_is_with_a_warning(session):
    def unsure(job, inputs, options):
        job.fail("orientation-not-told", "no orientation stands out.")

    gain = replace(STEPS["gain"], run=unsure, failures=(Failure("orientation-not-told", "Not told.", "More movies."),))
    stages, text = session(**MOVIES, steps=STEPS | {"gain": gain})
    assert told("s/02_motion", "micrographs.star")["options"]["gain"] == "gain.mrc"
    assert "warning: gain: no orientation stands out. The session went on with what it was given." in text
    assert any("no orientation stands out" in line for line in summary_lines(stages))
    page = Path("s/report.html").read_text()
    assert "no orientation stands out" in page
    _, again = session(**MOVIES, steps=STEPS | {"gain": gain})
    assert again.count("is finished already") == len(CHAIN) - 1


def test_step_without_its_input_is_told(session):
    steps = STEPS | {"motion": toy("motion", {"movies": "movies"}, {"log": ("table", "log.txt")})}
    with pytest.raises(HalfmapError, match=r"ctf needs micrographs .* no step before it gives that"):
        session(**MOVIES, steps=steps)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "one of --movies, --micrographs, --particles: none"),
        ({"movies": ("a",), "particles": ("b",)}, "--movies and --particles"),
    ],
)
def test_session_starts_from_one_thing(given, message):
    with pytest.raises(BadOptionError, match=message):
        make_plan(None, given, STEPS).start()


def test_missing_steps_are_named():
    plan = make_plan(None, {"movies": ("a",)}, STEPS)
    with pytest.raises(HalfmapError, match="steps refine are not installed"):
        chain_of(plan, {name: step for name, step in STEPS.items() if name != "refine"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[session]\nmovies = ", r"bad\.toml is not TOML"),
        ("[sesion]\n", r"has the section sesion"),
        ("[session]\nradius = 3\n", r"\[session\]: there is no option radius"),
        ("[motion]\nbinning = 0.5\n", r"\[motion\]: binning is 0.5, allowed is ≥ 1"),
        ("[extract]\ndiameter = -1\n", r"\[extract\]: diameter_A is -1, allowed is > 0 Å"),
        ("[session]\nsymmetry = 'octahedral'\n", r"\[session\]: symmetry is 'octahedral'"),
        ("session = 3\n", "has the section session"),
    ],
)
def test_bad_plan(tmp_path, text, message):
    (tmp_path / "bad.toml").write_text(text)
    with pytest.raises(BadOptionError, match=message):
        make_plan(tmp_path / "bad.toml", {}, STEPS)


def test_absent_plan():
    with pytest.raises(BadOptionError, match=r"absent\.toml cannot be read"):
        make_plan(Path("absent.toml"), {}, STEPS)


def test_plan_is_complete_and_reads_back(tmp_path):
    given = {"movies": ('we"ird\\name*.tif',), "diameter_A": 88.5}
    plan = make_plan(None, given, STEPS)
    (tmp_path / "plan.toml").write_text(plan_text(plan, list(STEPS.values())))
    content = tomllib.loads((tmp_path / "plan.toml").read_text())
    assert set(content) == {SESSION, *STEPS}
    assert content["motion"] == {"binning": 1.0}
    again = make_plan(tmp_path / "plan.toml", {}, STEPS)
    assert again.session == plan.session
    for field in SessionOptions.model_fields:
        assert field in (tmp_path / "plan.toml").read_text()


def test_command_line_wins_over_the_plan(tmp_path):
    (tmp_path / "plan.toml").write_text("[session]\nmovies = ['a.tif']\nsymmetry = 'O'\npixel-size = 2.0\n")
    plan = make_plan(tmp_path / "plan.toml", {"symmetry": "I"}, STEPS)
    assert (plan.session.symmetry, plan.session.pixel_size_A) == ("I", 2.0)


def test_chain_matches_the_toys():
    assert tuple(STEPS) == pipeline.CHAIN
