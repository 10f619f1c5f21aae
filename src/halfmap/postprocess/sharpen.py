"""Weight a map by its FSC, make up for its falloff, and cut it at its resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.fourier.grid import radius_px
from halfmap.fourier.shells import shell_index_3d, spread
from halfmap.validation.guinier import GuinierFit, guinier_fit
from halfmap.validation.solvent_mask import low_passed

MIN_FIT_RANGE_A = 10.0


@dataclass(frozen=True, eq=False)
class Sharpened:
    """A sharpened map, and how it was made.

    Attributes
    ----------
    volume
        The map ``[z, y, x]``.
    b_factor_A2
        What it was sharpened by; 0 for not at all.
    b_factor_source
        In words: where the B factor comes from, or why there is none.
    guinier
        Falloff of the FSC-weighted map before sharpening.
    low_pass_A
        Resolution at which it was cut.
    shell_weight
        What each shell was weighted with by its FSC.
    """

    volume: Float[Tensor, "z y x"]
    b_factor_A2: float
    b_factor_source: str
    guinier: GuinierFit
    low_pass_A: float
    shell_weight: Float[Tensor, " shells"]


def fsc_weight(fsc: Float[Tensor, " shells"]) -> Float[Tensor, " shells"]:
    """Weight ``sqrt(2 FSC / (1 + FSC))`` of a shell: the expected correlation of the full map with the truth.

    Zero from the first shell whose FSC is not positive (Rosenthal & Henderson 2003).
    """
    positive = torch.cumprod((fsc > 0).to(fsc.dtype), dim=0)
    clamped = fsc.clamp(min=0.0, max=1.0)
    return positive * (2.0 * clamped / (1.0 + clamped)).sqrt()


def sharpen(
    volume: Float[Tensor, "z y x"],
    pixel_size_A: float,
    fsc: Float[Tensor, " shells"],
    resolution_A: float,
    mask: Float[Tensor, "z y x"],
    *,
    b_factor_A2: float | None = None,
    fit_from_A: float = MIN_FIT_RANGE_A,
    low_pass_A: float | None = None,
) -> Sharpened:
    """Sharpen the mean of two half-maps.

    Parameters
    ----------
    volume
        Mean of the half-maps, unmasked.
    pixel_size_A
        Of the map.
    fsc
        Corrected FSC of the half-maps.
    resolution_A
        At FSC = 0.143.
    mask
        The falloff is measured within it.
    b_factor_A2
        To be used instead of the fitted one.
    fit_from_A
        Where the Guinier fit begins.
    low_pass_A
        Where the map is cut, if not at its resolution.
    """
    n = volume.shape[0]
    weight = fsc_weight(fsc)
    guinier = guinier_fit(volume * mask, pixel_size_A, resolution_A, weight, fit_from_A=fit_from_A)
    b_factor, source = _chosen_b_factor(guinier, b_factor_A2)
    frequency = radius_px((n, n, n), volume.device) / (n * pixel_size_A)
    gain = spread(weight, shell_index_3d(n, volume.device)).to(volume.dtype)
    cut_A = resolution_A if low_pass_A is None else low_pass_A
    # Cut before amplifying, so that what lies beyond cannot overflow.
    within = frequency <= 1.0 / cut_A + 2.0 / (n * pixel_size_A)
    gain = torch.where(within, gain * torch.exp(b_factor / 4.0 * frequency.square() * within), 0.0)
    sharpened = torch.fft.irfftn(torch.fft.rfftn(volume) * gain, s=(n, n, n))
    return Sharpened(low_passed(sharpened, pixel_size_A, cut_A), b_factor, source, guinier, cut_A, weight)


def _chosen_b_factor(guinier: GuinierFit, given_A2: float | None) -> tuple[float, str]:
    if given_A2 is not None:
        return given_A2, "given"
    if guinier.b_factor_A2 is None:
        return 0.0, (
            f"none: between {guinier.fitted_from_A:.1f} Å and the resolution of {guinier.fitted_to_A:.1f} Å "
            "lies too little for a Guinier fit"
        )
    if guinier.b_factor_A2 <= 0.0:
        return 0.0, f"none: the amplitudes do not fall off (fitted B {guinier.b_factor_A2:.0f} Å²)"
    return guinier.b_factor_A2, f"Guinier fit, {guinier.fitted_from_A:.1f} to {guinier.fitted_to_A:.1f} Å"
