"""Likelihood of a pose, its derivatives and its information, from slices gathered at that pose alone.

For an image with ``Y = CTF image / sigma2`` and ``W = CTF^2 / sigma2`` and a pose (A, t) the
log-likelihood relative to an empty image is, summed over both halves of Fourier space,

    L = sum_k  Re[ conj(Y(k)) P(A^T k) exp(2 pi i k t) ] - 1/2 W(k) |P(A^T k)|^2.

Derivatives are taken for a small rotation of the image frame, ``A' = exp([w]) A``, and for the
shift; the information is Fisher's, ``sum W Re(conj(dM) dM)``, which is never indefinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor

from halfmap.fourier.slices import prepare_volume
from halfmap.refine.search.local_fast import derivatives as derivatives_fast

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True)
class SliceSource:
    """The transform of a map, laid out for slices that are gathered pixel by pixel.

    Attributes
    ----------
    volume
        ``[z, y, x]`` complex64; index ``(c, c, 0)`` is the zero frequency, ``c = edge // 2``.
    scale
        Voxels of ``volume`` for one pixel of the images' lattice.
    """

    volume: Complex[Tensor, "z y x"]
    scale: float

    @classmethod
    def of(cls, volume: Float[Tensor, "z y x"], radius_px: int, padding: float = 2.0) -> SliceSource:
        """Prepare a map in real space for slices up to a radius on its own box's lattice."""
        transform = prepare_volume(volume, float(radius_px) + 1, padding)
        return cls(torch.fft.fftshift(transform, dim=(0, 1)).to(torch.complex64).contiguous(), padding)


@dataclass(frozen=True)
class PoseScores:
    """Scores of ``m`` poses; parameters are the rotation vector in rad and the shift (x, y) in boxes."""

    log_likelihood: Float[Tensor, " m"]
    gradient: Float[Tensor, "m 5"]
    information: Float[Tensor, "m 5 5"]


