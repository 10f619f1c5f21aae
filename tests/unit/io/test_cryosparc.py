import math
from pathlib import Path

import numpy as np
import pytest
import torch

from halfmap.errors import BadInputError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.cryosparc import read_cs
from halfmap.io.relion import read_image_set, write_image_set

FIELDS = [
    ("uid", "u8"), ("blob/path", "S40"), ("blob/idx", "u4"), ("blob/shape", "u4", (2,)), ("blob/psize_A", "f4"),
    ("blob/sign", "f4"), ("ctf/type", "S9"), ("ctf/exp_group_id", "u4"), ("ctf/accel_kv", "f4"), ("ctf/cs_mm", "f4"),
    ("ctf/amp_contrast", "f4"), ("ctf/df1_A", "f4"), ("ctf/df2_A", "f4"), ("ctf/df_angle_rad", "f4"),
    ("ctf/phase_shift_rad", "f4"), ("ctf/tetra_A", "f4", (4,)), ("alignments3D/split", "u4"),
    ("alignments3D/shift", "f4", (2,)), ("alignments3D/pose", "f4", (3,)), ("alignments3D/psize_A", "f4"),
    ("alignments2D/class", "u4"),
]  # fmt: skip


def table(n: int = 4) -> np.ndarray:
    rng = np.random.default_rng(9)
    cs = np.zeros(n, FIELDS)
    cs["uid"] = rng.integers(2**62, 2**64, n, dtype=np.uint64)
    cs["blob/path"] = [b">J1/extract/a.mrc", b">J1/extract/a.mrc", b"J1/extract/b.mrc", b"J1/extract/b.mrc"]
    cs["blob/idx"] = [0, 7, 3, 1]
    cs["blob/shape"], cs["blob/psize_A"], cs["blob/sign"] = 256, 1.345, -1
    cs["ctf/type"] = b"ctffind4"
    cs["ctf/exp_group_id"] = [23, 23, 5, 5]
    cs["ctf/accel_kv"], cs["ctf/cs_mm"], cs["ctf/amp_contrast"] = [300, 300, 200, 200], 2.7, 0.1
    cs["ctf/df1_A"], cs["ctf/df2_A"], cs["ctf/df_angle_rad"] = 15301.1, 14916.4, 0.092153385
    cs["ctf/tetra_A"] = [0.5, 0, -1.25, 0]
    cs["alignments3D/split"] = [0, 1, 1, 0]
    cs["alignments3D/shift"] = rng.normal(size=(n, 2)) * 5
    cs["alignments3D/pose"] = rng.normal(size=(n, 3))
    cs["alignments3D/psize_A"] = 2.69
    cs["alignments2D/class"] = [0, 3, 2, 1]
    return cs


def saved(path: Path, cs: np.ndarray) -> Path:
    with path.open("wb") as file:
        np.save(file, cs)
    return path


def test_names_optics_defocus_halves_and_classes(tmp_path: Path) -> None:
    images = read_cs(saved(tmp_path / "p.cs", table()))
    assert images["image_name"].tolist() == [
        "000001@J1/extract/a.mrc", "000008@J1/extract/a.mrc", "000004@J1/extract/b.mrc", "000002@J1/extract/b.mrc",
    ]  # fmt: skip
    assert images["optics_group"].tolist() == [2, 2, 1, 1]
    assert images["voltage_kV"].tolist() == [300, 300, 200, 200]
    assert (images["cs_mm"][0], images["amplitude_contrast"][0], images.pixel_size_A()[0]) == (2.7, 0.1, 1.345)
    assert (images["defocus_u_A"][0], images["defocus_v_A"][0]) == (15301.1, 14916.4)
    assert images["defocus_angle_rad"][0] == pytest.approx(math.radians(5.28), abs=1e-8)
    assert images["half_set"].tolist() == [1, 2, 2, 1]
    assert images["class_number"].tolist() == [1, 4, 3, 2]
    assert images["box_px"].tolist() == [256] * 4


def test_uid_is_kept_bit_by_bit(tmp_path: Path) -> None:
    cs = table()
    images = read_cs(saved(tmp_path / "p.cs", cs))
    np.testing.assert_array_equal(images["uid"].view(np.uint64), cs["uid"])


def test_poses_are_transposed_rotation_vectors_and_shifts_are_in_their_own_pixels(tmp_path: Path) -> None:
    cs = table()
    images = read_cs(saved(tmp_path / "p.cs", cs))
    matrices = matrix_from_euler(*(torch.tensor(images[f"{a}_rad"]) for a in ("rot", "tilt", "psi")))
    for matrix, vector in zip(matrices.numpy(), cs["alignments3D/pose"].astype(float), strict=True):
        angle = np.linalg.norm(vector)
        x, y, z = vector / angle
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        about_vector = np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
        np.testing.assert_allclose(matrix, about_vector.T, atol=1e-12)
    np.testing.assert_allclose(images["shift_x_A"], cs["alignments3D/shift"][:, 0].astype(float) * 2.69, rtol=1e-12)


