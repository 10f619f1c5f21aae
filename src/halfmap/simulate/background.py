"""What else is on a micrograph: ice, ice crystals, contaminants, the edge of the carbon film."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from halfmap.optics.electron import interaction_constant_rad_per_VA
from halfmap.simulate.form_factors import ICE_POTENTIAL_V, ice_phase_variance_density
from halfmap.typing import FloatArray

MovieKind = Literal["ordinary", "empty", "drifting", "crystalline", "carbon", "truncated"]

STILL_FRACTION: Final = 0.3
"""Share of the ice's contrast that survives an exposure; the rest blurs as the beam moves the water
(McMullan, Vinothkumar & Henderson 2015, Ultramicroscopy 158, 26)."""
_CARBON_STRENGTH: Final = 12.0
"""Power of the granularity of carbon film over that of still ice."""
_INELASTIC_PATH_A: Final = 3000.0
"""Thickness of ice that takes all but 1/e of the electrons out of the image (energy filter, aperture)."""
_LATTICE_A: Final = (3.90, 3.67, 3.44)
"""Strongest reflections of hexagonal ice (the middle one also of cubic ice)."""


@dataclass(frozen=True, eq=False)
class Background:
    """Static surroundings of the particles on a padded field ``[y, x]``.

    ``phase_rad`` is the projected phase of ice, crystals and carbon, or, where the ice has layers, of the others alone;
    ``transmission`` the share of electrons that arrives; ``forbidden`` marks where no particle is found.
    """

    phase_rad: Float[np.ndarray, "y x"]
    transmission: Float[np.ndarray, "y x"]
    forbidden: Bool[np.ndarray, "y x"]
    layers_rad: Float[np.ndarray, "layer y x"]
    """Phase of each layer of ice."""
    layer_offset_A: Float[np.ndarray, " layer"]
    """Defocus of the middle of each layer over that of the middle of the ice."""


def _coordinates_A(shape: tuple[int, int], pixel_size_A: float) -> tuple[FloatArray, FloatArray]:
    """Position (x, y) in Å of every pixel from the centre of the field."""
    y, x = np.meshgrid(*((np.arange(n, dtype=np.float32) - n // 2) * pixel_size_A for n in shape), indexing="ij")
    return x, y


def _filtered_noise(shape: tuple[int, int], amplitude: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Gaussian noise whose transform has the given amplitude, ``[y, x//2+1]``."""
    white = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    noise: FloatArray = torch.fft.irfft2(torch.fft.rfft2(white) * torch.from_numpy(amplitude), s=shape).numpy()
    return noise


def _radius_per_A(shape: tuple[int, int], pixel_size_A: float) -> FloatArray:
    radius: FloatArray = np.hypot(
        np.fft.fftfreq(shape[0], pixel_size_A)[:, None], np.fft.rfftfreq(shape[1], pixel_size_A)[None]
    ).astype(np.float32)
    return radius


def _blob(x: FloatArray, y: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Thickness in Å of an ice crystal of irregular outline somewhere on the field."""
    radius = generator.uniform(60.0, 180.0)
    centre = generator.uniform(-0.5, 0.5, 2) * np.array([np.ptp(x), np.ptp(y)])
    dx, dy = x - centre[0], y - centre[1]
    angle = np.arctan2(dy, dx)
    outline = np.full_like(x, radius)
    for order in (2, 3, 5):
        outline += (
            radius * generator.uniform(0.0, 0.4 / order) * np.cos(order * (angle - generator.uniform(0.0, 2.0 * np.pi)))
        )
    inside = 1.0 / (1.0 + np.exp(np.clip((np.hypot(dx, dy) - outline) / 4.0, -40.0, 40.0)))
    thickness: FloatArray = (inside * generator.uniform(300.0, 1500.0)).astype(np.float32)
    return thickness


def _carbon(x: FloatArray, y: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Cover (0 to 1) by carbon film outside a round hole whose edge crosses the field."""
    hole_A = 6000.0
    extent = 0.5 * min(np.ptp(x), np.ptp(y))
    angle = generator.uniform(0.0, 2.0 * np.pi)
    reach = hole_A - generator.uniform(0.1, 0.7) * extent
    distance = np.hypot(x + reach * np.cos(angle), y + reach * np.sin(angle))
    cover: FloatArray = (1.0 / (1.0 + np.exp(np.clip((hole_A - distance) / 5.0, -40.0, 40.0)))).astype(np.float32)
    return cover


def _crystalline(x: FloatArray, y: FloatArray, pixel_size_A: float, generator: np.random.Generator) -> FloatArray:
    """Phase in rad of grains of crystalline ice: lattice fringes as far as the pixel size shows them."""
    phase = np.zeros_like(x)
    for _ in range(12):
        centre = generator.uniform(-0.5, 0.5, 2) * np.array([np.ptp(x), np.ptp(y)])
        size = generator.uniform(80.0, 250.0)
        grain = np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2.0 * size**2))
        phase += generator.uniform(0.05, 0.3) * grain
        for spacing in _LATTICE_A:
            angle = generator.uniform(0.0, np.pi)
            if spacing > 2.0 * pixel_size_A:
                k = 2.0 * np.pi / spacing
                fringes = np.cos(k * (x * np.cos(angle) + y * np.sin(angle)) + generator.uniform(0, 2 * np.pi))
                phase += 0.25 * grain * fringes
    return phase


