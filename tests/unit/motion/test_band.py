import numpy as np
import pytest
import torch

from halfmap.motion.band import Band, borrowed, irfft2, place_band, rfft2_into, rows_first

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("shape", [(64, 90), (75, 61), (2900, 2901)])
def test_transforms_are_torchs(shape):
    """Small pictures and large ones go different ways."""
    picture = torch.from_numpy(RNG.normal(size=shape).astype(np.float32))
    expected = torch.fft.rfft2(picture.double())
    out = torch.empty(expected.shape, dtype=torch.complex64)
    rfft2_into(picture, out)
    assert float((out - expected).abs().max()) < 2e-6 * float(expected.abs().max())
    assert float((irfft2(out, shape) - picture).abs().max()) < 1e-5


def test_the_low_frequencies_are_put_in_ascending_order():
    transform = torch.fft.rfft2(torch.from_numpy(RNG.normal(size=(40, 50)).astype(np.float32)))
    out = torch.empty((13, 9), dtype=torch.complex64)
    place_band(transform, out)
    assert torch.equal(out, torch.roll(transform, 6, dims=0)[:13, :9])


def test_a_cropped_band_is_the_inner_part_and_lies_by_rows():
    ft = torch.from_numpy((RNG.normal(size=(4, 21, 13)) + 0j).astype(np.complex64))
    band = Band(ft, torch.arange(-10, 11) / 40.0, torch.arange(13) / 40.0)
    inner = band.cropped(0.101)
    assert torch.equal(inner.ft, ft[:, 6:15, :5])
    assert rows_first(inner.ft).base is not None  # Not copied once more.
    assert inner.fy.tolist() == band.fy[6:15].tolist()


def test_room_is_lent_again_but_never_twice_at_a_time():
    with borrowed((3, 8, 5), "cpu") as first, borrowed((3, 8, 5), "cpu") as second:
        assert first.data_ptr() != second.data_ptr()
        address = second.data_ptr()
    with borrowed((3, 8, 5), "cpu") as third:
        assert third.data_ptr() == address
    with borrowed((3, 8, 6), "cpu") as other:
        assert other.shape == (3, 8, 6)
