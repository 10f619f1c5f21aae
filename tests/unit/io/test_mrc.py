import bz2
import gzip
import io
import os
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from halfmap.data.records import Volume
from halfmap.errors import BadInputError, HalfmapError
from halfmap.io.mrc import (
    StackWriter,
    check_pixel_size,
    open_stack,
    read_image,
    read_volume,
    write_image,
    write_stack,
    write_volume,
)

RNG = np.random.default_rng(7)


def written_by_mrcfile(path: Path, data: np.ndarray, pixel_size_A: float = 1.25, **header: object) -> Path:
    with mrcfile.new(path, data, overwrite=True) as mrc:
        mrc.voxel_size = pixel_size_A
        for name, value in header.items():
            mrc.header[name] = value
    return path


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "float16", "float32"])
def test_all_real_modes_of_mrcfile_are_read_exactly(tmp_path: Path, dtype: str) -> None:
    data = RNG.integers(0, 100, (3, 5, 7)).astype(dtype)
    stack = open_stack(written_by_mrcfile(tmp_path / "a.mrcs", data))
    assert (stack.n, stack.shape, stack.pixel_size_A) == (3, (5, 7), 1.25)
    for section, expected in zip(stack, data, strict=True):
        assert section.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(section, expected)


def test_complex_modes_are_read_as_stacks_and_refused_as_images(tmp_path: Path) -> None:
    data = (RNG.normal(size=(1, 4, 6)) + 1j * RNG.normal(size=(1, 4, 6))).astype(np.complex64)
    path = written_by_mrcfile(tmp_path / "a.mrc", data)
    np.testing.assert_array_equal(open_stack(path)[0], data[0])
    with pytest.raises(BadInputError, match="complex"):
        read_image(path)


def test_complex_integers_of_mode_3(tmp_path: Path) -> None:
    path = written_by_mrcfile(tmp_path / "a.mrc", np.arange(24, dtype=np.int16).reshape(1, 4, 6))
    raw = bytearray(path.read_bytes())
    raw[0:4], raw[12:16] = (3).to_bytes(4, "little"), (3).to_bytes(4, "little")
    path.write_bytes(raw)
    section = open_stack(path)[0]
    np.testing.assert_array_equal(section, np.arange(0, 24, 2).reshape(4, 3) + 1j * np.arange(1, 25, 2).reshape(4, 3))


@pytest.mark.parametrize("nx", [6, 7])
def test_packed_4_bit_data_lowest_bits_first(tmp_path: Path, nx: int) -> None:
    data = RNG.integers(0, 16, (2, 5, nx)).astype(np.uint8)
    padded = np.zeros((2, 5, nx + nx % 2), np.uint8)
    padded[..., :nx] = data
    packed = padded[..., 0::2] | (padded[..., 1::2] << 4)
    path = written_by_mrcfile(tmp_path / "a.mrc", data.astype(np.int8))
    raw = bytearray(path.read_bytes()[:1024])
    raw[12:16] = (101).to_bytes(4, "little")
    path.write_bytes(bytes(raw) + packed.tobytes())
    np.testing.assert_array_equal(np.stack(list(open_stack(path))), data)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float16", "float32"])
def test_big_endian_files(tmp_path: Path, dtype: str) -> None:
    data = RNG.integers(0, 100, (2, 4, 6)).astype(np.dtype(dtype).newbyteorder(">"))
    path = written_by_mrcfile(tmp_path / "a.mrc", data, pixel_size_A=2.5)
    assert path.read_bytes()[212] == 0x11
    stack = open_stack(path)
    np.testing.assert_array_equal(stack.read([0, 1]), data.astype(np.float32))
    assert stack[0].dtype.isnative
    assert stack.pixel_size_A == 2.5


def test_old_files_without_a_machine_stamp(tmp_path: Path) -> None:
    data = RNG.integers(0, 100, (2, 4, 6)).astype(">i2")
    path = written_by_mrcfile(tmp_path / "a.mrc", data)
    raw = bytearray(path.read_bytes())
    raw[208:216] = bytes(8)
    path.write_bytes(raw)
    np.testing.assert_array_equal(open_stack(path)[1], data[1])