def random_background(
    shape: tuple[int, int],
    pixel_size_A: float,
    *,
    kind: MovieKind,
    voltage_kV: float,
    ice_thickness_A: float,
    contaminants: float,
    generator: np.random.Generator,
    ice_layers: int = 1,
) -> Background:
    """Draw the ice of a micrograph and what lies in it.

    ``contaminants`` is the mean number of ice crystals. Carbon and crystalline ice come with those kinds of
    movie only. Ice of more than one layer has its molecules at the defocus of their depth; what lies in it stays in the
    middle.
    """
    x, y = _coordinates_A(shape, pixel_size_A)
    radius = _radius_per_A(shape, pixel_size_A)
    power = STILL_FRACTION * ice_phase_variance_density(radius, ice_thickness_A, voltage_kV)
    amplitude = (np.sqrt(power) / pixel_size_A).astype(np.float32)
    layers = [_filtered_noise(shape, amplitude / np.sqrt(np.float32(ice_layers)), generator) for _ in range(ice_layers)]
    phase = layers.pop() if ice_layers == 1 else np.zeros(shape, np.float32)
    depth = (np.arange(len(layers)) + 0.5) / max(len(layers), 1) - 0.5
    gradient = generator.uniform(-0.1, 0.1, 2)
    thickness = ice_thickness_A * (1.0 + gradient[0] * x / np.ptp(x) + gradient[1] * y / np.ptp(y))
    transmission = np.exp(-thickness / _INELASTIC_PATH_A) / np.exp(-ice_thickness_A / _INELASTIC_PATH_A)
    forbidden = np.zeros(shape, bool)
    sigma = interaction_constant_rad_per_VA(voltage_kV)
    for _ in range(generator.poisson(contaminants)):
        blob = _blob(x, y, generator)
        transmission = transmission * np.exp(-blob / _INELASTIC_PATH_A)
        # A thick crystal is no weak phase object: its edge shows fringes as a thin one's does.
        phase += np.minimum(sigma * ICE_POTENTIAL_V * blob, 0.3).astype(np.float32)
        forbidden |= blob > 50.0
    if kind == "carbon":
        cover = _carbon(x, y, generator)
        phase += cover * np.sqrt(_CARBON_STRENGTH) * _filtered_noise(shape, amplitude, generator)
        transmission = transmission * (1.0 - 0.15 * cover)
        forbidden |= cover > 0.01
    if kind == "crystalline":
        phase += _crystalline(x, y, pixel_size_A, generator)
    return Background(
        phase_rad=phase.astype(np.float32),
        transmission=transmission.astype(np.float32),
        forbidden=forbidden,
        layers_rad=np.array(layers, np.float32).reshape(-1, *shape),
        layer_offset_A=depth * ice_thickness_A,
    )


def defocus_planes_A(local_defocus_A: Float[np.ndarray, "y x"], step_A: float) -> Float[np.ndarray, " planes"]:
    """Offsets in Å of equally spaced focal planes that enclose all local defocus offsets."""
    low, high = float(local_defocus_A.min()), float(local_defocus_A.max())
    count = max(int(np.ceil((high - low) / step_A)), 0) + 1
    planes: FloatArray = np.linspace(low, high, count) if count > 1 else np.array([0.5 * (low + high)])
    return planes


def interpolate_planes(
    images: Float[Tensor, "planes y x"],
    planes_A: Float[np.ndarray, " planes"],
    local_defocus_A: Float[np.ndarray, "y x"],
) -> Float[np.ndarray, "y x"]:
    """Blend images ``[plane, y, x]`` of one field at several focal planes to the local defocus of each pixel."""
    if len(planes_A) == 1:
        return images[0].numpy()
    position = (local_defocus_A - planes_A[0]) / (planes_A[1] - planes_A[0])
    blended = np.zeros(local_defocus_A.shape, np.float32)
    for index, image in enumerate(images.numpy()):
        blended += np.clip(1.0 - np.abs(position - index), 0.0, 1.0).astype(np.float32) * image
    return blended
