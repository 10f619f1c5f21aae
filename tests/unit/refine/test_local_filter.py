import math

import pytest
import torch

from halfmap.fourier.fsc import fsc
from halfmap.fourier.grid import radius_px
from halfmap.fourier.shells import shell_index_3d, spread
from halfmap.fourier.windows import soft_ball
from halfmap.refine.volume.local_filter import LocalFilter, bank_of, fit_local_filter, low_pass, unshrunk
from halfmap.refine.volume.regularise import last_trusted_shell

BOX_PX = 48
FINE_PX, SMOOTH_PX = 14.0, 4.0
BANK = bank_of(3.0, 18.0)


def low_passed(volume, cutoff_px):
    return torch.fft.irfftn(
        torch.fft.rfftn(volume) * low_pass(radius_px(tuple(volume.shape)), cutoff_px), s=(BOX_PX,) * 3
    )


def texture(cutoff_px, seed):
    """Random density up to a cut-off, of standard deviation 1."""
    noise = torch.randn((BOX_PX,) * 3, generator=torch.Generator().manual_seed(seed))
    band = low_passed(noise, cutoff_px)
    return band / band.std()


def noisy(truth, sigma, seed):
    return [truth + sigma * torch.randn(truth.shape, generator=torch.Generator().manual_seed(seed + i)) for i in (0, 1)]


def error(found, truth, mask):
    return sum(float(((one - truth) * mask).square().sum()) for one in found)


def best_uniform(halves, truth, mask):
    """Least error of all cut-offs that are the same everywhere, and the cut-off."""
    cutoffs = [BANK[0] * (BANK[-1] / BANK[0]) ** (i / 20) for i in range(21)]
    return min((error([low_passed(half, cutoff) for half in halves], truth, mask), cutoff) for cutoff in cutoffs)


@pytest.fixture(scope="module")
def mask():
    return soft_ball((BOX_PX,) * 3, 40.0, 4.0)


@pytest.fixture(scope="module")
def detailed():
    """Where the two-part truth has details: one side, with a soft border."""
    x = torch.arange(BOX_PX) - BOX_PX // 2
    return torch.sigmoid(x / 1.0).expand((BOX_PX,) * 3)


@pytest.fixture(scope="module")
def two_parts(detailed):
    return detailed * texture(FINE_PX, 1) + (1 - detailed) * texture(SMOOTH_PX, 2)


@pytest.mark.parametrize("sigma", [0.7, 1.4])
def test_details_are_kept_where_there_are_some(two_parts, detailed, mask, sigma):
    halves = noisy(two_parts, sigma, 10)
    chosen = fit_local_filter(*halves, mask, BANK)
    parts = [mask * (detailed > 0.99), mask * (detailed < 0.01)]
    fine, smooth = (chosen.cutoff_px()[part > 0.9] for part in parts)
    for found, part in zip((fine, smooth), parts, strict=True):
        _, best = best_uniform(halves, two_parts, part)
        assert float(found.median()) == pytest.approx(best, rel=0.25)
    assert float(fine.quantile(0.1)) > 1.5 * float(smooth.quantile(0.9))
    found = [chosen.applied(half) for half in halves]
    assert error(found, two_parts, mask) < 0.8 * best_uniform(halves, two_parts, mask)[0]


def test_alike_everywhere_it_is_nearly_the_uniform_filter(mask):
    truth = texture(FINE_PX, 3)
    halves = noisy(truth, 1.0, 20)
    chosen = fit_local_filter(*halves, mask, BANK)
    low, high = (float(chosen.cutoff_px()[mask > 0.9].quantile(q)) for q in (0.1, 0.9))
    assert high / low < 1.2
    found = [chosen.applied(half) for half in halves]
    assert error(found, truth, mask) < 1.05 * best_uniform(halves, truth, mask)[0]


