import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.noise import NoiseModel, balanced_scale
from halfmap.refine.refine3d.half import first_noise


def test_white_noise_has_the_power_of_its_pixels(phantom, simulated):
    """E|noise|^2 of a Fourier pixel is the number of pixels times the variance, which is 1 after normalisation."""
    data = simulated([phantom(32, 3.0, 60.0, n=6)], [200], snr=1.0, diameter_A=60.0)
    rng = np.random.default_rng(0)
    noise_only = data.with_images(rng.normal(3.0, 5.0, (200, 32, 32)))
    observations = noise_only.observations(MapGrid(32, 3.0), 60.0)
    sigma2 = first_noise(observations, np.arange(200)).sigma2[0, 2:]
    torch.testing.assert_close(sigma2, torch.full_like(sigma2, 32.0**2), rtol=0.06, atol=0.0)
    assert float(sigma2.mean()) == pytest.approx(32.0**2, rel=0.02)


def test_scale_of_groups_is_relative_to_the_mean():
    scale = balanced_scale(torch.tensor([2.0, 6.0, -1.0]).double(), torch.tensor([2.0, 2.0, 5.0]).double())
    torch.testing.assert_close(scale, torch.tensor([0.5, 1.5, 1.0]).double())


def test_noise_of_zero_is_refused():
    with pytest.raises(HalfmapError, match="noise"):
        NoiseModel(torch.zeros(1, 5).double(), torch.ones(1).double(), torch.ones(1).double())
