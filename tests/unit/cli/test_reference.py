"""The generated page says everything that is declared, and a stale one is noticed."""

import pytest
from toy_step import STEP

from halfmap.cli import reference
from halfmap.errors import HalfmapError
from halfmap.jobs.registry import BrokenStep


@pytest.fixture
def toy_only(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reference, "load_all", lambda: ({"toy": STEP}, ()))


def test_page_holds_what_is_declared(toy_only):
    page = reference.page()
    assert "| `--length` | 16 | px | > 0, ≤ 1000 | Numbers an item. |" in page
    assert "| `--out` | required |" in page
    assert "- `texts` (table, one or more files): text files." in page
    assert "- `nothing`: No numbers. Give texts." in page
    assert "    halfmap toy a.txt b.txt --out toy" in page
    assert "| `--symmetry` | C1 |" in page


def test_stale_page_is_noticed(toy_only, capsys):
    assert reference.main(["--check"]) == 1
    assert reference.main([]) == 0
    assert reference.main(["--check"]) == 0
    reference.PAGE.write_text(reference.PAGE.read_text().replace("16", "17"))
    assert reference.main(["--check"]) == 1
    assert "make docs" in capsys.readouterr().err


def test_page_without_a_step_is_not_written(toy_only, monkeypatch):
    monkeypatch.setattr(reference, "load_all", lambda: ({}, (BrokenStep("refine", "x:STEP", "ImportError: y"),)))
    with pytest.raises(HalfmapError, match=r"refine \(ImportError: y\)"):
        reference.page()
