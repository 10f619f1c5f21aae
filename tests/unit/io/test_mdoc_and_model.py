from pathlib import Path

import gemmi
import numpy as np
import pytest

from halfmap.errors import BadInputError
from halfmap.io.mdoc import read_mdoc
from halfmap.io.model import read_model

MDOC = """PixelSpacing = 1.35
Voltage = 300
ImageFile = TS_01.mrc

[T = SerialEM: K3 = on]
[T =     Tilt axis angle = 84.7, binning = 1]

[ZValue = 0]
TiltAngle = -0.001
ExposureDose = 3.1
SubFramePath = X:\\frames\\TS_01_000.tif

[ZValue = 1]
TiltAngle = 3.0
"""


def test_mdoc(tmp_path: Path) -> None:
    path = tmp_path / "a.mdoc"
    path.write_text(MDOC)
    mdoc = read_mdoc(path)
    assert dict(mdoc.general) == {"PixelSpacing": "1.35", "Voltage": "300", "ImageFile": "TS_01.mrc"}
    assert mdoc.titles == ("SerialEM: K3 = on", "Tilt axis angle = 84.7, binning = 1")
    assert [(s.kind, s.label) for s in mdoc.sections] == [("ZValue", "0"), ("ZValue", "1")]
    assert mdoc.sections[0].values["SubFramePath"] == "X:\\frames\\TS_01_000.tif"
    assert mdoc.sections[1].number("TiltAngle", path) == 3.0
    with pytest.raises(BadInputError, match="ExposureDose of ZValue 1 is absent"):
        mdoc.sections[1].number("ExposureDose", path)


@pytest.mark.parametrize("content", ["\n\n", "no key here\n", "A = 1\n[broken\n", ""])
def test_bad_mdoc(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.mdoc").write_text(content)
    with pytest.raises(BadInputError):
        read_mdoc(tmp_path / "a.mdoc")


PDB = """ATOM      1  CA  ALA A   7      11.000  12.500 -13.250  1.00 20.50           C
ATOM      2  CB AALA A   7       1.000   2.000   3.000  0.60 30.00           C
ATOM      3  CB BALA A   7       1.500   2.000   3.000  0.40 30.00           C
HETATM    4 FE    FE B   1       0.000   0.000   0.000  1.00 40.00          FE
END
"""


@pytest.mark.parametrize("suffix", [".pdb", ".cif"])
def test_atoms_of_pdb_and_mmcif(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    if suffix == ".pdb":
        path.write_text(PDB)
    else:
        gemmi.read_pdb_string(PDB).make_mmcif_document().write_file(str(path))
    model = read_model(path)
    assert len(model) == 4
    np.testing.assert_allclose(model.xyz_A[0], (11.0, 12.5, -13.25))
    assert model.element.tolist() == ["C", "C", "C", "FE"]
    assert model.atomic_number.tolist() == [6, 6, 6, 26]
    assert model.occupancy.tolist() == pytest.approx([1, 0.6, 0.4, 1])
    assert model.bfactor_A2.tolist() == pytest.approx([20.5, 30, 30, 40])
    assert (model.atom_name[0], model.residue_name[0], model.residue_number[0], model.chain[3]) == ("CA", "ALA", 7, "B")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.pdb", "nothing of use\n"),
        ("m.pdb", ""),
        ("m.cif", "data_x\nloop_\n_a\n"),
        ("m.cif", "hello"),
        ("m.pdb", PDB.replace("12.500", "   nan")),
        ("m.pdb", PDB.replace("12.500", "  x.yz")),
        ("m.txt", PDB),
        ("m.pdb.gz", PDB),
    ],
)
def test_bad_models(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(BadInputError):
        read_model(tmp_path / name)


def test_real_model(shared_data: Path) -> None:
    model = read_model(shared_data / "models" / "6z6u.pdb")
    assert len(model) == 32618
    assert set(model.element) == {"C", "N", "O", "S", "MG", "NA"}
