"""Particles in a smaller box: the same likelihoods, for less."""

import numpy as np
import pytest
import torch

from halfmap.fourier.crop import pad_2d
from halfmap.refine.images.close_up import CloseUp
from halfmap.refine.images.lattice import MapGrid

DIAMETER_A = 70.0
WHOLE = MapGrid(60, 4.0)


@pytest.fixture(scope="module")
def both(phantom, simulated):
    volume = phantom(60, 4.0, DIAMETER_A, n=30, sigma_A=6.0, seed=2)
    made = simulated([volume], [64], snr=0.5, diameter_A=DIAMETER_A, shift_sigma_A=2.0)
    whole = made.observations(WHOLE, DIAMETER_A)
    return torch.as_tensor(volume.data), whole, CloseUp(whole, 8.0)


def terms(observations, image, resolution_A=12.0):
    """``sum CTF X P / sigma2`` and ``sum CTF^2 |P|^2 / sigma2`` of all particles with one image P."""
    n = observations.grid.box_px
    lattice = observations.lattice.within(int(observations.grid.length_A / resolution_A))
    transform = torch.fft.rfft2(torch.fft.ifftshift(pad_2d(image, n))).flatten()
    model = transform[(lattice.ky_px % n) * (n // 2 + 1) + lattice.kx_px]
    batch = observations.batch(np.arange(64), lattice.radius_px)
    sigma2 = torch.as_tensor(observations.background_sigma2[0])[lattice.shell.long()]
    cross = 2 * (batch.ft * batch.ctf * model.conj() / sigma2).real.sum(dim=1)
    return cross.numpy(), (2 * (batch.ctf.square() * model.abs().square() / sigma2).sum(dim=1)).numpy()


def test_both_terms_of_the_likelihood_stay_and_pixels_become_fewer(both):
    volume, whole, close_up = both
    assert close_up.grid.length_A < 0.6 * whole.grid.length_A
    assert close_up.grid.pixel_size_A == whole.grid.pixel_size_A
    assert len(close_up.lattice) < 0.4 * len(whole.lattice)
    image = volume.sum(dim=0)
    (cross, norm), (cross_close, norm_close) = terms(whole, image), terms(close_up, image)
    assert np.corrcoef(cross_close, cross)[0, 1] > 0.98
    assert cross_close.mean() == pytest.approx(cross.mean(), rel=0.03)
    # Pixels average CTF² and lose a little of its rings.
    assert np.abs(norm_close / norm - 1).max() < 0.08


def test_ctf_is_positive_and_noise_keeps_its_power(both):
    close_up = both[2]
    batch = close_up.batch(np.arange(8), close_up.lattice.radius_px)
    assert bool((batch.ctf > 0).all())
    batch = close_up.batch(np.arange(64), close_up.lattice.radius_px)
    outer = close_up.lattice.shell > 0.8 * close_up.grid.nyquist_px
    weight = batch.ctf[:, outer].square()
    power = float((weight * batch.ft[:, outer].abs().square()).sum() / weight.sum())
    assert power == pytest.approx(close_up.grid.box_px**2, rel=0.1)
    assert close_up.background_sigma2[0, -3:].mean() == pytest.approx(close_up.grid.box_px**2, rel=0.1)


def test_a_box_that_is_already_tight_stays(both):
    _, whole, _ = both
    assert CloseUp(whole, 200.0).grid.box_px == whole.grid.box_px


def test_beyond_the_memory_limit_transforms_go_to_a_file(both, tmp_path):
    _, whole, close_up = both
    rows = np.arange(0, 64, 3)
    filed = CloseUp(whole, 8.0, memory_GB=1e-6, cache_folder=tmp_path)
    expected, found = (part.batch(rows, 10) for part in (close_up, filed))
    assert torch.equal(expected.ft, found.ft)
    assert torch.equal(expected.ctf, found.ctf)
    assert not list(tmp_path.iterdir())


def test_background_is_the_noise_around_particles(both):
    _, whole, _ = both
    # Images have standard deviation 1 outside the particle: n² at every Fourier pixel of white noise.
    assert whole.background_sigma2.shape == (1, whole.grid.nyquist_px + 1)
    assert whole.background_sigma2[0, 3:].mean() == pytest.approx(WHOLE.box_px**2, rel=0.05)
