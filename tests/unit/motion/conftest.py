"""Small movies of known motion, made in a few lines and independent of the package's simulator."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest


@dataclass
class SmallMovie:
    """Electron counts, and the shifts (x, y) that undo the motion, relative to the first frame."""

    counts: np.ndarray
    shifts_px: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.counts.shape[1:]

    def frames(self) -> Iterator[np.ndarray]:
        return iter(self.counts)


@pytest.fixture(scope="session")
def make_movie() -> Callable[..., SmallMovie]:
    def make(n=12, shape=(512, 512), dose=1.0, contrast=0.15, path="decay", seed=0) -> SmallMovie:
        rng = np.random.default_rng(seed)
        fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
        s = np.hypot(fy, fx)
        ctf = np.sin(np.pi * 0.0197 * 15000 * s**2 + 0.1)
        amplitude = ctf * np.exp(-15 * s**2) / np.sqrt(1 + (s / 0.02) ** 2)
        ft = (rng.normal(size=s.shape) + 1j * rng.normal(size=s.shape)) * amplitude
        ft[0, 0] = 0
        scale = contrast / np.fft.irfft2(ft, s=shape).std()
        t = np.arange(n) * dose
        shifts = {
            "decay": np.stack([6 * np.exp(-t / 4) + 0.05 * t, -4 * np.exp(-t / 6) - 0.08 * t], 1),
            "jitter": 0.7 * np.cumsum(rng.normal(size=(n, 2)), 0),
            "still": np.zeros((n, 2)),
        }[path]
        shifts = shifts - shifts[0]
        counts = []
        for x, y in shifts:
            moved = ft * np.exp(2j * np.pi * (fx * x + fy * y))
            rate = dose * np.clip(1 + scale * np.fft.irfft2(moved, s=shape), 0, None)
            counts.append(rng.poisson(rate).astype(np.uint8))
        return SmallMovie(np.array(counts), shifts)

    return make