def test_bytes_that_imod_says_are_unsigned(tmp_path: Path) -> None:
    data = np.array([[0, 100, 200, 255]], np.uint8)
    path = written_by_mrcfile(tmp_path / "a.mrc", data.view(np.int8))
    raw = bytearray(path.read_bytes())
    raw[152:156] = (1146047817).to_bytes(4, "little")
    path.write_bytes(raw)
    np.testing.assert_array_equal(open_stack(path)[0], data)
    raw[156] = 1
    path.write_bytes(raw)
    np.testing.assert_array_equal(open_stack(path)[0], data.view(np.int8))


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
def test_axes_in_any_order_become_z_y_x(tmp_path: Path, order: tuple[int, int, int]) -> None:
    volume = RNG.normal(size=(4, 5, 6)).astype(np.float32)  # z, y, x
    # order[i] says which axis (x=1, y=2, z=3) columns, rows and sections are.
    in_file = np.ascontiguousarray(volume.transpose([3 - order[2], 3 - order[1], 3 - order[0]]))
    path = written_by_mrcfile(
        tmp_path / "a.map", in_file, mapc=order[0], mapr=order[1], maps=order[2], mx=6, my=5, mz=4,
        cella=(7.2, 6.0, 4.8), nxstart=1, nystart=2, nzstart=3,
    )  # fmt: skip
    read = read_volume(path)
    np.testing.assert_array_equal(read.data, volume)
    assert read.pixel_size_A == 1.2
    expected = dict(zip(order, (1, 2, 3), strict=True))
    assert read.origin_A == pytest.approx([1.2 * expected[axis] for axis in (1, 2, 3)])


@pytest.mark.parametrize(("suffix", "opener"), [(".gz", gzip.open), (".bz2", bz2.open)])
def test_compressed_files_are_read_in_any_order(tmp_path: Path, suffix: str, opener: object) -> None:
    data = RNG.integers(-50, 50, (4, 5, 6)).astype(np.int16)
    plain = written_by_mrcfile(tmp_path / "a.mrc", data)
    packed = tmp_path / f"a.mrc{suffix}"
    with opener(packed, "wb") as file:  # type: ignore[operator]
        file.write(plain.read_bytes())
    stack = open_stack(packed)
    for index in (2, 0, 3):
        np.testing.assert_array_equal(stack[index], data[index])


def test_volume_round_trip_and_what_mrcfile_says_of_it(tmp_path: Path) -> None:
    volume = Volume(RNG.normal(size=(4, 5, 6)).astype(np.float32), 1.3, (-1.5, 0.25, 30.0))
    path = tmp_path / "new" / "v.mrc"
    write_volume(path, volume)
    read = read_volume(path)
    np.testing.assert_array_equal(read.data, volume.data)
    assert (read.pixel_size_A, read.origin_A) == (1.3, (-1.5, 0.25, 30.0))
    assert mrcfile.validate(path, print_file=io.StringIO())
    with mrcfile.open(path) as mrc:
        assert mrc.is_volume()
        assert float(mrc.header.dmean) == pytest.approx(float(volume.data.mean()), abs=1e-6)
        assert float(mrc.header.rms) == pytest.approx(float(volume.data.std()), rel=1e-5)
        assert float(mrc.header.dmin) == volume.data.min()


@pytest.mark.parametrize("pixel_size_A", [1.0, 0.66655, 1.3, 0.834, 1.0825, 3.14159])
@pytest.mark.parametrize("nx", [7, 360, 4096])
def test_pixel_sizes_survive_the_float32_header(tmp_path: Path, pixel_size_A: float, nx: int) -> None:
    write_image(tmp_path / "i.mrc", np.arange(2 * nx, dtype=np.float32).reshape(2, nx), pixel_size_A)
    assert read_image(tmp_path / "i.mrc")[1] == pixel_size_A


def test_same_data_give_the_same_bytes(tmp_path: Path) -> None:
    data = RNG.normal(size=(3, 4, 5)).astype(np.float32)
    for name in ("a", "b"):
        write_volume(tmp_path / name, Volume(data, 1.0))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_images_keep_their_type_or_get_the_next_wider_one(tmp_path: Path) -> None:
    for dtype, stored in (("uint8", np.uint16), ("float64", np.float32), ("int16", np.int16), ("float16", np.float16)):
        write_stack(tmp_path / "s.mrcs", np.arange(24).reshape(2, 3, 4).astype(dtype), 1.0)
        assert open_stack(tmp_path / "s.mrcs")[0].dtype == stored


def test_integers_that_do_not_fit_are_an_error_not_wrapped(tmp_path: Path) -> None:
    with pytest.raises(HalfmapError, match="do not fit int8"):
        write_stack(tmp_path / "s.mrcs", np.full((1, 2, 2), 200, np.uint8), 1.0, dtype=np.int8)
    assert not (tmp_path / "s.mrcs").exists()


