"""Weights of frequencies that make the correlation of aligned frames a log-likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.motion.band import Band, multiplicity, radial_frequency, without_lowest
from halfmap.motion.likelihood import powers_of
from halfmap.typing import FloatArray

N_SHELLS = 64


@dataclass(frozen=True, eq=False)
class Weighting:
    """Weight of each frequency, by shells."""

    weight: FloatArray
    shell_width: float
    max_frequency: float

    @classmethod
    def of(cls, band: Band, shifts: FloatArray) -> Weighting:
        """Measure signal and noise of the frames, given their present shifts ``[n, 2]`` in px."""
        return cls.of_powers(*powers_of(band, shifts), band, n_frames=len(shifts))

    @classmethod
    def of_powers(
        cls,
        power_of_sum: Float[Tensor, "ky kx"],
        sum_of_powers: Float[Tensor, "ky kx"],
        band: Band,
        *,
        n_frames: int,
        n_images: int = 1,
    ) -> Weighting:
        """The weights from ``|ΣF|²`` and ``Σ|F|²`` of aligned frames, means over independent images.

        Signal power is ``(|ΣF|² − Σ|F|²) / (n(n−1))``, noise power the rest of the frames' mean
        power; both are averaged over shells, and the signal is smoothed and ends where it is lost.
        """
        n = n_frames
        frequency = radial_frequency(band)
        width = max(float(band.fx[-1]) / N_SHELLS, float(band.fx[1]), float(band.fy[1] - band.fy[0]))
        shell = (frequency / width).long().clamp_max(N_SHELLS).flatten()
        times = multiplicity(band).expand_as(frequency).double()

        def shells(values: Tensor) -> FloatArray:
            sums = sums_by_index(shell, (values.double() * times).flatten(), N_SHELLS + 1)
            return sums[:N_SHELLS].cpu().numpy()

        found = shells(torch.ones_like(frequency))
        count = np.maximum(found, 1.0)
        signal = shells(without_lowest(power_of_sum - sum_of_powers, band)) / (n * (n - 1)) / count
        noise = np.maximum(shells(sum_of_powers) / n / count - np.maximum(signal, 0.0), 1e-30)
        # Shells beyond the band have no noise to be weighted by, and no signal, though the smoothing reaches them.
        snr = np.where(found > 0, _smooth_decay(signal / noise, count * n_images, n), 0.0)
        weight = snr / (1.0 + (n - 1) * snr) / noise
        told = count * (np.arange(N_SHELLS) + 0.5) ** 2 * snr**2 / (1.0 / (n - 1) + snr)
        enough = int(np.searchsorted(np.cumsum(told), 0.995 * told.sum())) + 1
        return cls(weight, width, min(enough, N_SHELLS) * width)

    def at(self, band: Band) -> Float[Tensor, "ky kx"]:
        """The weight of every coefficient of a band."""
        frequency = radial_frequency(band)
        position = frequency / self.shell_width - 0.5
        low = position.floor().long().clamp(0, N_SHELLS - 1)
        high = (low + 1).clamp_max(N_SHELLS - 1)
        table = torch.as_tensor(self.weight, dtype=torch.float32, device=frequency.device)
        fraction = (position - low).clamp(0.0, 1.0)
        weight = table[low] * (1.0 - fraction) + table[high] * fraction
        return without_lowest(torch.where(frequency <= self.max_frequency, weight, 0.0), band)


def coherence(band: Band, shifts: FloatArray, weight: Float[Tensor, "ky kx"]) -> float:
    """Weighted correlation between all pairs of moved frames: what an alignment makes large."""
    of_sum, of_each = powers_of(band, shifts)
    return 0.5 * float(((of_sum - of_each) * weight * multiplicity(band)).double().sum())


def _smooth_decay(snr: FloatArray, count: FloatArray, n: int) -> FloatArray:
    """Shell-wise signal-to-noise ratio, smoothed, positive, and ended where noise has taken over."""
    kernel = np.array([1.0, 2.0, 3.0, 2.0, 1.0])
    smooth = np.convolve(snr * count, kernel, "same") / np.convolve(count, kernel, "same")
    # The sum of n(n-1)/2 independent products of noise has this spread, in units of the noise.
    spread = np.sqrt(2.0 / (n * (n - 1)) / np.convolve(count / 2.0, kernel / 3.0, "same"))
    above = smooth > 2.0 * spread
    last = int(np.flatnonzero(above).max()) if above.any() else min(8, len(snr) - 1)
    smooth = np.where(np.arange(len(snr)) <= last, np.maximum(smooth, 0.25 * spread), 0.0)
    return smooth
