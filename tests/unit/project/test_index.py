"""Index, history and lineage come from the job.json files and from nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from quiet import Quiet
from toy_chain import MICROGRAPHS, PARTICLES, toy

from halfmap.errors import HalfmapError
from halfmap.exec.runner import run_job
from halfmap.jobs.hashing import content_hash
from halfmap.jobs.lock import folder_lock
from halfmap.jobs.run_options import RunOptions
from halfmap.project.index import INDEX_FILE, history_lines, open_index
from halfmap.project.lineage import lineage, lineage_lines, project_of

MOTION = toy("motion", {"movies": "movies"}, MICROGRAPHS)
EXTRACT = toy("extract", {"coordinates": "micrographs"}, PARTICLES)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movies = [tmp_path / "raw" / f"m{i}.tif" for i in range(5)]
    movies[0].parent.mkdir()
    for movie in movies:
        movie.write_text(movie.name)
    (tmp_path / "p").mkdir()
    run = {"screen": Quiet()}
    run_job(MOTION, {"movies": movies}, MOTION.options(), RunOptions(out=Path("p/mc")), **run,
            command=("halfmap", "motion", "raw/*.tif", "--out", "p/mc"))  # fmt: skip
    run_job(EXTRACT, {"coordinates": [Path("p/mc/micrographs.star")]}, EXTRACT.options(),
            RunOptions(out=Path("p/sub/ex")), **run, command=("halfmap", "extract"))  # fmt: skip
    return tmp_path / "p"


def jobs(project, **how):
    with open_index(project, **how) as index:
        return index.jobs()


def test_history_in_order(project):
    found = jobs(project)
    assert [job.record.step for job in found] == ["motion", "extract"]
    assert [job.state for job in found] == ["finished", "finished"]
    lines = history_lines(found, project)
    assert lines[0].endswith("mc")
    assert "5 -> 4" in lines[0]


def test_index_follows_the_files(project):
    jobs(project)
    shutil.rmtree(project / "mc")
    record = json.loads((project / "sub/ex/job.json").read_text())
    (project / "sub/ex/job.json").write_text(json.dumps(record | {"state": "running"}))
    assert [(job.record.step, job.state) for job in jobs(project)] == [("extract", "interrupted")]
    with folder_lock(project / "sub/ex"):
        assert jobs(project)[0].state == "running"


def test_rebuilt_index_is_the_same(project):
    before = jobs(project)
    (project / INDEX_FILE).unlink()
    assert jobs(project) == before
    assert jobs(project, rebuild=True) == before


def test_damaged_index_says_how_to_rebuild_it(project):
    (project / INDEX_FILE).write_text("this is no database, " * 100)
    with pytest.raises(HalfmapError, match="halfmap project reindex"):
        jobs(project)
    assert len(jobs(project, rebuild=True)) == 2


def test_index_of_nothing(tmp_path):
    with pytest.raises(HalfmapError, match="there is no folder"):
        jobs(tmp_path / "absent")


def test_lineage_to_the_movies(project):
    with open_index(project) as index:
        origin = lineage(project / "sub/ex/particles.star", index)
    assert origin.record.step == "extract"
    ((file, parent),) = origin.parents
    assert file.path == "p/mc/micrographs.star"
    assert parent.record.step == "motion"
    assert [Path(movie.path).name for movie in parent.raw] == [f"m{i}.tif" for i in range(5)]
    text = "\n".join(lineage_lines(origin))
    assert "$ halfmap motion 'raw/*.tif' --out p/mc" in text
    assert "movies: 5 files that no job made" in text


def test_lineage_survives_moves_and_copies(project, tmp_path):
    shutil.copy(project / "sub/ex/particles.star", tmp_path / "copy.star")
    (project / "mc").rename(project / "renamed")
    with open_index(project) as index:
        origin = lineage(tmp_path / "copy.star", index)
        assert index.makers(content_hash(tmp_path / "copy.star"))
    assert origin.parents[0][1].folder == project / "renamed"


def test_lineage_of_strangers(project, tmp_path):
    (tmp_path / "stranger.mrc").write_text("x")
    with open_index(project) as index:
        with pytest.raises(HalfmapError, match="no job made"):
            lineage(tmp_path / "stranger.mrc", index)
        with pytest.raises(HalfmapError, match="there is no file"):
            lineage(tmp_path / "absent.mrc", index)


def test_project_of_a_file(project, tmp_path):
    assert project_of(project / "mc" / "micrographs.star") == project
    assert project_of(tmp_path / "raw" / "m0.tif") == tmp_path / "raw"