def test_pose_against_the_numbers_of_another_program(tmp_path: Path) -> None:
    """cryoDRGN 4.3.1 makes the same matrix of this rotation vector as of these RELION angles (to 1e-15)."""
    cs = table()
    cs["alignments3D/pose"][0] = (2.3386633, -0.25595567, -1.2236784)
    images = read_cs(saved(tmp_path / "p.cs", cs))
    degrees = np.rad2deg([images[f"{a}_rad"][0] for a in ("rot", "tilt", "psi")])
    np.testing.assert_allclose(degrees, (-157.808487, 118.790972, 34.683300), atol=1e-5)


def test_everything_else_is_kept_and_written_to_star(tmp_path: Path) -> None:
    images = read_cs(saved(tmp_path / "p.cs", table()))
    assert images.rows.foreign["ctf/tetra_A"][0] == "[0.5,0.0,-1.25,0.0]"
    assert images.rows.foreign["blob/sign"].tolist() == ["-1.0"] * 4
    assert images.rows.foreign["ctf/type"].tolist() == ["ctffind4"] * 4
    known = {name for name, *_ in FIELDS}
    told = set(images.rows.foreign) | {"uid", "blob/path", "blob/idx", "blob/shape", "blob/psize_A", "ctf/accel_kv"}
    told |= {"ctf/cs_mm", "ctf/amp_contrast", "ctf/df1_A", "ctf/df2_A", "ctf/df_angle_rad", "ctf/phase_shift_rad"}
    told |= {f"alignments3D/{n}" for n in ("split", "shift", "pose", "psize_A")} | {"alignments2D/class"}
    assert known == told
    write_image_set(tmp_path / "p.star", images)
    again = read_image_set(tmp_path / "p.star")
    for name, values in images.rows.columns.items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(again.rows[name], values, rtol=3e-16, err_msg=name)
        else:
            assert again.rows[name].tolist() == values.tolist()
    assert {k: v.tolist() for k, v in again.rows.foreign.items()} == {
        k: v.tolist() for k, v in images.rows.foreign.items()
    }


def test_passthrough_is_joined_by_uid(tmp_path: Path) -> None:
    cs = table()
    names = [
        ("micrograph_path", "S20"),
        ("micrograph_shape", "u4", 2),
        ("center_x_frac", "f4"),
        ("center_y_frac", "f4"),
    ]
    location = np.zeros(5, [("uid", "u8"), *((f"location/{name}", *kind) for name, *kind in names)])
    location["uid"] = [*cs["uid"][::-1], 1]
    location["location/micrograph_path"] = [b">m3.mrc", b">m2.mrc", b">m1.mrc", b">m0.mrc", b"none"]
    location["location/micrograph_shape"] = (3000, 4000)
    location["location/center_x_frac"] = [0.25, 0.5, 0.75, 0.125, 0]
    location["location/center_y_frac"] = 0.5
    images = read_cs(saved(tmp_path / "p.cs", cs), [saved(tmp_path / "t.cs", location)])
    assert images["micrograph_name"].tolist() == ["m0.mrc", "m1.mrc", "m2.mrc", "m3.mrc"]
    assert images["coordinate_x_px"].tolist() == [500, 3000, 2000, 1000]
    assert images["coordinate_y_px"].tolist() == [1500] * 4
    picks = read_cs(saved(tmp_path / "t.cs", location))
    assert (picks.kind, len(picks)) == ("coordinates", 5)
    with pytest.raises(BadInputError, match="without 4 of the 4 particles"):
        read_cs(tmp_path / "p.cs", [saved(tmp_path / "u.cs", location[4:])])


def test_halves_that_were_not_drawn_are_no_halves(tmp_path: Path) -> None:
    cs = table()
    cs["alignments3D/split"] = 0
    images = read_cs(saved(tmp_path / "p.cs", cs))
    assert "half_set" not in images
    assert images.rows.foreign["alignments3D/split"].tolist() == ["0"] * 4


def test_bad_files(tmp_path: Path, assert_only_bad_input) -> None:  # type: ignore[no-untyped-def]
    path = saved(tmp_path / "p.cs", table())
    whole = path.read_bytes()
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        assert not assert_only_bad_input(lambda: read_cs(path), path)
    saved(path, np.zeros(3))
    with pytest.raises(BadInputError, match="not a table"):
        read_cs(path)
    saved(path, table()[["uid", "ctf/df1_A"]].copy())
    with pytest.raises(BadInputError, match="expected particles with images, or picks"):
        read_cs(path)
