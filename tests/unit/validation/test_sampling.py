"""Values between voxels."""

from __future__ import annotations

import torch

from halfmap.validation.sampling import trilinear, voxel_places


def test_voxels_are_where_they_are_said_to_be():
    volume = torch.randn(7, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(trilinear(volume, voxel_places(7)[None])[0], volume.reshape(-1))


def test_a_linear_function_is_kept_between_voxels_and_zero_lies_beyond():
    n = 8
    places = voxel_places(n)
    volume = (places @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 3.0).reshape(n, n, n)
    at = torch.tensor([[[0.25, -1.5, 2.75], [1.125, 0.5, -3.0], [40.0, 0.0, 0.0]]], dtype=torch.float64)
    expected = at @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 3.0
    found = trilinear(volume, at)
    assert torch.allclose(found[0, :2], expected[0, :2])
    assert float(found[0, 2]) == 0.0
