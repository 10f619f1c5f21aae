import math

import pytest
import torch

from halfmap.optics.dose import critical_dose_e_per_A2, damage_amplitude, dose_weights


def test_critical_dose_of_the_paper():
    k = torch.tensor([0.05, 1 / 3, 0.5], dtype=torch.float64)
    expected = torch.tensor([0.245 * f**-1.665 + 2.81 for f in k.tolist()], dtype=torch.float64)
    torch.testing.assert_close(critical_dose_e_per_A2(k, 300.0), expected)
    assert float(expected[1]) == pytest.approx(4.34, abs=0.01)


VOLTAGES = [(300.0, 1.0), (200.0, 0.8), (100.0, 0.64), (250.0, 0.9), (400.0, 1.0), (80.0, 0.64)]


@pytest.mark.parametrize(("kV", "factor"), VOLTAGES)
def test_damage_is_faster_at_lower_voltage(kV, factor):
    k = torch.tensor([0.1, 0.3])
    torch.testing.assert_close(critical_dose_e_per_A2(k, kV), factor * critical_dose_e_per_A2(k, 300.0))


def test_the_amplitude_falls_to_the_root_of_1_over_e_at_the_critical_dose():
    k = torch.tensor([0.2], dtype=torch.float64)
    critical = critical_dose_e_per_A2(k, 300.0)
    assert float(damage_amplitude(k, critical, 300.0)) == pytest.approx(math.exp(-0.5))
    assert float(damage_amplitude(k, torch.zeros(1), 300.0)) == 1.0


def test_weights_keep_white_noise_white():
    k = torch.linspace(0, 0.5, 40)[None].expand(3, 40)
    dose = torch.full((30,), 1.5)
    weights = dose_weights(k, dose, 300.0)
    assert weights.shape == (30, 3, 40)
    torch.testing.assert_close(weights.square().sum(0), torch.ones(3, 40))


def test_weights_follow_the_exposure_accumulated_by_the_end_of_each_frame():
    k = torch.tensor([0.25], dtype=torch.float64)
    dose = torch.tensor([1.0, 2.0, 3.0])
    weights = dose_weights(k, dose, 300.0, pre_exposure_e_per_A2=4.0)[:, 0]
    critical = float(critical_dose_e_per_A2(k, 300.0))
    expected = torch.tensor([math.exp(-n / (2 * critical)) for n in (5.0, 7.0, 10.0)], dtype=torch.float64)
    torch.testing.assert_close(weights, expected / expected.norm())


def test_early_frames_carry_the_high_frequencies():
    k = torch.tensor([0.01, 0.4])
    weights = dose_weights(k, torch.full((40,), 1.0), 300.0)
    assert float(weights[0, 0] / weights[-1, 0]) < 1.1
    assert float(weights[0, 1] / weights[-1, 1]) > 50.0
    assert torch.isfinite(dose_weights(torch.zeros(1), torch.full((5,), 1.0), 300.0)).all()
