"""What a session says of its fits, and of spectra with two minima."""

import numpy as np
import pytest

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.session import figures_of, warnings_of
from halfmap.ctffit.spectrum import Spectrum


def fit(*, rings=True, ambiguous=False, surface="level", resolution_A=4.0):
    return {
        "ctf_fit_resolution_A": resolution_A, "has_rings": rings, "ambiguous": ambiguous, "defocus_surface": surface,
    }  # fmt: skip


def test_figures_count_every_micrograph_once():
    fits = [fit(), fit(surface="plane", resolution_A=5.0), fit(rings=False, ambiguous=True, surface="not fitted")]
    figures = figures_of(fits)
    assert figures["median_fit_resolution_A"] == 4.0
    assert figures["without_rings"] == 1
    assert figures["ambiguous"] == 0  # Noise has many minima; it is without rings, and that says more.
    assert sum(count for name, count in figures.items() if name.startswith("surface_")) == len(fits)


def test_warnings_name_what_must_be_looked_at():
    assert warnings_of([fit(), fit()]) == []
    (no_rings,) = warnings_of([fit(), fit(rings=False)])
    assert "1 of 2 micrographs show no rings" in no_rings
    (two,) = warnings_of([fit(ambiguous=True)])
    assert "nearly equally well" in two


def test_two_specimens_in_one_spectrum_are_not_told_apart(make_spectrum, titan):
    """Half of the field at one height and half at another: both sets of rings are there, equally strong."""
    one, other = make_spectrum(12000, 12000, 0, seed=1), make_spectrum(17000, 17000, 0, seed=2)
    both = estimate_ctf(Spectrum(0.5 * (one.power + other.power), one.pixel_size_A), titan, FitSettings())
    found = sorted([both.parameters[0], *(0.5 * (o.defocus_u_A + o.defocus_v_A) for o in both.alternatives)])
    for defocus_A in (12000.0, 17000.0):
        assert min(abs(np.array(found) - defocus_A)) < 150.0
    assert both.margin < 0.3 * both.evidence
    alone = estimate_ctf(one, titan, FitSettings())
    assert not alone.ambiguous
    assert alone.margin > 0.5 * alone.evidence


def test_noise_is_ambiguous_or_has_no_rings(make_spectrum, titan):
    noise = estimate_ctf(make_spectrum(15000, 15000, 0, strength=0.0), titan, FitSettings())
    assert not noise.has_rings


def test_parameters_are_those_of_the_defoci(make_spectrum, titan):
    estimate = estimate_ctf(make_spectrum(15000, 14000, 30), titan, FitSettings())
    mean, along, across, _ = estimate.parameters
    assert mean == pytest.approx((estimate.defocus_u_A + estimate.defocus_v_A) / 2)
    assert 2 * np.hypot(along, across) == pytest.approx(estimate.defocus_u_A - estimate.defocus_v_A)
    assert 0.5 * np.arctan2(across, along) == pytest.approx(estimate.defocus_angle_rad)