def pose_scores(
    source: SliceSource,
    kx_px: Int[Tensor, " p"],
    ky_px: Int[Tensor, " p"],
    weighted: Complex[Tensor, "n p"],
    weights: Float[Tensor, "n p"],
    image: Int[Tensor, " m"],
    rot_img_from_map: Float[Tensor, "m 3 3"],
    shift_box: Float[Tensor, "m 2"],
    n_pixels: Int[Tensor, " m"],
) -> PoseScores:
    """Score poses with derivatives.

    Parameters
    ----------
    source
        Where slices are taken from.
    kx_px, ky_px
        Fourier pixels, one of each Friedel pair, without the zero frequency, sorted by radius.
    weighted, weights
        ``CTF image / sigma2`` and ``CTF^2 / sigma2``.
    image
        The row of ``weighted`` that each pose is for.
    rot_img_from_map, shift_box
        Poses, float64; shifts (x, y) as fractions of the box of the lattice.
    n_pixels
        How many of the pixels each pose is scored with, from the innermost outwards.
    """
    m = image.shape[0]
    if weighted.device.type == "cpu":
        score = torch.empty(m, dtype=torch.float64)
        gradient = torch.empty(m, 5, dtype=torch.float64)
        information = torch.empty(m, 5, 5, dtype=torch.float64)
        pairs = torch.view_as_real(weighted.resolve_conj())
        given = (kx_px, ky_px, n_pixels, pairs, weights, image, rot_img_from_map, shift_box)
        inputs: list[Any] = [array.contiguous().numpy() for array in given]
        outputs: list[Any] = [score.numpy(), gradient.numpy(), information.numpy()]
        derivatives_fast(torch.view_as_real(source.volume).numpy(), source.scale, *inputs, *outputs)
        return PoseScores(score, gradient, information)
    chunk = max(1, CHUNK_ELEMENTS // max(1, int(n_pixels.max())))
    poses = (image, rot_img_from_map, shift_box, n_pixels)
    parts = [
        pose_scores_plain(source, kx_px, ky_px, weighted, weights, *(a[start : start + chunk] for a in poses))
        for start in range(0, m, chunk)
    ]
    return PoseScores(
        torch.cat([p.log_likelihood for p in parts]),
        torch.cat([p.gradient for p in parts]),
        torch.cat([p.information for p in parts]),
    )


def pose_scores_plain(
    source: SliceSource,
    kx_px: Int[Tensor, " p"],
    ky_px: Int[Tensor, " p"],
    weighted: Complex[Tensor, "n p"],
    weights: Float[Tensor, "n p"],
    image: Int[Tensor, " m"],
    rot_img_from_map: Float[Tensor, "m 3 3"],
    shift_box: Float[Tensor, "m 2"],
    n_pixels: Int[Tensor, " m"],
) -> PoseScores:
    """The same as :func:`pose_scores` in plain torch, on any device and in the precision of ``weights``."""
    real = weights.dtype
    used = int(n_pixels.max())
    k = torch.stack([kx_px[:used], ky_px[:used]], dim=-1).to(real)
    points = torch.einsum("mij,pi->mpj", (rot_img_from_map[:, :2] * source.scale).to(real), k)
    value, slope = interpolate(source.volume, points)
    in_image = torch.einsum("mij,mpj->mpi", (rot_img_from_map * source.scale).to(slope.dtype), slope)
    d_rotation = torch.stack(
        [
            -in_image[..., 2] * k[:, 1],
            in_image[..., 2] * k[:, 0],
            in_image[..., 0] * k[:, 1] - in_image[..., 1] * k[:, 0],
        ],
        dim=-1,
    )
    d_shift = 2j * math.pi * value[..., None] * k
    jacobian = torch.cat([d_rotation, d_shift], dim=-1)  # m, p, 5
    angle = (-2 * math.pi * (shift_box @ k.double().T)).to(real)
    inside = torch.arange(used, device=k.device) < n_pixels[:, None]
    shifted = weighted[image, :used] * torch.polar(inside.to(real), angle)
    w = weights[image, :used] * inside
    total = (shifted.conj() * value).real - 0.5 * w * (value.abs() ** 2)
    rest = shifted - w * value
    gradient = torch.cat(
        [
            torch.einsum("mp,mpi->mi", rest.conj(), d_rotation).real,
            torch.einsum("mp,mpi->mi", shifted.conj(), d_shift).real,
        ],
        dim=-1,
    )
    stacked = torch.cat([jacobian.real, jacobian.imag], dim=1) * torch.cat([w, w], dim=1).sqrt()[..., None]
    information = stacked.transpose(1, 2) @ stacked
    return PoseScores(2 * total.double().sum(dim=1), 2 * gradient.double(), 2 * information.double())


def interpolate(
    volume: Complex[Tensor, "z y x"], points: Float[Tensor, "m p 3"]
) -> tuple[Complex[Tensor, "m p"], Complex[Tensor, "m p 3"]]:
    """Trilinear interpolation of a Friedel-symmetric half volume at (x, y, z), with its gradient."""
    centre = volume.shape[0] // 2
    mirrored = points[..., 0] < 0
    q = torch.where(mirrored[..., None], -points, points)
    low = torch.floor(q)
    dx, dy, dz = (q - low).unbind(-1)
    ix, iy, iz = low.long().unbind(-1)
    iy, iz = iy + centre, iz + centre
    corner = {(a, b, c): volume[iz + a, iy + b, ix + c] for a in (0, 1) for b in (0, 1) for c in (0, 1)}
    x_mean = {(a, b): torch.lerp(corner[a, b, 0], corner[a, b, 1], dx.to(volume.dtype)) for a in (0, 1) for b in (0, 1)}
    x_step = {(a, b): corner[a, b, 1] - corner[a, b, 0] for a in (0, 1) for b in (0, 1)}
    wy, wz = dy.to(volume.dtype), dz.to(volume.dtype)
    low_plane, high_plane = (torch.lerp(x_mean[a, 0], x_mean[a, 1], wy) for a in (0, 1))
    value = torch.lerp(low_plane, high_plane, wz)
    slope_x = torch.lerp(torch.lerp(x_step[0, 0], x_step[0, 1], wy), torch.lerp(x_step[1, 0], x_step[1, 1], wy), wz)
    slope_y = torch.lerp(x_mean[0, 1] - x_mean[0, 0], x_mean[1, 1] - x_mean[1, 0], wz)
    slope = torch.stack([slope_x, slope_y, high_plane - low_plane], dim=-1)
    value = torch.where(mirrored, value.conj(), value)
    return value, torch.where(mirrored[..., None], -slope.conj(), slope)
