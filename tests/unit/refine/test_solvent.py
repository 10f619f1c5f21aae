"""The mask of a refinement follows the map."""

import torch

from halfmap.fourier.windows import soft_ball
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.solvent import Solvent

GRID = MapGrid(64, 2.5)
DIAMETER_A = 130.0


def particle():
    """A ball of 60 Å on noise: less than the diameter leaves room for."""
    noise = torch.randn(64, 64, 64, generator=torch.Generator().manual_seed(0))
    return soft_ball((64,) * 3, 24.0, 3.0) * 5 + noise


def test_a_sphere_until_the_map_is_good_enough():
    solvent = Solvent(GRID, DIAMETER_A, None, tighten=True)
    sphere = solvent.on(64).clone()
    assert solvent.follow(particle(), 17.0) is None
    assert torch.equal(solvent.on(64), sphere)
    assert solvent.follow(particle(), 16.0) is None
    tight = solvent.on(64)
    assert tight.mean() < 0.4 * sphere.mean()
    inside = soft_ball((64,) * 3, 24.0, 0.0) > 0.5
    assert float(tight[inside].min()) > 0.99
    far = soft_ball((64,) * 3, 46.0, 0.0) < 0.5
    assert float(tight[far].max()) < 0.02


def test_on_any_sampling_it_is_the_same_mask():
    solvent = Solvent(GRID, DIAMETER_A, None, tighten=True)
    solvent.follow(particle(), 10.0)
    fine, coarse = solvent.on(64), solvent.on(40)
    torch.testing.assert_close(coarse.mean(), fine.mean(), atol=1e-3, rtol=0.02)
    assert float(coarse.min()) >= 0
    assert float(coarse.max()) <= 1
    assert solvent.volume_frac() < 0.15


def test_a_given_mask_and_a_sphere_that_was_asked_for_stay():
    given = soft_ball((64,) * 3, 40.0, 4.0)
    for mask, tighten in ((given, True), (None, False)):
        solvent = Solvent(GRID, DIAMETER_A, mask, tighten)
        before = solvent.on(64).clone()
        assert solvent.follow(particle(), 5.0) is None
        assert torch.equal(solvent.on(64), before)


def test_a_map_without_a_particle_leaves_the_mask_and_says_why():
    solvent = Solvent(GRID, DIAMETER_A, None, tighten=True)
    before = solvent.on(64).clone()
    told = solvent.follow(torch.zeros(64, 64, 64), 10.0)
    assert told is not None
    assert "left as it was" in told
    assert torch.equal(solvent.on(64), before)
