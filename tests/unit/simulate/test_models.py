import numpy as np
import pytest

from halfmap.errors import BadInputError
from halfmap.io.mrc import read_volume
from halfmap.simulate.models import fitting_box_px, load_model, used_conformations
from halfmap.simulate.options import SimulateMapOptions, SimulateMoviesOptions
from halfmap.steps.simulate_map import STEP

PDB = """\
ATOM      1  N   ALA A   1      11.000  20.000  30.000  1.00 10.00           N
ATOM      2  CA  ALA A   1      12.000  20.000  30.000  1.00 20.00           C
ATOM      3  C   ALA A   1      13.000  20.000  30.000  1.00 30.00           C
END
"""


def test_map_step_writes_a_map_that_fits_the_model(make_job, tmp_path):
    job = make_job(tmp_path)
    facts = STEP.run(job, {}, SimulateMapOptions(pixel_size_A=4.0))
    volume = read_volume(tmp_path / "map.mrc")
    assert volume.data.shape == (facts["box_px"],) * 3
    assert volume.pixel_size_A == pytest.approx(4.0)
    assert facts["symmetry"] == "O"
    assert facts["box_px"] * 4.0 > facts["diameter_A"]
    assert "symmetry O" in job.lines[0]


def test_second_conformation_exists_only_of_the_asymmetric_model(make_job, tmp_path):
    STEP.run(make_job(tmp_path), {}, SimulateMapOptions(model="asymmetric", pixel_size_A=5.0, conformation=2))
    assert read_volume(tmp_path / "map.mrc").data.std() > 0
    with pytest.raises(RuntimeError, match="no-conformation"):
        STEP.run(make_job(tmp_path), {}, SimulateMapOptions(model="cage", pixel_size_A=5.0, conformation=2))


def test_model_from_a_file_is_centred(tmp_path):
    path = tmp_path / "model.pdb"
    path.write_text(PDB)
    (atoms,), symmetry = load_model(SimulateMapOptions(model_file=path))
    assert symmetry == "C1"
    assert atoms.element.tolist() == ["N", "C", "C"]
    assert atoms.bfactor_A2.tolist() == [10.0, 20.0, 30.0]
    assert atoms.position_A == pytest.approx(np.array([[-1.0, 0, 0], [0, 0, 0], [1.0, 0, 0]]), abs=1e-9)
    assert len(used_conformations([atoms], (1.0,))) == 1
    with pytest.raises(BadInputError):
        load_model(SimulateMapOptions(model_file=tmp_path / "absent.pdb"))


def test_boxes_are_even_and_quick_to_transform():
    for diameter in (50.0, 123.0, 310.0):
        box = fitting_box_px(diameter, 1.1)
        assert box % 2 == 0
        assert box * 1.1 >= diameter + 24.0
        for prime in (2, 3, 5, 7):
            while box % prime == 0:
                box //= prime
        assert box == 1


def test_options_that_cannot_be_meant_are_refused():
    with pytest.raises(ValueError, match="defocus_min"):
        SimulateMoviesOptions(defocus_min_A=20000.0, defocus_max_A=10000.0)
    with pytest.raises(ValueError, match="all zero"):
        SimulateMoviesOptions(class_weights=(0.0, 0.0))
