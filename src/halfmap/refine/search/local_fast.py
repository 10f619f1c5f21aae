"""Likelihood of a pose with its derivatives, the fast twin (numba) of ``local.pose_scores_plain``.

Fourier pixels are taken in blocks, and each block in passes: where its pixels lie in the volume, what is there (value
and slope, from the same eight voxels), and what that adds to the score, its five derivatives and the Fisher
information. A volume is larger than a cache, so that most of the time would go into waiting for voxels; a pass
that does nothing but fetch one number of each row of them waits for many at once, and the other passes work on
vectors. Sums of a block are in single precision, sums of blocks in double. Images are independent of each other, so
that results do not depend on how they are shared out. Complex numbers are handled as pairs: numba would turn real
factors into complex ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from halfmap.typing import Array

# Sums may be taken in any order, the same in each run; NaNs stay what they are.
_COMPILE: dict[str, Any] = {
    "cache": True, "nogil": True, "fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy",
}  # fmt: skip
TWO_PI = 2 * math.pi
BLOCK = 256
"""Pixels of a block."""


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _fill_phases(shift_box: float, reach: int, table: Array) -> None:
    """Cosines and sines of ``-2 pi k shift`` for k = -reach .. reach."""
    for k in range(-reach, reach + 1):
        angle = -TWO_PI * k * shift_box
        table[0, k + reach] = math.cos(angle)
        table[1, k + reach] = math.sin(angle)


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _locate(a: Array, kx: Array, ky: Array, edge: int, half: int, at: Array, fraction: Array, sign: Array) -> None:
    """First of the eight voxels around each pixel, the place between them, and -1 where the mate is taken."""
    centre = edge // 2
    for q in range(kx.size):
        fx, fy = np.float32(kx[q]), np.float32(ky[q])
        x = a[0, 0] * fx + a[1, 0] * fy
        y = a[0, 1] * fx + a[1, 1] * fy
        z = a[0, 2] * fx + a[1, 2] * fy
        # P(-q) = conj P(q).
        s = np.float32(1.0) if x >= 0 else np.float32(-1.0)
        x, y, z = x * s, y * s, z * s
        low_x, low_y, low_z = np.floor(x), np.floor(y), np.floor(z)
        at[q] = ((np.int64(low_z) + centre) * edge + np.int64(low_y) + centre) * half + np.int64(low_x)
        fraction[0, q], fraction[1, q], fraction[2, q], sign[q] = x - low_x, y - low_y, z - low_z, s


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _fetch(flat: Array, row: int, plane: int, at: Array, rows: Array) -> None:
    """One number of each of the four rows of voxels around a pixel, ``rows [4, q]``; the others come with it."""
    for q in range(at.size):
        i = 2 * at[q]
        rows[0, q], rows[1, q] = flat[i], flat[i + row]
        rows[2, q], rows[3, q] = flat[i + plane], flat[i + plane + row]


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _interpolate(flat: Array, row: int, plane: int, at: Array, rows: Array, fraction: Array, found: Array) -> None:
    """Trilinear values and slopes along x, y and z: ``found [8, q]``, real and imaginary part in turn."""
    for q in range(at.size):
        dx, dy, dz = fraction[0, q], fraction[1, q], fraction[2, q]
        for part in range(2):
            i = 2 * at[q] + part
            if part == 0:
                v000, v010, v100, v110 = rows[0, q], rows[1, q], rows[2, q], rows[3, q]
            else:
                v000, v010, v100, v110 = flat[i], flat[i + row], flat[i + plane], flat[i + plane + row]
            j = i + 2
            s00, s01 = flat[j] - v000, flat[j + row] - v010
            s10, s11 = flat[j + plane] - v100, flat[j + plane + row] - v110
            low0, low1 = v000 + dx * s00, v010 + dx * s01
            high0, high1 = v100 + dx * s10, v110 + dx * s11
            low, high = low0 + dy * (low1 - low0), high0 + dy * (high1 - high0)
            slope_low, slope_high = s00 + dy * (s01 - s00), s10 + dy * (s11 - s10)
            found[part, q] = low + dz * (high - low)
            found[2 + part, q] = slope_low + dz * (slope_high - slope_low)
            found[4 + part, q] = (low1 - low0) + dz * ((high1 - high0) - (low1 - low0))
            found[6 + part, q] = high - low


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _turn(a: Array, kx: Array, ky: Array, sign: Array, found: Array) -> None:
    """In place, from the mate to the pixel, and from slopes to derivatives by turns of the image about x, y and z."""
    for q in range(kx.size):
        s, fx, fy = sign[q], np.float32(kx[q]), np.float32(ky[q])
        xr, xi, yr, yi, zr, zi = found[2, q], found[3, q], found[4, q], found[5, q], found[6, q], found[7, q]
        # The slope in the frame of the image; that of a mate is minus the conjugate.
        ur, ui = s * (a[0, 0] * xr + a[0, 1] * yr + a[0, 2] * zr), a[0, 0] * xi + a[0, 1] * yi + a[0, 2] * zi
        vr, vi = s * (a[1, 0] * xr + a[1, 1] * yr + a[1, 2] * zr), a[1, 0] * xi + a[1, 1] * yi + a[1, 2] * zi
        wr, wi = s * (a[2, 0] * xr + a[2, 1] * yr + a[2, 2] * zr), a[2, 0] * xi + a[2, 1] * yi + a[2, 2] * zi
        found[1, q] = s * found[1, q]
        found[2, q], found[3, q] = -wr * fy, -wi * fy
        found[4, q], found[5, q] = wr * fx, wi * fx
        found[6, q], found[7, q] = ur * fy - vr * fx, ui * fy - vi * fx


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _add(
    kx: Array, ky: Array, data: Array, weights: Array, phase_x: Array, phase_y: Array, found: Array, sums: Array
) -> None:
    """Add a block to score, five derivatives and upper triangle of the information: 21 numbers."""
    reach = (phase_x.shape[1] - 1) // 2
    zero = np.float32(0.0)
    total = 0.0  # The score is a small difference.
    g0 = g1 = g2 = g3 = g4 = zero
    h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = h22 = h23 = h24 = h33 = h34 = h44 = zero
    for q in range(kx.size):
        fx, fy, w = np.float32(kx[q]), np.float32(ky[q]), weights[q]
        re, im, d0r, d0i = found[0, q], found[1, q], found[2, q], found[3, q]
        d1r, d1i, d2r, d2i = found[4, q], found[5, q], found[6, q], found[7, q]
        cx, sx = phase_x[0, kx[q] + reach], phase_x[1, kx[q] + reach]
        cy, sy = phase_y[0, ky[q] + reach], phase_y[1, ky[q] + reach]
        cosine, sine = cx * cy - sx * sy, cx * sy + sx * cy
        dr = data[q, 0] * cosine - data[q, 1] * sine
        di = data[q, 0] * sine + data[q, 1] * cosine
        rr, ri = dr - w * re, di - w * im
        power = w * (re * re + im * im)
        total += dr * re + di * im - np.float32(0.5) * power
        g0, g1, g2 = g0 + rr * d0r + ri * d0i, g1 + rr * d1r + ri * d1i, g2 + rr * d2r + ri * d2i
        # By the shift: 2 pi i k P. The factor 2 pi comes at the end.
        turned = di * re - dr * im
        g3, g4 = g3 + fx * turned, g4 + fy * turned
        e0r, e0i, e1r, e1i, e2r, e2i = w * d0r, w * d0i, w * d1r, w * d1i, w * d2r, w * d2i
        h00, h01, h02 = h00 + e0r * d0r + e0i * d0i, h01 + e0r * d1r + e0i * d1i, h02 + e0r * d2r + e0i * d2i
        h11, h12, h22 = h11 + e1r * d1r + e1i * d1i, h12 + e1r * d2r + e1i * d2i, h22 + e2r * d2r + e2i * d2i
        t0, t1, t2 = e0i * re - e0r * im, e1i * re - e1r * im, e2i * re - e2r * im
        h03, h04, h13 = h03 + t0 * fx, h04 + t0 * fy, h13 + t1 * fx
        h14, h23, h24 = h14 + t1 * fy, h23 + t2 * fx, h24 + t2 * fy
        h33, h34, h44 = h33 + power * fx * fx, h34 + power * fx * fy, h44 + power * fy * fy
    slopes, curvatures = (
        (g0, g1, g2, g3, g4),
        (h00, h01, h02, h03, h04, h11, h12, h13, h14, h22, h23, h24, h33, h34, h44),
    )
    sums[0] += total
    for i in range(5):
        sums[1 + i] += slopes[i]
    for i in range(15):
        sums[6 + i] += curvatures[i]


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _write(sums: Array, unit: Array, gradient: Array, information: Array) -> float:
    """Sums over half of the plane as score (returned), gradient and information of the whole plane."""
    entry = 6
    for i in range(5):
        gradient[i] = 2 * unit[i] * sums[1 + i]
        for k in range(i, 5):
            information[i, k] = 2 * unit[i] * unit[k] * sums[entry]
            information[k, i] = information[i, k]
            entry += 1
    return 2 * float(sums[0])


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def derivatives(
    volume: Array, scale: float, kx: Array, ky: Array, n_pixels: Array, weighted: Array, weights: Array,
    image: Array, rot_img_from_map: Array, shift_box: Array, score: Array, gradient: Array, information: Array,
) -> None:  # fmt: skip
    """Fill ``score [m]``, ``gradient [m, 5]`` and ``information [m, 5, 5]`` for ``m`` poses.

    ``volume [z, y, x, 2]`` float32 holds frequencies ``z - c``, ``y - c``, ``x`` with ``c = shape[0] // 2``,
    in units of ``1 / scale`` pixels of the list ``kx, ky``. Pose ``j`` belongs to row ``image[j]`` of
    ``weighted [n, p, 2]`` and ``weights [n, p]`` and uses the first ``n_pixels[j]`` pixels. Shifts are
    fractions of the box.
    """
    flat, edge, half = volume.reshape(-1), volume.shape[0], volume.shape[2]
    row, plane = 2 * half, 2 * half * edge
    reach = 0
    for p in range(kx.size):
        reach = max(reach, abs(kx[p]), abs(ky[p]))
    phase_x, phase_y = np.empty((2, 2 * reach + 1), np.float32), np.empty((2, 2 * reach + 1), np.float32)
    at, sign = np.empty(BLOCK, np.int64), np.empty(BLOCK, np.float32)
    rows, fraction = np.empty((4, BLOCK), np.float32), np.empty((3, BLOCK), np.float32)
    found = np.empty((8, BLOCK), np.float32)
    unit, sums = np.array([1.0, 1.0, 1.0, TWO_PI, TWO_PI]), np.empty(21)
    for j in range(image.size):
        _fill_phases(shift_box[j, 0], reach, phase_x)
        _fill_phases(shift_box[j, 1], reach, phase_y)
        a = (rot_img_from_map[j] * scale).astype(np.float32)
        data, weight = weighted[image[j]], weights[image[j]]
        sums[:] = 0.0
        for begin in range(0, n_pixels[j], BLOCK):
            end = min(begin + BLOCK, n_pixels[j])
            n, x, y = end - begin, kx[begin:end], ky[begin:end]
            _locate(a, x, y, edge, half, at[:n], fraction[:, :n], sign[:n])
            _fetch(flat, row, plane, at[:n], rows[:, :n])
            _interpolate(flat, row, plane, at[:n], rows[:, :n], fraction[:, :n], found[:, :n])
            _turn(a, x, y, sign[:n], found[:, :n])
            _add(x, y, data[begin:end], weight[begin:end], phase_x, phase_y, found[:, :n], sums)
        score[j] = _write(sums, unit, gradient[j], information[j])
