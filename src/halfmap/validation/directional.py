"""FSC in cones about many axes, which tells whether all directions are resolved alike.

Method of Tan et al. (2017), Nat. Methods 14, 793, with cones of a sharp edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from halfmap.constants import FSC_HALF_MAP_THRESHOLD
from halfmap.fourier.fsc import resolution_A, shell_of_threshold
from halfmap.fourier.grid import friedel_weight
from halfmap.fourier.ordered_sums import sums_by_index
from halfmap.fourier.shells import n_shells, shell_index_3d
from halfmap.geometry.sphere import direction_from_angles, fibonacci_directions
from halfmap.typing import FloatArray
from halfmap.units import DEG

_BIN_RAD = 2.5 * DEG
"""Directions are binned to this, which blurs the edge of a cone."""
_BEYOND = 1.25
_FIRST_SHELL = 3
"""Below, a cone holds too few Fourier pixels to have a correlation of its own."""


@dataclass(frozen=True, eq=False)
class DirectionalFsc:
    """FSC in cones.

    Attributes
    ----------
    axes
        Unit vectors (x, y, z) of the cones' axes on one hemisphere, ``[axes, 3]``.
    curves
        FSC of each cone, shells 0 to Nyquist, ``[axes, shells]``; 1 below shell 3.
    resolution_A
        Of each cone at FSC = 0.143.
    area_ratio
        Smallest over largest area under the cones' curves, from shell 3 to a quarter beyond the shell at which
        all directions together fall below 0.143: 1 if all directions are equal. Values below 0.5 speak of
        anisotropy (as cFAR does, of which this is a variant; a common end keeps chance crossings out of it).
    cone_frac
        Share of all directions that one cone holds.
    """

    axes: FloatArray
    curves: FloatArray
    resolution_A: FloatArray
    area_ratio: float
    cone_frac: float


def directional_fsc(
    half1: Float[Tensor, "z y x"],
    half2: Float[Tensor, "z y x"],
    pixel_size_A: float,
    *,
    n_axes: int = 128,
    half_angle_rad: float = 20.0 * DEG,
) -> DirectionalFsc:
    """Correlate two (masked) half-maps within cones about evenly spread axes.

    Cross-correlations and powers are summed once over bins of shell and direction; the cones are sums of bins.
    """
    n = half1.shape[0]
    shells = n_shells(n)
    first, second = torch.fft.rfftn(half1), torch.fft.rfftn(half2)
    bins, centres = _direction_bins(n, first.device)
    shell = shell_index_3d(n, first.device)
    inside = (shell < shells) & (shell >= _FIRST_SHELL)
    index = (shell * len(centres) + bins)[inside]
    weight = friedel_weight((n,), first.device).double().expand(shell.shape)[inside]
    a, b = torch.view_as_real(first[inside]), torch.view_as_real(second[inside])
    sums = [
        sums_by_index(index, (x * y).sum(-1).double() * weight, shells * len(centres)).view(shells, -1)
        for x, y in ((a, b), (a, a), (b, b))
    ]
    axes = fibonacci_directions(2 * n_axes)[:n_axes].to(first.device)
    in_cone = ((axes @ centres.T).abs() >= math.cos(half_angle_rad)).double()
    cross, power1, power2 = (in_cone @ total.T for total in sums)
    product = power1 * power2
    curves = torch.where(product > 0, cross / product.clamp(min=torch.finfo(torch.float64).tiny).sqrt(), 0.0)
    curves[:, :_FIRST_SHELL] = 1.0
    resolutions = np.array([resolution_A(curve, FSC_HALF_MAP_THRESHOLD, n, pixel_size_A) for curve in curves])
    whole = sums[0].sum(1) / (sums[1].sum(1) * sums[2].sum(1)).clamp(min=torch.finfo(torch.float64).tiny).sqrt()
    whole[:_FIRST_SHELL] = 1.0
    end = min(math.ceil(_BEYOND * shell_of_threshold(whole, FSC_HALF_MAP_THRESHOLD)), shells - 1)
    areas = curves[:, _FIRST_SHELL : max(end, _FIRST_SHELL) + 1].sum(dim=1).clamp(min=0.0)
    ratio = float(areas.min() / areas.max()) if float(areas.max()) > 0 else 0.0
    cone_frac = 1.0 - math.cos(half_angle_rad)
    return DirectionalFsc(axes.cpu().numpy(), curves.cpu().numpy(), resolutions, ratio, cone_frac)


def _direction_bins(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Direction bin of each element of the half layout (opposite directions share one), and the bins' centres."""
    k = torch.fft.fftfreq(n, 1.0 / n, device=device)
    kx = torch.fft.rfftfreq(n, 1.0 / n, device=device)
    x, y, z = kx[None, None, :], k[None, :, None], k[:, None, None]
    flip = torch.where((z < 0), -1.0, 1.0)
    tilt = torch.atan2(torch.sqrt(x * x + y * y), z.abs())
    rot = torch.remainder(torch.atan2(y * flip, x * flip), 2.0 * math.pi)
    rows = math.ceil(0.5 * math.pi / _BIN_RAD)
    tilt_centres = (torch.arange(rows, dtype=torch.float64, device=device) + 0.5) * (0.5 * math.pi / rows)
    counts = torch.ceil(2.0 * math.pi * torch.sin(tilt_centres) / _BIN_RAD).long()
    starts = torch.cumsum(counts, 0) - counts
    row = (tilt * (rows / (0.5 * math.pi))).long().clamp(max=rows - 1)
    column = torch.minimum((rot * (counts[row] / (2.0 * math.pi))).long(), counts[row] - 1)
    row_of_bin = torch.repeat_interleave(torch.arange(rows, device=device), counts)
    place = torch.arange(len(row_of_bin), device=device) - starts[row_of_bin]
    rot_of_bin = (place.double() + 0.5) * (2.0 * math.pi) / counts[row_of_bin]
    return starts[row] + column, direction_from_angles(rot_of_bin, tilt_centres[row_of_bin])