@pytest.mark.parametrize("seed", [30, 40, 50])
def test_noise_is_filtered_away(mask, seed):
    """Of pure noise next to nothing passes, and what passes agrees no more than the noise in the coarsest filter."""
    halves = noisy(torch.zeros((BOX_PX,) * 3), 1.0, seed)
    chosen = fit_local_filter(*halves, mask, BANK)
    assert float(chosen.place[mask > 0.5].median()) <= 0.5
    assert float(chosen.place[mask > 0.5].mean()) < 0.5

    def agreement(filtered):
        first, second = ((volume * mask).flatten() for volume in filtered)
        return float(first @ second / (first.norm() * second.norm()))

    coarsest = agreement([low_passed(half, BANK[0]) for half in halves])
    assert agreement([chosen.applied(half) for half in halves]) < coarsest + 0.1


def test_turned_maps_give_the_turned_choice(two_parts, mask):
    halves = noisy(two_parts, 1.0, 60)
    mask = mask * torch.linspace(0.5, 1.0, BOX_PX)
    straight = fit_local_filter(*halves, mask, BANK)
    for axes in ((0, 1), (1, 2), (0, 2)):
        turned = fit_local_filter(*(torch.rot90(v, 1, axes) for v in (*halves, mask)), BANK)
        difference = (turned.place - torch.rot90(straight.place, 1, axes)).abs()
        # Rounding may decide between two distant minima that are equally good, at single voxels.
        assert float((difference < 1e-2).double().mean()) > 0.999
        expected = torch.rot90(straight.applied(halves[0]), 1, axes)
        found = turned.applied(torch.rot90(halves[0], 1, axes))
        assert float((found - expected).norm() / expected.norm()) < 1e-2
    swapped = fit_local_filter(*halves[::-1], mask, BANK)
    assert float((swapped.place - straight.place).abs().mean()) < 1e-3


def test_between_cutoffs_and_no_steps(two_parts, mask):
    chosen = fit_local_filter(*noisy(two_parts, 1.0, 70), mask, BANK)
    assert torch.equal(chosen.place, chosen.place.clamp(0, len(BANK) - 1))
    fractions = (chosen.place - chosen.place.round())[mask > 0.5].abs()
    assert float((fractions > 0.05).double().mean()) > 0.5
    uniform = [LocalFilter(BANK, torch.full((BOX_PX,) * 3, place)) for place in (0.0, 1.5, len(BANK) - 1.0)]
    expected = (BANK[0], math.sqrt(BANK[1] * BANK[2]), BANK[-1])
    for filter_, cutoff in zip(uniform, expected, strict=True):
        torch.testing.assert_close(filter_.cutoff_px(), torch.full((BOX_PX,) * 3, cutoff))
    middle = (low_passed(two_parts, BANK[1]) + low_passed(two_parts, BANK[2])) / 2
    torch.testing.assert_close(uniform[1].applied(two_parts), middle, atol=1e-5, rtol=0)
    assert float(fsc(uniform[2].applied(two_parts), two_parts)[1:10].min()) > 0.999


def test_unshrunk_takes_off_the_mean_gain_of_shells(two_parts):
    ssnr = torch.cat([torch.linspace(8.0, 0.2, 15, dtype=torch.float64), torch.zeros(BOX_PX // 2 - 14)])
    gain = spread(ssnr / (1 + ssnr), shell_index_3d(BOX_PX)).float()
    kept = spread((ssnr > 0).float(), shell_index_3d(BOX_PX))
    shrunk, expected = (torch.fft.irfftn(torch.fft.rfftn(two_parts) * f, s=two_parts.shape) for f in (gain, kept))
    torch.testing.assert_close(unshrunk(shrunk, ssnr), expected, atol=1e-5, rtol=0)


def test_last_trusted_shell():
    assert last_trusted_shell(torch.tensor([1.0, 0.9, 0.5, 0.2, 0.0, 0.0])) == 3
    assert last_trusted_shell(torch.tensor([1.0, 0.9, 0.0, 0.5])) == 3
    assert last_trusted_shell(torch.tensor([1.0, 0.0, 0.0])) == 1