class TestStackWriter:
    def test_growing_stack_with_statistics(self, tmp_path: Path) -> None:
        data = RNG.normal(3, 2, (5, 6, 7)).astype(np.float32)
        with StackWriter(tmp_path / "s.mrcs", None, (6, 7), 1.5) as writer:
            writer.write(data[0])
            writer.write(data[1:])
            assert not (tmp_path / "s.mrcs").exists()
        stack = open_stack(tmp_path / "s.mrcs")
        np.testing.assert_array_equal(stack.read(range(5)), data)
        assert mrcfile.validate(tmp_path / "s.mrcs", print_file=io.StringIO())
        with mrcfile.open(tmp_path / "s.mrcs") as mrc:
            assert float(mrc.header.rms) == pytest.approx(data.std(), rel=1e-4)
            assert mrc.is_image_stack()

    def test_an_exception_leaves_nothing_and_the_old_file_alone(self, tmp_path: Path) -> None:
        write_stack(tmp_path / "s.mrcs", np.ones((1, 2, 2), np.float32), 1.0)
        old = (tmp_path / "s.mrcs").read_bytes()

        def fails_midway() -> None:
            with StackWriter(tmp_path / "s.mrcs", None, (2, 2), 1.0) as writer:
                writer.write(np.zeros((2, 2)))
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fails_midway()
        assert (tmp_path / "s.mrcs").read_bytes() == old
        assert [p.name for p in tmp_path.iterdir()] == ["s.mrcs"]

    def test_announced_number_is_held(self, tmp_path: Path) -> None:
        with (
            pytest.raises(HalfmapError, match="1 images were written, 2 were announced"),
            StackWriter(tmp_path / "s.mrcs", 2, (2, 2), 1.0) as writer,
        ):
            writer.write(np.zeros((2, 2)))
        assert list(tmp_path.iterdir()) == []

    def test_wrong_shape(self, tmp_path: Path) -> None:
        with (
            pytest.raises(HalfmapError, match="do not fit"),
            StackWriter(tmp_path / "s.mrcs", None, (2, 2), 1.0) as writer,
        ):
            writer.write(np.zeros((2, 3)))


def test_stack_reads_in_the_order_asked_for(tmp_path: Path) -> None:
    data = RNG.normal(size=(6, 3, 4)).astype(np.float32)
    write_stack(tmp_path / "s.mrcs", data, 1.0)
    np.testing.assert_array_equal(open_stack(tmp_path / "s.mrcs").read([5, 0, 0, 3]), data[[5, 0, 0, 3]])


def test_fei_headers_give_the_pixel_size(tmp_path: Path) -> None:
    from mrcfile.dtypes import get_ext_header_dtype

    for exttyp in (b"FEI1", b"FEI2"):
        extended = np.zeros(1, get_ext_header_dtype(exttyp, "<"))
        extended["Pixel size X"] = extended["Pixel size Y"] = 0.8538e-10
        extended["HT"] = 300e3
        path = tmp_path / "fei.mrc"
        with mrcfile.new(path, RNG.integers(0, 9, (3, 4)).astype(np.int16), overwrite=True) as mrc:
            mrc.set_extended_header(extended)
            mrc.header.exttyp = exttyp
        stack = open_stack(path)
        assert stack.pixel_size_A == pytest.approx(0.8538, rel=1e-9)
        assert stack.header.fei is not None
        assert stack.header.fei.voltage_kV == pytest.approx(300)
        with mrcfile.open(path, "r+") as mrc:
            mrc.voxel_size = 0.9
        with pytest.raises(BadInputError, match=r"ratio 1\.05411"):
            open_stack(path)


def test_pixel_sizes_may_differ_by_a_thousandth() -> None:
    check_pixel_size("a.mrc", 1.0009, 1.0, "the reference")
    with pytest.raises(BadInputError, match=r"ratio 1\.00110.*0\.1 %") as caught:
        check_pixel_size("a.mrc", 1.0011, 1.0, "the reference")
    assert "the reference" in str(caught.value)


def test_real_micrographs_are_read_with_their_pixel_size(shared_data: Path) -> None:
    files = sorted((shared_data / "empiar-10146").glob("*.mrc"))
    assert len(files) == 10
    for path in files:
        image, pixel_size_A = read_image(path)
        assert image.shape == (1200, 1240)
        assert pixel_size_A == 1.5
        with mrcfile.open(path) as mrc:
            np.testing.assert_array_equal(image, mrc.data)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="NOT TESTED: resident memory is read from /proc")
def test_what_was_read_of_a_stack_does_not_stay_in_memory(tmp_path):
    def resident_bytes():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    n_bytes = 400 * 256**2
    write_stack(tmp_path / "a.mrcs", np.zeros((100, 256, 256), np.float32), 1.0)
    stack = open_stack(tmp_path / "a.mrcs")
    before = resident_bytes()
    for start in range(0, 100, 10):
        assert not stack.read(np.arange(start, start + 10)).any()
    assert resident_bytes() - before < 0.3 * n_bytes
    # The control: sections taken one by one stay mapped.
    assert not any(stack[i].any() for i in range(100))
    assert resident_bytes() - before > 0.7 * n_bytes
