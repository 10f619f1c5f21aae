"""The contrast transfer function: one formula, for images and for radial profiles (ADR-0001)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.optics.electron import wavelength_A
from halfmap.units import A_PER_MM

Parameter = Tensor | float
"""A number, or one number an image: a tensor of any leading shape."""


def aberration_phase_rad(
    frequency_squared: Tensor,
    defocus_A: Tensor,
    *,
    voltage_kV: Parameter,
    cs_mm: Parameter,
    amplitude_contrast: Parameter,
    phase_shift_rad: Parameter = 0.0,
) -> Tensor:
    """Phase whose sine is the CTF, πλΔf s² − π/2 Cs λ³ s⁴ + φ + asin(w), in the dtype of ``frequency_squared``.

    Coefficients are made in float64; ``defocus_A`` already has the astigmatism of each direction.
    """
    like = frequency_squared
    wavelength = wavelength_A(voltage_kV).to(like.device)
    cs_A = torch.as_tensor(cs_mm, dtype=torch.float64, device=like.device) * A_PER_MM
    quadratic = (math.pi * wavelength).to(like.dtype)
    quartic = (0.5 * math.pi * cs_A * wavelength**3).to(like.dtype)
    constant = torch.asin(torch.as_tensor(amplitude_contrast, dtype=torch.float64, device=like.device))
    constant = (constant + torch.as_tensor(phase_shift_rad, dtype=torch.float64, device=like.device)).to(like.dtype)
    return frequency_squared * (quadratic * defocus_A - quartic * frequency_squared) + constant


def ctf_2d(
    fx: Float[Tensor, "y x"],
    fy: Float[Tensor, "y x"],
    defocus_u_A: Parameter,
    defocus_v_A: Parameter,
    defocus_angle_rad: Parameter,
    voltage_kV: Parameter,
    cs_mm: Parameter,
    amplitude_contrast: Parameter,
    phase_shift_rad: Parameter = 0.0,
    bfactor_A2: Parameter = 0.0,
) -> Float[Tensor, "*batch y x"]:
    """CTF on a grid of frequencies, astigmatism exact; white protein has a positive first lobe.

    ``sin(πλΔf(α) s² − π/2 Cs λ³ s⁴ + φ + asin(w)) · exp(−B s²/4)`` with
    ``Δf(α) = (u + v)/2 + (u − v)/2 · cos 2(α − angle)`` (Rohou & Grigorieff 2015, J. Struct. Biol. 192, 216).

    Parameters
    ----------
    fx, fy
        Frequencies in 1/Å (``fourier.grid.frequencies_2d``).
    defocus_u_A, defocus_v_A
        Largest and smallest underfocus.
    defocus_angle_rad
        Direction of ``defocus_u_A``, from x towards y.
    voltage_kV, cs_mm
        Acceleration voltage and spherical aberration.
    amplitude_contrast
        Fraction w of amplitude contrast.
    phase_shift_rad
        Phase shift φ of a phase plate.
    bfactor_A2
        Envelope.

    All parameters broadcast with each other; their common shape is the leading shape of the result.
    """

    def image(value: Parameter) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64, device=fx.device)[..., None, None]

    u, v, angle = image(defocus_u_A), image(defocus_v_A), image(defocus_angle_rad)
    half_sum, half_difference = (u + v) / 2.0, (u - v) / 2.0
    # s² Δf(α) without an arctangent: s² cos 2(α − a) = (fx² − fy²) cos 2a + 2 fx fy sin 2a.
    squared = fx.square() + fy.square()
    stretched = (fx.square() - fy.square()) * (half_difference * torch.cos(2.0 * angle)).to(fx.dtype)
    stretched = stretched + (2.0 * fx * fy) * (half_difference * torch.sin(2.0 * angle)).to(fx.dtype)
    defocus = half_sum.to(fx.dtype) + stretched / squared.clamp(min=torch.finfo(fx.dtype).tiny)
    phase = aberration_phase_rad(
        squared,
        defocus,
        voltage_kV=image(voltage_kV),
        cs_mm=image(cs_mm),
        amplitude_contrast=image(amplitude_contrast),
        phase_shift_rad=image(phase_shift_rad),
    )
    return torch.sin(phase) * torch.exp(squared * (-image(bfactor_A2) / 4.0).to(fx.dtype))


def ctf_1d(
    frequency_per_A: Float[Tensor, " n"],
    defocus_A: Parameter,
    voltage_kV: Parameter,
    cs_mm: Parameter,
    amplitude_contrast: Parameter,
    phase_shift_rad: Parameter = 0.0,
    bfactor_A2: Parameter = 0.0,
) -> Float[Tensor, "*batch n"]:
    """CTF along one direction, at frequencies in 1/Å; parameters broadcast as in :func:`ctf_2d`."""

    def profile(value: Parameter) -> Tensor:
        return torch.as_tensor(value, dtype=torch.float64, device=frequency_per_A.device)[..., None]

    squared = frequency_per_A.square()
    phase = aberration_phase_rad(
        squared,
        profile(defocus_A).to(squared.dtype),
        voltage_kV=profile(voltage_kV),
        cs_mm=profile(cs_mm),
        amplitude_contrast=profile(amplitude_contrast),
        phase_shift_rad=profile(phase_shift_rad),
    )
    return torch.sin(phase) * torch.exp(squared * (-profile(bfactor_A2) / 4.0).to(squared.dtype))
