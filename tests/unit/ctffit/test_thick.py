"""A specimen so thick that its rings come back inverted: the search must not run into those."""

import math

import numpy as np
import pytest
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.spectrum import micrograph_spectrum
from halfmap.ctffit.thick import estimate_of_thick_specimen
from halfmap.simulate.background import random_background
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field

EDGE_PX, PIXEL_SIZE_A = 1024, 1.2
SETTINGS = FitSettings()
MICROSCOPE = Microscope(300.0, 2.7, 0.1)


def micrograph(defocus_A, thickness_A, seed):
    """Ice in layers of 60 Å, as a counting detector sees it at 20 e/Å²."""
    generator = np.random.default_rng(seed)
    defocus = Defocus(defocus_A + 150.0, defocus_A - 150.0, 0.7)
    ice = random_background(
        (EDGE_PX, EDGE_PX), PIXEL_SIZE_A, kind="ordinary", voltage_kV=300.0, ice_thickness_A=thickness_A,
        contaminants=0.0, generator=generator, ice_layers=max(1, round(thickness_A / 60)),
    )  # fmt: skip
    optics = Optics(300.0, 2.7, 0.1, 0.0, 60.0)
    relative = background_field(ice, IcePlane(0.0, 0.0), defocus, optics, PIXEL_SIZE_A)
    counts = generator.poisson(np.clip(relative, 0.0, None) * 20.0 * PIXEL_SIZE_A**2)
    return torch.from_numpy(counts.astype(np.float32))


@pytest.mark.truth
@pytest.mark.parametrize(("defocus_A", "thickness_A"), [(4000.0, 3000.0), (6000.0, 3000.0), (10000.0, 3000.0)])
def test_thick_ice_does_not_mislead_the_search(defocus_A, thickness_A):
    spectrum = micrograph_spectrum(micrograph(defocus_A, thickness_A, 1), PIXEL_SIZE_A)
    before = estimate_ctf(spectrum, MICROSCOPE, SETTINGS)
    found = estimate_of_thick_specimen(before, spectrum, MICROSCOPE, SETTINGS)
    assert abs(before.parameters[0] - defocus_A) > 200.0
    assert abs(found.parameters[0] - defocus_A) < 80.0
    assert found.evidence > before.evidence
    assert found.alternatives[0].evidence == before.evidence
    assert math.isfinite(found.fit_resolution_A)


@pytest.mark.parametrize("defocus_A", [4000.0, 15000.0])
def test_thin_ice_stays_as_it_was_found(defocus_A):
    spectrum = micrograph_spectrum(micrograph(defocus_A, 350.0, 2), PIXEL_SIZE_A)
    before = estimate_ctf(spectrum, MICROSCOPE, SETTINGS)
    found = estimate_of_thick_specimen(before, spectrum, MICROSCOPE, SETTINGS)
    assert found is before
