import numpy as np
import pytest
import torch

from halfmap.simulate.background import (
    STILL_FRACTION,
    defocus_planes_A,
    interpolate_planes,
    random_background,
)
from halfmap.simulate.form_factors import ice_phase_variance_density
from halfmap.simulate.poses import Defocus
from halfmap.simulate.projection import Optics
from halfmap.simulate.specimen import IcePlane, background_field, contrast_box_px, scattered_positions_px


def background(kind="ordinary", shape=(192, 256), contaminants=0.0, ice_A=400.0, seed=1):
    return random_background(
        shape, 1.5, kind=kind, voltage_kV=300.0, ice_thickness_A=ice_A, contaminants=contaminants,
        generator=np.random.default_rng(seed),
    )  # fmt: skip


def band_power(image, pixel_A, low, high):
    """Mean power spectrum in rad²·Å² between two frequencies in 1/Å."""
    spectrum = np.abs(np.fft.fft2(image)) ** 2 * pixel_A**2 / image.size
    radius = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, pixel_A) for n in image.shape), indexing="ij"))
    return spectrum[(radius >= low) & (radius < high)].mean()


@pytest.mark.parametrize("k", [0.1, 0.2, 0.27])
def test_ice_has_the_power_spectrum_of_ice(k):
    expected = STILL_FRACTION * ice_phase_variance_density(np.array([k]), 400.0, 300.0)[0]
    assert band_power(background().phase_rad, 1.5, k - 0.01, k + 0.01) == pytest.approx(expected, rel=0.1)


def test_crystals_are_dark_and_keep_particles_away():
    drawn = background(contaminants=4.0, seed=2)
    assert 0.01 < drawn.forbidden.mean() < 0.9
    assert drawn.transmission[drawn.forbidden].mean() < 0.9 * drawn.transmission[~drawn.forbidden].mean()
    assert not background().forbidden.any()


def test_carbon_covers_one_side_with_stronger_grain():
    drawn = background("carbon")
    assert 0.02 < drawn.forbidden.mean() < 0.98
    assert drawn.phase_rad[drawn.forbidden].std() > 2 * drawn.phase_rad[~drawn.forbidden].std()


def test_crystalline_ice_shows_its_lattice():
    ring = (1 / 3.75, 1 / 3.6)
    plain, crystalline = (band_power(background(kind).phase_rad, 1.5, *ring) for kind in ("ordinary", "crystalline"))
    assert crystalline > 5 * plain


def test_blended_planes_follow_the_local_defocus():
    local = np.linspace(-150.0, 150.0, 40).reshape(8, 5)
    planes = defocus_planes_A(local, 100.0)
    assert (planes.min(), planes.max(), len(planes)) == (-150.0, 150.0, 4)
    images = torch.stack([torch.full((8, 5), float(value)) for value in planes])
    assert interpolate_planes(images, planes, local) == pytest.approx(local, abs=1e-3)
    assert len(defocus_planes_A(np.zeros((4, 4)), 100.0)) == 1


def test_background_is_one_on_the_mean_and_oscillates_with_the_ctf():
    drawn = background(shape=(256, 256))
    optics, defocus = Optics(300.0, 2.7, 0.07), Defocus(15000.0, 15000.0, 0.0)
    field = background_field(drawn, IcePlane(0.0, 0.0), defocus, optics, 1.5) / drawn.transmission
    assert field.mean() == pytest.approx(1.0, abs=0.01)
    # Around 0.1 / Å the phase is π λ Δf k² + asin w - ...: compare a zero of the CTF with the next maximum.
    k = np.linspace(0.05, 0.15, 2001)
    phase = np.pi * 0.0196875 * 15000 * k**2 - 0.5 * np.pi * 2.7e7 * 0.0196875**3 * k**4 + np.arcsin(0.07)
    zero = k[np.abs(np.sin(phase)).argmin()]
    peak = k[np.abs(np.sin(phase)).argmax()]
    weak, strong = (band_power(field, 1.5, at - 0.002, at + 0.002) for at in (zero, peak))
    assert strong > 4 * weak


def test_positions_keep_their_distance_and_avoid_what_is_not_free():
    free = np.ones((200, 300), bool)
    free[:, :100] = False
    placed = scattered_positions_px(40, free, 25.0, np.random.default_rng(3))
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=-1) + 1e9 * np.eye(len(placed))
    assert len(placed) == 40
    assert distance.min() >= 25.0
    assert placed[:, 0].min() > 99.0
    crowded = scattered_positions_px(1000, free, 60.0, np.random.default_rng(3))
    assert 5 < len(crowded) < 40


def test_box_holds_the_particle_and_what_the_ctf_spreads():
    assert contrast_box_px(120.0, 0.0, 2.0, 300.0) == 60
    # 2 λ Δf / d = 2 · 0.0196875 · 20000 / 4 = 197 Å
    assert contrast_box_px(120.0, 20000.0, 2.0, 300.0) == pytest.approx((120 + 197) / 2, abs=2)
