import numpy as np
import pytest
import torch

from halfmap.motion.band import Band, phases
from halfmap.motion.likelihood import derivatives_plainly, mean_powers_of_many, mean_powers_plainly
from halfmap.motion.patches import (
    MOST_OVERLAP,
    _cells,
    _Layout,
    _taper,
    cells_plainly,
    cut_patches,
    derivatives_of_patches,
    fast_edge,
)

RNG = np.random.default_rng(8)


def random_band(n=3, up=30, columns=31, edge=160):
    ft = RNG.normal(size=(n, 2 * up + 1, columns)) + 1j * RNG.normal(size=(n, 2 * up + 1, columns))
    return Band(
        torch.from_numpy(ft.astype(np.complex64)), torch.arange(-up, up + 1) / edge, torch.arange(columns) / edge
    )


def test_cells_of_the_fast_twin_are_the_plain_ones():
    band = random_band()
    layout = _Layout((64, 72), np.array([0, 25]), np.array([1, 20, 41]), _taper(37), _taper(30))
    for frame, (x, y) in zip(band.ft, ([0.0, 0.0], [3.7, -11.2], [-2.1, 0.4]), strict=True):
        along_y, along_x = phases(y, band.fy), phases(x, band.fx)
        fast, plain = (cut(frame, along_y, along_x, layout) for cut in (_cells, cells_plainly))
        assert fast.shape == (6, 37, 30)
        assert float((fast - plain).abs().max()) < 1e-5 * float(plain.abs().max())


def test_patches_are_seen_by_the_fast_twins_as_by_the_plain_ones():
    band = random_band()
    patches = cut_patches(
        band, RNG.normal(size=(3, 2)), shape=(160, 160), pixel_size_A=3.0, max_frequency=0.18, per_edge=3
    )
    assert patches is not None
    weight = torch.from_numpy(RNG.uniform(size=tuple(patches.ft.shape[2:])).astype(np.float32))
    weight[:, 5:] = 0.0
    weight[3] = 0.0
    shifts = RNG.normal(size=(*patches.ft.shape[:2], 2))
    found = derivatives_of_patches(patches, shifts, weight)
    powers = mean_powers_of_many(patches.ft, patches.band(0), shifts)
    plain = derivatives_plainly(patches.ft, patches.band(0), shifts, weight)
    for name in ("value", "gradient", "hessian"):
        a, b = getattr(found, name), getattr(plain, name)
        assert np.abs(a - b).max() < 1e-4 * np.abs(b).max()
    for mean, expected in zip(powers, mean_powers_plainly(patches.ft, patches.band(0), shifts), strict=True):
        assert float((mean - expected).abs().max()) < 1e-4 * float(expected.abs().max())


@pytest.mark.parametrize(
    ("field", "n", "expected"), [(2156.0, 7, 320), (532.0, 4, 135), (512.0, 4, 128), (97.0, 1, 97)]
)
def test_edges_of_patches_are_fast_to_transform_and_within_the_field(field, n, expected):
    edge = fast_edge(field, n)
    assert edge == expected
    assert edge <= min(field, MOST_OVERLAP * field / n)
