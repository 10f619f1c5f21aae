import math

import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.fourier.crop import crop_rfft2, crop_rfftn, pad_2d, pad_3d, resample_2d, resample_3d
from halfmap.fourier.transform import centred_irfft2, centred_irfftn, centred_rfft2, centred_rfftn


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def wave(n: int, kx: int, ky: int) -> torch.Tensor:
    """A plane wave with its phase at the origin pixel; ``n`` pixels across one box."""
    axis = (torch.arange(n, dtype=torch.float64) - n // 2) / n
    return torch.cos(2 * math.pi * (kx * axis + ky * axis[:, None]) + 0.3)


@pytest.mark.parametrize("n", [15, 16])
@pytest.mark.parametrize("larger", [17, 20, 31, 32])
def test_padding_is_undone_by_cropping(n, larger):
    images, volume = noise(2, n, n), noise(n, n, n)
    torch.testing.assert_close(resample_2d(resample_2d(images, larger), n), images, atol=1e-12, rtol=0)
    torch.testing.assert_close(resample_3d(resample_3d(volume, larger), n), volume, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("n_in", "n_out"), [(32, 16), (33, 16), (32, 15), (16, 40), (17, 40), (32, 31)])
def test_plane_waves_keep_their_grey_values_and_place(n_in, n_out):
    for kx, ky in ((0, 0), (3, 2), (-5, 4), (0, -6)):
        torch.testing.assert_close(resample_2d(wave(n_in, kx, ky), n_out), wave(n_out, kx, ky), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("n_in", "n_out"), [(20, 16), (20, 15), (15, 20), (16, 20)])
def test_results_are_transforms_of_real_images(n_in, n_out):
    cropped = crop_rfft2(torch.fft.rfft2(noise(n_in, n_in)), n_in, n_out)
    again = torch.fft.rfft2(torch.fft.irfft2(cropped, s=(n_out, n_out)))
    torch.testing.assert_close(again, cropped, atol=1e-12, rtol=0)
    volume = crop_rfftn(torch.fft.rfftn(noise(n_in, n_in, n_in)), n_in, n_out)
    again = torch.fft.rfftn(torch.fft.irfftn(volume, s=(n_out, n_out, n_out)))
    torch.testing.assert_close(again, volume, atol=1e-12, rtol=0)


def test_a_transform_of_another_size_is_refused():
    with pytest.raises(HalfmapError, match="edge 16"):
        crop_rfft2(torch.fft.rfft2(noise(20, 20)), 16, 8)


@pytest.mark.parametrize(("n", "n_out"), [(8, 8), (8, 12), (8, 13), (9, 12), (9, 13), (12, 8), (13, 8), (13, 9)])
def test_boxes_are_cut_and_padded_about_the_origin(n, n_out):
    image = torch.zeros(n, n)
    image[n // 2, n // 2 + 1] = 1.0
    result = pad_2d(image, n_out)
    assert result.shape == (n_out, n_out)
    assert result[n_out // 2, n_out // 2 + 1] == 1.0
    assert result.sum() == 1.0
    assert pad_3d(image.expand(n, n, n), n_out).shape == (n_out, n_out, n_out)


@pytest.mark.parametrize("n", [8, 9])
def test_centred_transforms_invert_and_have_their_origin_in_the_middle(n):
    torch.testing.assert_close(centred_irfft2(centred_rfft2(noise(n, n)), n), noise(n, n))
    torch.testing.assert_close(centred_irfftn(centred_rfftn(noise(n, n, n)), n), noise(n, n, n))
    point = torch.zeros(n, n, n)
    point[n // 2, n // 2, n // 2] = 1.0
    torch.testing.assert_close(centred_rfftn(point), torch.ones(n, n, n // 2 + 1, dtype=torch.complex64))
    ones = torch.ones(n, n // 2 + 1, dtype=torch.complex64)
    torch.testing.assert_close(centred_rfft2(point[n // 2]), ones)
