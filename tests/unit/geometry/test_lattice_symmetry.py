"""Symmetry by permutation of voxels."""

import pytest
import torch

from halfmap.geometry.lattice_symmetry import chain_of, split, turned_half_layout
from halfmap.geometry.symmetry import point_group

GROUPS = ("C1", "C2", "C3", "C4", "C6", "D2", "D3", "D4", "D7", "T", "O", "I1", "I2", "I3", "I4")


def same_set(one: torch.Tensor, other: torch.Tensor) -> bool:
    distance = (one[:, None] - other[None]).abs().amax(dim=(2, 3))
    return len(one) == len(other) and bool((distance.min(dim=1).values < 1e-6).all())


@pytest.mark.parametrize("name", GROUPS)
def test_representatives_times_the_aligned_subgroup_are_the_group(name):
    operators = point_group(name)
    representatives, aligned = split(operators)
    products = (representatives[:, None] @ aligned[None]).reshape(-1, 3, 3)
    assert same_set(products, operators)


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "D2", "D4", "O"])
def test_products_along_the_chain_are_the_subgroup(name):
    _, aligned = split(point_group(name))
    products = torch.eye(3, dtype=torch.float64)[None]
    for representatives in chain_of(aligned):
        step = torch.cat([torch.eye(3, dtype=torch.float64)[None], representatives])
        products = (products[:, None] @ step[None]).reshape(-1, 3, 3)
    assert same_set(products, aligned)


def test_a_turned_half_layout_is_the_transform_of_the_turned_map():
    n = 12
    volume = torch.randn(n, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    transform = torch.fft.rfftn(torch.fft.ifftshift(volume))
    # No Nyquist planes, as in the layouts of slices.
    inside = torch.fft.fftfreq(n, 1 / n).abs() < n / 2
    transform = transform * inside[:, None, None] * inside[None, :, None] * (torch.arange(n // 2 + 1) < n // 2)
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = turned_half_layout(transform, quarter)
    back = torch.fft.irfftn(turned, s=(n, n, n))
    plain = torch.fft.irfftn(transform, s=(n, n, n))
    # F(R k) is the transform of f(R r): f'(x, y) = f(-y, x).
    at = torch.arange(n)
    expected = plain[:, at[None, :], (-at[:, None]) % n]
    assert torch.allclose(back, expected, atol=1e-12)
    even = turned_half_layout(transform.abs(), quarter)
    assert torch.allclose(even, turned.abs())
