"""Correlation of two half-maps: unmasked, masked, with phases randomised, and corrected for the mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_RECOVERED, FSC_HALF_MAP_THRESHOLD
from halfmap.fourier.fsc import (
    Independence,
    correlation_of_transforms,
    joined_shells,
    resolution_A,
    resolution_of_shell_A,
    shell_of_threshold,
)
from halfmap.fourier.grid import slabs
from halfmap.fourier.shells import shell_index_3d
from halfmap.typing import FloatArray

RANDOMISE_BELOW = 0.8
"""Phases are randomised from the first shell at which the unmasked FSC is lower (Chen et al. 2013)."""
_KEPT_BEYOND = 2
"""The correction starts so many shells later, for the soft mask mixes neighbouring shells."""


@dataclass(frozen=True, eq=False)
class FscCurves:
    """Fourier shell correlations of two half-maps, shells 0 to Nyquist, float64.

    Attributes
    ----------
    box_px, pixel_size_A
        Of the maps.
    unmasked
        FSC of the maps as they are.
    masked
        FSC of the masked maps; the unmasked one if there is no mask.
    phase_randomised
        FSC of the masked maps after their phases beyond ``randomised_from_shell`` were made random,
        each half for itself: what the mask alone makes of noise. Zero if there is no mask.
    corrected
        ``(masked − randomised) / (1 − randomised)`` beyond that shell, ``masked`` up to it.
    randomised_from_shell
        First shell with random phases.
    has_mask
        Whether a mask was given.
    mask_fraction
        Mean of the mask over the box; 1 without one.
    joined
        Shells to each side that the mask joins with each shell (:func:`halfmap.fourier.fsc.joined_shells`); a fall of
        the masked and corrected curves that the next shells do not share is passed over. 0 without a mask.
    """

    box_px: int
    pixel_size_A: float
    unmasked: FloatArray
    masked: FloatArray
    phase_randomised: FloatArray
    corrected: FloatArray
    randomised_from_shell: int
    has_mask: bool
    mask_fraction: float
    joined: int = 0

    def resolution_A(self, threshold: float = FSC_HALF_MAP_THRESHOLD) -> float:
        """Resolution of the corrected curve in Å, interpolated; infinite if it never rises above."""
        return resolution_of_shell_A(self._shell(self.corrected, threshold), self.box_px, self.pixel_size_A)

    def unmasked_resolution_A(self, threshold: float = FSC_HALF_MAP_THRESHOLD) -> float:
        """Resolution of the unmasked curve in Å, interpolated."""
        return resolution_A(torch.from_numpy(self.unmasked), threshold, self.box_px, self.pixel_size_A)

    def masked_resolution_A(self, threshold: float = FSC_HALF_MAP_THRESHOLD) -> float:
        """Resolution of the masked curve in Å, interpolated, the mask's own correlation included."""
        return resolution_of_shell_A(self._shell(self.masked, threshold), self.box_px, self.pixel_size_A)

    def resolution_shell(self, threshold: float = FSC_HALF_MAP_THRESHOLD) -> float:
        """Shell (with fraction) at which the corrected curve falls below a threshold."""
        return self._shell(self.corrected, threshold)

    def _shell(self, curve: FloatArray, threshold: float) -> float:
        recovered = max(threshold, FSC_HALF_MAP_RECOVERED)
        independence = Independence(self.joined, self.mask_fraction)
        return shell_of_threshold(torch.from_numpy(curve), threshold, independence, recovered)

    def frequency_per_A(self) -> FloatArray:
        """Spatial frequency of each shell in 1/Å."""
        return np.arange(len(self.unmasked)) / (self.box_px * self.pixel_size_A)


