"""The command line as a contract: names, inputs, one clear message for every mistake, exit codes."""

import json
import shlex
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from halfmap.cli.commands import command_of
from halfmap.cli.main import main, run
from halfmap.data.records import Volume
from halfmap.io.mrc import read_volume, write_volume
from halfmap.jobs import registry
from halfmap.jobs.record import JobRecord
from halfmap.jobs.run_options import RunOptions

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "plugin"


@pytest.fixture(autouse=True)
def installed(tmp_path, monkeypatch):
    """The toy and the example plug-in are installed; maps and texts lie in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLE))
    (tmp_path / "broken_plugin.py").write_text("raise ImportError('no such library')")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [
        EntryPoint("toy", "toy_step:STEP", registry.GROUP),
        EntryPoint("invert", "halfmap_invert:STEP", registry.GROUP),
        EntryPoint("crash", "broken_plugin:STEP", registry.GROUP),
        EntryPoint("simulate map", "halfmap.steps.simulate_map:STEP", registry.GROUP),
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: found)
    monkeypatch.setattr("halfmap.cli.commands.prepare_process", lambda threads: None)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    data = np.zeros((4, 4, 4), np.float32)
    data[1, 2, 3], data[0, 0, 0] = -3, 1
    write_volume(tmp_path / "map.mrc", Volume(data, 1.5))


@pytest.fixture
def halfmap(capsys):
    def call(line):
        code = run(shlex.split(line))
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return call


def test_plugin_is_a_step_like_any_other(halfmap):
    code, out, _ = halfmap("invert map.mrc --scale 2 --out inverted")
    assert code == 0
    assert "inverted/map.mrc  Inverted map" in out
    assert read_volume("inverted/map.mrc").data[1, 2, 3] == 6
    assert read_volume("inverted/map.mrc").pixel_size_A == pytest.approx(1.5)
    record = JobRecord.load(Path("inverted"))
    assert record.command_line() == "halfmap invert map.mrc --scale 2.0 --seed 0 --out inverted"
    assert record.figures["largest"] == 6


def test_plugin_fails_with_its_remedy(halfmap):
    write_volume("bright.mrc", Volume(np.arange(8, dtype=np.float32).reshape(2, 2, 2), 1.0))
    code, _, err = halfmap("invert bright.mrc --out x")
    assert code == 1
    assert err.splitlines()[-2:] == [
        "halfmap: bright.mrc has nothing below zero.",
        "  Give a map with values below zero.",
    ]


def test_recorded_command_makes_the_same_job(halfmap):
    halfmap("toy '*.txt' --length 3 --iterations 2 --seed 5 --threads 1 --out first")
    record = JobRecord.load(Path("first"))
    words = [*record.command[1:-1], "second"]
    assert halfmap(shlex.join(words))[0] == 0
    again = JobRecord.load(Path("second"))
    assert (again.key, again.outputs[0].hash) == (record.key, record.outputs[0].hash)


def test_option_names_are_bare_and_units_are_shown(halfmap):
    _, out, _ = halfmap("toy --help")
    for text in ("--length INT", "[px]", "--pause FLOAT", "--mask PATH", "--seed", "--threads", "--memory", "--device"):
        assert text in out
    assert "length_px" not in out
    assert "--length-px" not in out


def test_two_words(halfmap):
    assert "map" in halfmap("simulate --help")[1]
    assert "--pixel-size" in halfmap("simulate map --help")[1]


@pytest.mark.parametrize(
    ("line", "message", "remedy"),
    [
        ("toy a.txt --length 0 --out x", "--length is 0, allowed is > 0, ≤ 1000 px.", ""),
        ("toy a.txt --length 0 --pause -1 --out x", "--pause is -1.0, allowed is ≥ 0 s.", ""),
        ("toy a.txt --length many --out x", 'unable to convert "many" into int', "halfmap toy --help"),
        ("toy a.txt --lenght 3 --out x", "Unknown option", "--length"),
        ("toy a.txt", "--out", "halfmap toy --help"),
        ("toy a.txt --threads 0 --out x", "--threads is 0, allowed is ≥ 1.", ""),
        ("toy a.txt --device gpu --out x", "--device is 'gpu', allowed is of the form", ""),
    ],
)
def test_wrong_use(halfmap, line, message, remedy):
    code, _, err = halfmap(line)
    assert code == 2
    assert message in err
    assert remedy in err
    assert "Traceback" not in err
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("toy --out x", "toy needs texts: text files."),
        ("toy 'q*.txt' --out x", "nothing matches 'q*.txt' (texts: text files)."),
        ("toy q.txt --out x", "there is no file q.txt"),
        ("toy . --out x", ". is a folder without table"),
        ("invert map.mrc a.txt --out x", "invert takes map; 'a.txt' is too much."),
        ("invert '*.txt' --out x", "map is one file, '*.txt' stands for 3."),
        ("inver map.mrc --out x", "there is no step inver."),
        ("crash map.mrc --out x", "step crash (broken_plugin:STEP) cannot be loaded: ImportError: no such library."),
    ],
)
def test_wrong_inputs(halfmap, line, message):
    code, _, err = halfmap(line)
    assert code == 1
    assert message in err
    assert "Traceback" not in err


def test_example_is_shown_where_inputs_are_missing(halfmap):
    assert "Example: halfmap toy a.txt b.txt --out toy" in halfmap("toy --out x")[2]


def test_job_folder_stands_for_its_output(halfmap):
    halfmap("invert map.mrc --out one")
    assert halfmap("invert one --out two")[0] == 0
    assert JobRecord.load(Path("two")).inputs[0].path == "one/map.mrc"
    code, _, err = halfmap("toy one --out three")
    assert code == 1
    assert "the job in one (invert) gives volume, not table" in err


def test_pattern_is_expanded_in_order_and_once(halfmap):
    halfmap("toy '[ab].txt' '*.txt' --iterations 0 --out x")
    assert [file.path for file in JobRecord.load(Path("x")).inputs] == ["a.txt", "b.txt", "c.txt"]


def test_finished_job_is_told_again(halfmap):
    first = halfmap("invert map.mrc --out x")
    code, out, err = halfmap("invert map.mrc --out x")
    assert (code, out) == (0, first[1])
    assert "is finished already" in err
    code, _, err = halfmap("invert map.mrc --scale 3 --out x")
    assert code == 1
    assert "it has scale 1.0, not 3.0" in err


def test_steps_and_doctor_name_what_is_broken(halfmap):
    code, out, err = halfmap("steps")
    assert code == 0
    assert "invert" in out
    assert "crash (broken_plugin:STEP) cannot be loaded: ImportError: no such library" in err
    assert "broken step crash" in halfmap("doctor")[1]


def test_help_passes_over_what_is_broken(halfmap):
    code, out, _ = halfmap("--help")
    assert code == 0
    assert "invert" in out
    assert "crash" not in out


def test_schema(halfmap):
    schema = json.loads(halfmap("schema toy")[1])
    assert schema["properties"]["length_px"]["exclusiveMinimum"] == 0
    assert schema["x-halfmap"]["inputs"][0]["name"] == "texts"
    assert json.loads(halfmap("schema simulate map")[1])["title"] == "simulate map"


def test_project_verbs(halfmap):
    halfmap("invert map.mrc --out p/one")
    halfmap("invert p/one --out p/two")
    assert halfmap("project history p")[1].count("finished") == 2
    lineage = halfmap("project lineage p/two/map.mrc")[1]
    assert lineage.index("p/two") < lineage.index("p/one")
    assert "map: 1 file that no job made: map.mrc" in lineage
    assert "2 jobs below" in halfmap("project reindex p")[1]
    assert halfmap("project command p/one")[1].splitlines()[1].startswith("halfmap invert map.mrc")
    assert "holds no job" in halfmap("project command p")[2]


def test_version_and_exit_code(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip()[0].isdigit()
    with pytest.raises(SystemExit) as ended:
        main(["nonsense"])
    assert ended.value.code == 1


def test_command_spells_every_kind_of_option():
    sys.path.insert(0, str(EXAMPLE))
    from toy_step import STEP, ToyOptions

    options = ToyOptions(length_px=3, mask=Path("m.mrc"))
    words = command_of(STEP, ["a b.txt"], options, RunOptions(out=Path("o"), seed=4, device="cpu", max_failed_frac=0.5))
    assert shlex.join(words) == (
        "halfmap toy 'a b.txt' --length 3 --mask m.mrc --seed 4 --max-failed 0.5 --device cpu --out o"
    )


def test_inputs_are_described(halfmap):
    assert "texts...: text files." in halfmap("toy --help")[1]
