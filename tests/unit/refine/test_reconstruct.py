from copy import deepcopy

import numpy as np
import pytest
import torch

from halfmap.fourier.crop import crop_rfftn, pad_3d, resample_3d
from halfmap.fourier.fsc import Independence, fsc, resolution_A
from halfmap.fourier.shells import shell_index_3d
from halfmap.fourier.transform import centred_irfftn
from halfmap.fourier.windows import soft_ball
from halfmap.geometry.lattice_symmetry import split
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.refine3d.half import first_noise
from halfmap.refine.rings.transform import shift_phases
from halfmap.refine.volume.reconstruct import FLOOR, PADDING, Accumulator
from halfmap.refine.volume.regularise import corrected_fsc, masked_fsc, reach, ssnr_of_half, trusted


def inserted(data, grid, diameter_A, rows, symmetry="C1", rot=None):
    observations = data.observations(grid, diameter_A)
    noise = first_noise(observations, rows)
    batch = observations.batch(rows, grid.nyquist_px)
    lattice = observations.lattice
    weighted, weights = noise.weighted(batch, lattice)
    phases = shift_phases(lattice.kx_px, lattice.ky_px, data.shift_A[rows], grid.length_A)
    sums = Accumulator.empty(grid, grid.nyquist_px)
    poses = data.rot_img_from_map[rows] if rot is None else rot
    sums.insert(lattice, weighted * phases, weights, poses, point_group(symmetry))
    return sums


def test_true_poses_give_the_map_back(phantom, simulated):
    volume = phantom(32, 3.0, 60.0, n=12)
    grid = MapGrid(32, 3.0)
    data = simulated([volume], [300], snr=50.0, diameter_A=60.0)
    found = inserted(data, grid, 60.0, np.arange(300)).volume()
    curve = fsc(found, torch.as_tensor(volume.data))
    assert float(curve[1:11].min()) > 0.95
    assert resolution_A(curve, 0.5, 32, 3.0) < 6.6


def test_symmetry_by_copies_equals_symmetric_poses(phantom, simulated):
    """One slice inserted under C4 is four slices inserted without symmetry, and the map is symmetric."""
    volume = phantom(32, 3.0, 60.0, n=4, symmetry="C4", sigma_A=4.0)
    grid = MapGrid(32, 3.0)
    data = simulated([volume], [30], snr=5.0, diameter_A=60.0)
    rows = np.arange(30)
    at_once = inserted(data, grid, 60.0, rows, "C4")
    one_by_one = [inserted(data, grid, 60.0, rows, rot=data.rot_img_from_map @ s) for s in point_group("C4")]
    total = sum(part.numerator for part in one_by_one)
    torch.testing.assert_close(at_once.numerator, total, rtol=1e-3, atol=1e-4 * float(total.abs().max()))
    found = at_once.volume()
    inner = found[1:, 1:, 1:]
    quarter = torch.rot90(inner, 1, (1, 2))
    assert float(torch.corrcoef(torch.stack([inner.flatten(), quarter.flatten()]))[0, 1]) > 0.999


@pytest.mark.parametrize("symmetry", ["O", "D3", "I1"])
def test_turned_voxels_equal_inserted_copies(tiny, symmetry):
    """Copies by permutation of voxels, where the group allows it, are the copies that insertion makes."""
    _, data, grid = tiny
    rows = np.arange(4)
    copies = inserted(data, grid, 60.0, rows, symmetry)
    representatives, aligned = split(point_group(symmetry))
    poses = (data.rot_img_from_map[rows][:, None] @ representatives).unbind(1)
    parts = [inserted(data, grid, 60.0, rows, rot=rot) for rot in poses]
    few = parts[0]
    for part in parts[1:]:
        few.add(part)
    few.symmetrise(aligned)
    for name in ("numerator", "denominator"):
        one, other = getattr(few, name), getattr(copies, name)
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()))


def test_halves_joined_at_low_resolution_only(tiny):
    _, data, grid = tiny
    first, second = (inserted(data, grid, 60.0, np.arange(start, 24, 2)) for start in (0, 1))
    one, two = deepcopy((first, second))
    one.join_below(two, 4.0)
    inside = shells_of(first) <= 4
    mean = (first.numerator + second.numerator) / 2
    assert torch.equal(one.numerator[inside], mean[inside])
    assert torch.equal(one.numerator[inside], two.numerator[inside])
    assert torch.equal(one.denominator[inside], two.denominator[inside])
    assert torch.equal(one.numerator[~inside], first.numerator[~inside])
    assert torch.equal(two.numerator[~inside], second.numerator[~inside])


def shells_of(sums):
    """Nearest whole radius of each voxel, in shells of the map."""
    return np.floor(_radius(len(sums.numerator)) / PADDING + 0.5)


