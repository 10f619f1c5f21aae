"""Items on a Dask cluster of this machine; descriptions of clusters that cannot be."""

from functools import partial

import pytest
from toy_step import one_item

from halfmap.errors import BadInputError, HalfmapError
from halfmap.exec.cluster import DaskExecutor, connect


def test_items_on_a_local_cluster(tmp_path):
    pytest.importorskip("distributed", reason="DASK NOT TESTED: install halfmap[cluster]")
    description = tmp_path / "cluster.toml"
    description.write_text('kind = "local"\njobs = 1\n[options]\nprocesses = false\ndashboard_address = ""\n')
    items = []
    for index, content in enumerate(["a", "bad", "c", "bug"]):
        items.append(str(tmp_path / f"t{index}.txt"))
        (tmp_path / f"t{index}.txt").write_text(content)
    work = partial(one_item, folder=str(tmp_path), length=4, pause=0.0, seed=1)
    with connect(str(description)) as client:
        outcomes = {outcome.index: outcome for outcome in DaskExecutor(client).run(work, items)}
        client.cluster.close()
    assert sorted(outcomes) == [0, 1, 2, 3]
    assert outcomes[0].value == one_item(items[0], folder=str(tmp_path), length=4, pause=0.0, seed=1) | {"shape": [4]}
    assert "content is bad" in outcomes[1].error
    assert "ZeroDivisionError" in outcomes[3].error


@pytest.mark.parametrize(
    ("text", "found"),
    [('kind = "abacus"', "'abacus'"), ('kind = "local"\njobs = 0', "0"), ("kind =", "Invalid value")],
)
def test_bad_description(tmp_path, monkeypatch, text, found):
    import sys
    import types

    monkeypatch.setitem(sys.modules, "distributed", types.ModuleType("distributed"))
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(BadInputError, match=found):
        connect(str(tmp_path / "c.toml"))


def test_cluster_without_dask(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(HalfmapError, match=r"pip install 'halfmap\[cluster\]'"):
        connect("tcp://10.0.0.1:8786")
