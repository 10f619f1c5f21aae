import numpy as np
import pytest
import torch

from halfmap.errors import BadInputError, HalfmapError
from halfmap.fourier.transform import centred_rfft2
from halfmap.refine.images.lattice import Lattice, MapGrid
from halfmap.refine.images.observations import Observations, normalise, transform_at


def test_transform_on_the_own_grid_is_the_fft():
    generator = torch.Generator().manual_seed(0)
    for n in (20, 21):
        images = torch.randn(3, n, n, generator=generator)
        grid = MapGrid(n, 1.7)
        lattice = Lattice.of(grid.length_A, grid.nyquist_px)
        found = transform_at(images, 1.7, grid, lattice)
        expected = centred_rfft2(images)[:, lattice.ky_px % n, lattice.kx_px]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("box_px", "pixel_size_A"), [(40, 2.0), (36, 3.1), (90, 1.31), (28, 3.3)])
def test_groups_of_other_samplings_give_one_transform(box_px, pixel_size_A):
    """A Gaussian off the centre, sampled on another grid, has the same transform at the map's frequencies."""
    grid = MapGrid(32, 3.0)
    lattice = Lattice.of(grid.length_A, 12)

    def gaussian(n, pixel):
        axis = (torch.arange(n) - n // 2) * pixel
        return torch.exp(-((axis - 7.0)[None, :] ** 2 + (axis + 4.0)[:, None] ** 2) / (2 * 6.0**2))[None]

    own = transform_at(gaussian(32, 3.0), 3.0, grid, lattice)
    other = transform_at(gaussian(box_px, pixel_size_A), pixel_size_A, grid, lattice)
    assert (own - other).abs().max() < 2e-3 * own.abs().max()


def test_normalised_background_and_unusable_images():
    rng = np.random.default_rng(1)
    images = torch.as_tensor(rng.normal(7.0, 3.0, (4, 32, 32)).astype(np.float32))
    images[0, 12:20, 12:20] += 50
    images[1] = 2.0
    images[2, 3, 3] = torch.nan
    found, usable = normalise(images, 20.0)
    assert usable.tolist() == [True, False, False, True]
    y, x = np.mgrid[:32, :32] - 16
    outside = torch.as_tensor(np.hypot(y, x) > 10.0)
    for i in (0, 3):
        assert abs(float(found[i, outside].mean())) < 1e-4
        assert float(found[i, outside].std()) == pytest.approx(1.0, abs=1e-3)
    assert float(found[1:3].abs().max()) == 0.0


def test_groups_without_information_beyond_their_nyquist(phantom, simulated):
    volumes = [phantom(32, 3.0, 60.0, n=6), phantom(20, 4.8, 60.0, n=6)]
    data = simulated(volumes, [5, 5], snr=1.0, diameter_A=60.0)
    observations = data.observations(MapGrid(32, 3.0), 60.0)
    batch = observations.batch(np.arange(10), 15)
    frequency = torch.hypot(*observations.lattice.within(15).frequencies_per_A())
    beyond = frequency >= 0.5 / 4.8
    assert bool(beyond.any())
    assert bool((batch.ctf[5:, beyond] == 0).all())
    assert bool((batch.ctf[:5, beyond] != 0).any())
    assert observations.information_frac().tolist() == [1.0, 1.0]


def test_file_cache_holds_what_memory_holds(tiny, tmp_path):
    _, data, grid = tiny
    rows = np.array([5, 2, 17])
    in_memory = data.observations(grid, 60.0).batch(rows, 10)
    on_disk = data.observations(grid, 60.0, memory_GB=0.0, cache_folder=tmp_path).batch(rows, 10)
    assert torch.equal(in_memory.ft, on_disk.ft)
    assert torch.equal(in_memory.ctf, on_disk.ctf)


def test_an_image_that_cannot_be_read_is_left_out(tiny):
    _, data, grid = tiny

    class Broken:
        def read(self, indices):
            if 3 in indices:
                raise BadInputError(
                    "x.mrcs", "image 4", found="constant", expected="a particle", remedy="Leave it out."
                )
            return np.stack([data.images[i] for i in indices]).astype(np.float32)

    observations = Observations(data.image_set, Broken(), grid, 60.0)
    assert np.flatnonzero(~observations.usable).tolist() == [3]
    assert len(observations.faults) == 1
    assert "image 4" in observations.faults[0]


def test_ctf_columns_are_needed(tiny):
    _, data, grid = tiny
    bare = data.image_set.with_rows(data.image_set.rows.without(["defocus_u_A"]))
    with pytest.raises(HalfmapError, match="defocus_u_A"):
        Observations(bare, _reader(data), grid, 60.0)


def _reader(data):
    class Reader:
        def read(self, indices):
            return np.stack([data.images[i] for i in indices]).astype(np.float32)

    return Reader()
