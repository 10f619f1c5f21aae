"""A counting detector: gain, hot and dead pixels, shot noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from halfmap.typing import Array

_MOST_HOT = 120.0
"""Largest rate of a hot pixel, in electrons a frame."""


@dataclass(frozen=True, eq=False)
class Detector:
    """A detector as it is: multiplying raw counts by ``gain`` makes them even.

    ``gain`` is ``[y, x]`` float32 with mean 1, zero for dead pixels, which count nothing. Hot pixels
    (``hot_index``, flat) count ``hot_rate`` electrons a frame whatever arrives; the gain does not show them.
    """

    gain: Float[np.ndarray, "y x"]
    hot_index: Int[np.ndarray, " hot"]
    hot_rate: Float[np.ndarray, " hot"]

    @property
    def dead(self) -> Bool[np.ndarray, "y x"]:
        """Mask ``[y, x]`` of the pixels that count nothing."""
        dead: Array = self.gain == 0
        return dead

    def rate(self, expected_e_per_px: Float[np.ndarray, "y x"]) -> Float[np.ndarray, "y x"]:
        """Mean raw counts ``[y, x]`` of a frame of expected electrons."""
        inverse = np.zeros_like(self.gain)
        np.divide(1.0, self.gain, out=inverse, where=~self.dead)
        rate: Array = np.clip(expected_e_per_px, 0.0, None) * inverse
        rate.reshape(-1)[self.hot_index] = self.hot_rate
        return rate

    def record(
        self, expected_e_per_px: Float[np.ndarray, "y x"], most: int, generator: np.random.Generator
    ) -> UInt8[np.ndarray, "y x"]:
        """Raw counts ``[y, x]`` (uint8, not gain-corrected) of a frame; larger ones than ``most`` are cut off."""
        counts = generator.poisson(self.rate(expected_e_per_px))
        return np.minimum(counts, most).astype(np.uint8)

    def record_camera_frames(
        self, expected_e_per_px: Float[np.ndarray, "y x"], count: int, generator: np.random.Generator
    ) -> Iterator[Array]:
        """Zeros and ones ``[y, x]`` (uint8) of the camera frames that a frame consists of."""
        chance = (self.rate(expected_e_per_px) / count).astype(np.float32)
        for _ in range(count):
            yield (generator.random(chance.shape, dtype=np.float32) < chance).astype(np.uint8)


def random_detector(
    shape: tuple[int, int], *, spread_frac: float, hot_pixels: int, dead_pixels: int, generator: np.random.Generator
) -> Detector:
    """Draw a detector: gain differs from pixel to pixel, from column to column and between read-out blocks."""
    height, width = shape
    pixels = generator.standard_normal(shape)
    columns = generator.standard_normal((1, width))
    blocks = np.kron(generator.standard_normal((2, 4)), np.ones((-(-height // 2), -(-width // 4))))[:height, :width]
    gain = np.exp(spread_frac * (0.8 * pixels + 0.4 * columns + 0.45 * blocks))
    faulty = generator.choice(height * width, size=hot_pixels + dead_pixels, replace=False)
    alive = np.ones(shape, bool)
    alive.reshape(-1)[faulty[hot_pixels:]] = False
    gain = np.where(alive, gain / gain[alive].mean(), 0.0).astype(np.float32)
    rate = generator.uniform(25.0, _MOST_HOT, hot_pixels).astype(np.float32)
    return Detector(gain, faulty[:hot_pixels], rate)