def fsc_curves(
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    pixel_size_A: float,
    mask: Float[Tensor, "z y x"] | None = None,
    *,
    seed: int = 0,
) -> FscCurves:
    """Correlate two half-maps, and find out how much of the correlation comes from the mask.

    Parameters
    ----------
    half1, half2
        Cubic maps of independent halves, on one grid.
    pixel_size_A
        Of the maps.
    mask
        Values 0 to 1 with a soft edge; None for none.
    seed
        Of the random phases.

    References
    ----------
    Chen, S. et al. (2013). Ultramicroscopy 135, 24-35. Rosenthal & Henderson (2003). J. Mol. Biol. 333, 721.
    """
    first, second = torch.fft.rfftn(half1), torch.fft.rfftn(half2)
    unmasked = correlation_of_transforms(first, second)
    below = torch.nonzero(unmasked[1:] < RANDOMISE_BELOW)
    from_shell = int(below[0]) + 1 if len(below) else len(unmasked) - 1
    if mask is None:
        curve = unmasked.cpu().numpy()
        nothing = np.zeros_like(curve)
        return FscCurves(half1.shape[0], pixel_size_A, curve, curve, nothing, curve, from_shell, False, 1.0)
    masked, randomised = _within(mask, (half1, half2), (first, second), from_shell, seed)
    return FscCurves(
        half1.shape[0],
        pixel_size_A,
        unmasked.cpu().numpy(),
        masked.cpu().numpy(),
        randomised.cpu().numpy(),
        corrected_for_mask(masked, randomised, from_shell + _KEPT_BEYOND).cpu().numpy(),
        from_shell,
        True,
        float(mask.double().mean()),
        joined_shells(mask),
    )


def fsc_beyond(
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    mask: Float[Tensor, "z y x"],
    shell: int,
    *,
    seed: int = 0,
) -> Float[Tensor, " shells"]:
    """What two half-maps have in common beyond a shell: 1 up to it, and then the FSC that the mask did not bring there.

    Halves that were aligned to one starting map share it. A mask spreads what they share over shells that are not in
    that map, the further the stronger it is, and there it looks like the data's own agreement. So phases are randomised
    from the next shell on, which leaves what is shared, and what still correlates is taken off.
    """
    transforms = torch.fft.rfftn(half1), torch.fft.rfftn(half2)
    masked, randomised = _within(mask, (half1, half2), transforms, shell + 1, seed)
    curve = corrected_for_mask(masked, randomised, shell + 1)
    curve[: shell + 1] = 1.0
    return curve


def _within(
    mask: Float[Tensor, "z y x"],
    halves: tuple[Tensor, Tensor],
    transforms: tuple[Tensor, Tensor],
    from_shell: int,
    seed: int,
) -> tuple[Float[Tensor, " shells"], Float[Tensor, " shells"]]:
    """FSC within a mask of two half-maps, and of the same with random phases from a shell on."""
    masked = correlation_of_transforms(*(torch.fft.rfftn(half * mask) for half in halves))
    noise_ft = []
    for number, transform in enumerate(transforms):
        volume = torch.fft.irfftn(randomised_phases(transform, from_shell, seed + number), s=tuple(mask.shape))
        noise_ft.append(torch.fft.rfftn(volume.mul_(mask)))
    return masked, correlation_of_transforms(noise_ft[0], noise_ft[1])


def corrected_for_mask(
    masked: Float[Tensor, " shells"], phase_randomised: Float[Tensor, " shells"], from_shell: int
) -> Float[Tensor, " shells"]:
    """FSC with the mask's own correlation taken off from a shell on: ``(masked − randomised) / (1 − randomised)``."""
    corrected = (masked - phase_randomised) / (1.0 - phase_randomised).clamp(min=1e-6)
    beyond = torch.arange(len(masked), device=masked.device) >= from_shell
    return torch.where(beyond, corrected, masked)


def randomised_phases(
    transform: Complex[Tensor, "z y x_half"], from_shell: int, seed: int
) -> Complex[Tensor, "z y x_half"]:
    """Keep amplitudes, and replace phases from a shell on by those of a white-noise volume."""
    n = transform.shape[0]
    generator = torch.Generator().manual_seed(seed)
    changed: Tensor = torch.fft.rfftn(torch.randn(n, n, n, generator=generator).to(transform.device))
    for planes in slabs(n, transform[0].numel()):
        beyond = shell_index_3d(n, transform.device, planes) >= from_shell
        kept = transform[planes]
        changed[planes] = torch.where(beyond, kept.abs() * torch.sgn(changed[planes]), kept)
    return changed
