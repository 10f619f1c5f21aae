"""References on rings against plain Fourier transforms and slices."""

import math

import numpy as np
import pytest
import torch

from halfmap.fourier.slices import empty_volume_ft, prepare_volume
from halfmap.fourier.transform import centred_rfft2
from halfmap.geometry.rotations import in_plane, random_rotations
from halfmap.refine.rings.sampling import images_of_rings, insert_rings, ring_points, rings_of_images, rings_of_volume
from halfmap.refine.rings.transform import RingGrid, ring_grid

BOX = 32


def blurred_noise(shape, radius_px, seed=0):
    """A smooth random object that vanishes outside a radius."""
    axes = [np.arange(n) - n // 2 for n in shape]
    distance = np.sqrt(sum(np.square(a) for a in np.meshgrid(*axes, indexing="ij")))
    noise = np.random.default_rng(seed).normal(size=shape)
    low_pass = np.exp(-0.5 * (distance / 6.0) ** 2)
    smooth = np.fft.ifftn(np.fft.fftn(noise) * np.fft.ifftshift(low_pass)).real
    window = 0.5 + 0.5 * np.cos(np.pi * np.clip(distance / radius_px, 0, 1))
    return torch.as_tensor((smooth * window).astype(np.float32))


def test_rays_of_an_image_are_rows_and_columns_of_its_transform():
    grid = RingGrid(12, 16, 0.4)
    image = blurred_noise((BOX, BOX), 12)
    polar = rings_of_images(grid, image[None])[0]
    transform = centred_rfft2(image)
    assert torch.allclose(polar[:, 0], transform[0, :12], atol=1e-3 * float(transform.abs().max()))
    assert torch.allclose(polar[:, 4], transform[:12, 0], atol=1e-3 * float(transform.abs().max()))


def test_images_come_back_from_rings():
    grid = ring_grid(BOX // 2 - 1, 0.42)
    image = blurred_noise((BOX, BOX), 12)
    image = image - image.mean()
    back = images_of_rings(grid, rings_of_images(grid, image[None]), BOX)[0]
    inside = blurred_noise((BOX, BOX), 12).abs() > 0
    error = (back - image)[inside]
    # The innermost ring's part is a constant to first order; it is not seen by any search.
    assert float(error.std()) < 0.04 * float(image[inside].std())


def test_rings_of_a_volume_are_its_central_slices():
    """A ring point is the same whether its direction or its angle is turned; and it equals a direct Fourier sum."""
    grid = RingGrid(10, 16, 0.4)
    volume = blurred_noise((BOX,) * 3, 12)
    rot = random_rotations(3, torch.Generator().manual_seed(1))
    polar = rings_of_volume(grid, prepare_volume(volume, float(grid.n_rings)), rot)
    position = torch.stack(torch.meshgrid(*[torch.arange(BOX) - BOX // 2.0] * 3, indexing="ij"), -1).flip(-1)
    points = ring_points(grid, torch.device("cpu"))
    for d, r, t in ((0, 3, 1), (1, 7, 5), (2, 9, 7)):
        k = points[r, t] @ rot[d, :2]
        phase = -2 * math.pi * (position.double() @ k) / BOX
        expected = (volume.double() * torch.exp(1j * phase)).sum()
        assert abs(complex(polar[d, r, t]) - complex(expected)) < 0.02 * float(polar.abs().max())
    step = math.pi / (grid.n_angles // 2)
    turned = rings_of_volume(grid, prepare_volume(volume, float(grid.n_rings)), in_plane(step) @ rot)
    assert torch.allclose(turned[..., :-1], polar[..., 1:], atol=1e-3 * float(polar.abs().max()))


def test_insertion_is_the_adjoint_of_slicing():
    grid = RingGrid(8, 16, 0.4)
    generator = torch.Generator().manual_seed(0)
    rot = random_rotations(4, generator)
    volume = blurred_noise((BOX,) * 3, 12)
    volume_ft = prepare_volume(volume, float(grid.n_rings))
    values = torch.randn(4, 8, 8, 2, generator=generator)
    values = torch.view_as_complex(values)
    slices = rings_of_volume(grid, volume_ft, rot)
    numerator = torch.zeros_like(volume_ft)
    denominator = empty_volume_ft(float(grid.n_rings), 2.0, torch.float32)
    insert_rings(grid, values, torch.ones(4, 8, 8), rot, numerator, denominator)
    twice = torch.full((volume_ft.shape[2],), 2.0)
    twice[0] = 1.0
    multiplicity = torch.where(torch.arange(8) == 0, 1.0, 2.0)[:, None]
    left = float((multiplicity * (slices.conj() * values).real).sum())
    right = float((twice * (volume_ft.conj() * numerator).real).sum())
    assert left == pytest.approx(right, rel=1e-3, abs=1e-3 * float(slices.abs().sum()))
