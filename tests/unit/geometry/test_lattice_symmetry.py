"""Symmetry by permutation of voxels."""

import pytest
import torch

from halfmap.geometry.lattice_symmetry import split, symmetrise, symmetrise_plainly, turned_half_layout
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


def half_layout(n: int, dtype: torch.dtype) -> torch.Tensor:
    """Hermitian, with nothing at or beyond half an edge."""
    volume = torch.randn(n, n, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    transform = torch.fft.rfftn(volume)
    axis = torch.fft.fftfreq(n, 1 / n)
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + torch.arange(n // 2 + 1) ** 2
    transform = transform * (squared < (n / 2) ** 2)
    # A weight is even, but not real of a real volume: the modulus stands for it.
    return transform.to(dtype) if dtype.is_complex else transform.abs().to(dtype)


@pytest.mark.parametrize("name", ["C1", "C2", "C4", "D2", "D4", "T", "O", "I1"])
@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32])
def test_sums_over_orbits_equal_sums_of_turned_copies(name, dtype):
    _, aligned = split(point_group(name))
    for n in (6, 14, 22):
        values = half_layout(n, dtype)
        exact, plain, fast = values.to(torch.complex128 if dtype.is_complex else torch.float64), values.clone(), values
        symmetrise_plainly(exact, aligned)
        symmetrise_plainly(plain, aligned)
        symmetrise(fast, aligned)
        error, least = (float((found - exact).abs().max()) for found in (fast, plain))
        assert error <= 2 * least + 1e-7 * float(exact.abs().max())


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
