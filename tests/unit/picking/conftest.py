"""Micrographs with known particles: spheres drawn in real space, a CTF of our own, noise."""

import numpy as np
import pytest

WAVELENGTH_300KV_A = 0.0196875


def ctf_image(shape, pixel_size_A, defocus_A):
    fy, fx = np.fft.fftfreq(shape[0], pixel_size_A)[:, None], np.fft.rfftfreq(shape[1], pixel_size_A)[None]
    s2 = fx**2 + fy**2
    phase = np.pi * WAVELENGTH_300KV_A * defocus_A * s2 - 0.5 * np.pi * 2.7e7 * WAVELENGTH_300KV_A**3 * s2**2
    return np.sin(phase + np.arcsin(0.1))


def projected_shell(shape, y, x, radius_px, inner_frac):
    rows, columns = np.indices(shape)
    r2 = (rows - y) ** 2 + (columns - x) ** 2
    outer = 2 * np.sqrt(np.maximum(radius_px**2 - r2, 0))
    return outer - 2 * np.sqrt(np.maximum((inner_frac * radius_px) ** 2 - r2, 0))


def random_places(rng, count, shape, distance_px, margin_px):
    places = []
    while len(places) < count:
        place = rng.uniform([margin_px, margin_px], [shape[0] - margin_px, shape[1] - margin_px])
        if all(np.hypot(*(place - other)) >= distance_px for other in places):
            places.append(place)
    return np.array(places)


class Scene:
    """A micrograph and where its particles are, as (y, x)."""

    def __init__(self, seed=0, *, shape=(600, 640), pixel_size_A=3.0, diameter_A=120.0, inner_frac=0.6,
                 count=40, snr=0.15, sign=-1, defocus_A=18000.0):  # fmt: skip
        rng = np.random.default_rng(seed)
        self.pixel_size_A, self.diameter_A, self.defocus_A = pixel_size_A, diameter_A, defocus_A
        radius_px = diameter_A / 2 / pixel_size_A
        self.places = random_places(rng, count, shape, 2.2 * radius_px, 1.05 * radius_px)
        clean = np.zeros(shape)
        for y, x in self.places:
            clean += projected_shell(shape, y, x, radius_px, inner_frac)
        if count:
            seen = np.fft.irfft2(np.fft.rfft2(clean) * ctf_image(shape, pixel_size_A, defocus_A), s=shape)
            clean = sign * seen / seen.std() * np.sqrt(snr)
        self.image = (100 + 10 * (clean + rng.standard_normal(shape))).astype(np.float32)


@pytest.fixture(scope="session")
def make_scene():
    return Scene