def test_filtering_in_slabs_equals_the_dense_formula(phantom, simulated):
    """The map in double precision, written as one product over the whole padded transform."""
    data, grid = simulated([phantom(30, 3.0, 60.0, n=12)], [24], snr=0.5, diameter_A=60.0), MapGrid(30, 3.0)
    sums = inserted(data, grid, 60.0, np.arange(24))
    ssnr = torch.linspace(8.0, 0.2, 13).double()
    shell = shells_of(sums).astype(int)
    denominator = sums.denominator.double().numpy()
    pairs = np.broadcast_to(np.where(np.arange(denominator.shape[2]) > 0, 2.0, 1.0), denominator.shape)
    weight_of = np.bincount(shell.ravel(), (denominator * pairs).ravel()) / np.bincount(shell.ravel(), pairs.ravel())
    inside = shell < 13
    tau2 = np.where(inside, ssnr.numpy()[np.minimum(shell, 12)] / np.maximum(weight_of[shell], 1e-30), 1.0)
    weight = np.maximum(denominator, FLOOR * weight_of[shell]) + 1 / tau2
    dense = torch.as_tensor(np.where(inside, sums.numerator.numpy() / weight, 0))
    edge, n = 2 * grid.box_px, grid.box_px
    real = pad_3d(centred_irfftn(crop_rfftn(dense, len(dense), edge), edge), n)
    envelope = torch.sinc((torch.arange(n).double() - n // 2) / edge).square()
    expected = real / (envelope[:, None, None] * envelope[:, None] * envelope)
    found = sums.volume(ssnr)
    torch.testing.assert_close(sums.mean_weight().numpy(), weight_of[: grid.nyquist_px + 1], rtol=1e-6, atol=0)
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-6
    # A box of fewer voxels has the same transform.
    coarse = sums.volume(ssnr, 24) * (24 / n) ** 3
    assert float(fsc(coarse, resample_3d(found, 24))[1:10].min()) > 0.995


def test_wiener_filter_scales_shells_by_their_ssnr(tiny):
    """With even weights the filter is SSNR / (SSNR + 1) in every shell."""
    _, data, grid = tiny
    sums = inserted(data, grid, 60.0, np.arange(24))
    even = Accumulator(grid, sums.radius_px, sums.numerator, torch.ones_like(sums.denominator))
    plain = torch.fft.rfftn(even.volume())
    ssnr = torch.full((17,), 1.0, dtype=torch.float64)
    ssnr[8:] = 0.0
    filtered = torch.fft.rfftn(even.volume(ssnr))
    grid_shell = torch.as_tensor(np.rint(_radius(32))).long()
    low, high = (grid_shell >= 2) & (grid_shell <= 5), (grid_shell >= 11) & (grid_shell <= 14)
    assert float(filtered[low].abs().sum() / plain[low].abs().sum()) == pytest.approx(0.5, abs=0.02)
    assert float(filtered[high].abs().sum() / plain[high].abs().sum()) < 0.05


def _radius(n):
    k, half = np.fft.fftfreq(n, 1 / n), np.arange(n // 2 + 1)
    return np.sqrt(k[:, None, None] ** 2 + k[:, None] ** 2 + half**2)


def test_regularisation_follows_the_fsc():
    curve = torch.tensor([1.0, 1.0, 0.9, 0.5, 0.2, 0.04, 0.3, 0.1]).double()
    assert trusted(curve, Independence(frac=0.1))[5:].tolist() == [0.0, 0.0, 0.0]
    assert float(ssnr_of_half(trusted(curve, Independence(frac=0.1)))[3]) == pytest.approx(1.0)
    assert reach(curve, 0.143, Independence(frac=0.1)) == 4
    assert reach(torch.zeros(6).double(), 0.143, Independence(frac=0.1)) == 1


def test_shells_past_a_dip_count_if_they_are_above_chance():
    curve = torch.cat([torch.ones(20), torch.tensor([0.1, 0.0, -0.02, 0.03]), torch.full((12,), 0.4), torch.zeros(28)])
    assert reach(curve.double(), 0.143, Independence(frac=0.05)) in (36, 37)
    assert trusted(curve.double(), Independence(frac=0.05))[22] == 0
    assert float(trusted(curve.double(), Independence(frac=0.05))[30]) == pytest.approx(0.4)
    # The same values are chance where so little of the box is independent.
    assert reach(curve.double(), 0.143, Independence(frac=5e-4)) == 19


def test_noise_hardly_ever_counts():
    """Curves of white noise in a mask, with a first fall at shell 5: none of twenty reaches further."""
    n, generator = 48, torch.Generator().manual_seed(0)
    mask = soft_ball((n,) * 3, 20.0, 4.0)
    reached = []
    for _ in range(20):
        first, second = (torch.randn(n, n, n, generator=generator) for _ in range(2))
        curve = corrected_fsc(first, second, mask)
        curve[:6] = 0.9
        reached.append(reach(curve, 0.05, Independence(frac=float(mask.mean()))))
    assert sum(shell > 7 for shell in reached) <= 1


def test_what_a_mask_adds_to_an_fsc_is_taken_off():
    """Halves that share coarse shells alone, in a tight mask: the plain curve rises, the corrected one does not."""
    n, generator = 48, torch.Generator().manual_seed(1)
    mask = soft_ball((n,) * 3, 14.0, 2.0)
    shell = shell_index_3d(n)
    coarse = torch.fft.rfftn(torch.randn(n, n, n, generator=generator)) * (shell < 8) * 40
    halves = [torch.fft.irfftn(coarse, s=(n,) * 3) + torch.randn(n, n, n, generator=generator) for _ in range(2)]
    plain, corrected = masked_fsc(*halves, mask)[11:16], corrected_fsc(*halves, mask)[11:16]
    assert float(plain.mean()) > 0.4
    assert abs(float(corrected.mean())) < 0.15


def test_masked_fsc_ignores_what_is_outside():
    generator = torch.Generator().manual_seed(0)
    signal = torch.randn(24, 24, 24, generator=generator)
    mask = torch.zeros(24, 24, 24)
    mask[8:16, 8:16, 8:16] = 1.0
    halves = [torch.where(mask > 0, signal, 5 * torch.randn(24, 24, 24, generator=generator)) for _ in range(2)]
    assert float(masked_fsc(*halves, mask)[3:].min()) > 0.95
    assert float(fsc(*halves)[1:].mean()) < 0.3
