"""Likelihood of a pose with its derivatives, the fast twin (numba) of ``local.pose_scores_plain``.

One pass over the Fourier pixels of an image gathers the slice and its gradient from the same eight
voxels and accumulates the score, its five derivatives and the Fisher information; nothing is stored.
Images are independent of each other, so that results do not depend on how they are shared out.
Complex numbers are handled as pairs: numba would turn real factors into complex ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from halfmap.typing import Array

_COMPILE: dict[str, Any] = {"cache": True, "nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
TWO_PI = 2 * math.pi


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _fill_phases(shift_box: float, reach: int, table: Array) -> None:
    """``exp(-2 pi i k shift)`` for k = -reach .. reach, as pairs."""
    for k in range(-reach, reach + 1):
        angle = -TWO_PI * k * shift_box
        table[k + reach, 0] = math.cos(angle)
        table[k + reach, 1] = math.sin(angle)


@njit(inline="always", **_COMPILE)  # type: ignore[untyped-decorator]
def _lerp(a: float, b: float, t: float) -> float:
    return a + t * (b - a)


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _value_and_slope(volume: Array, part: int, iz: int, iy: int, ix: int, dx: float, dy: float, dz: float) -> Any:
    """Trilinear value and its slope along x, y and z, of the real (0) or imaginary (1) part."""
    v000, v001 = volume[iz, iy, ix, part], volume[iz, iy, ix + 1, part]
    v010, v011 = volume[iz, iy + 1, ix, part], volume[iz, iy + 1, ix + 1, part]
    v100, v101 = volume[iz + 1, iy, ix, part], volume[iz + 1, iy, ix + 1, part]
    v110, v111 = volume[iz + 1, iy + 1, ix, part], volume[iz + 1, iy + 1, ix + 1, part]
    low0, low1 = _lerp(v000, v001, dx), _lerp(v010, v011, dx)
    high0, high1 = _lerp(v100, v101, dx), _lerp(v110, v111, dx)
    low, high = _lerp(low0, low1, dy), _lerp(high0, high1, dy)
    slope_x = _lerp(_lerp(v001 - v000, v011 - v010, dy), _lerp(v101 - v100, v111 - v110, dy), dz)
    return _lerp(low, high, dz), slope_x, _lerp(low1 - low0, high1 - high0, dz), high - low


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _slice_and_turns(volume: Array, a: Array, fx: float, fy: float) -> Any:
    """Slice at one pixel and its derivatives by turns of the image about x, y and z: eight numbers."""
    x = a[0, 0] * fx + a[1, 0] * fy
    y = a[0, 1] * fx + a[1, 1] * fy
    z = a[0, 2] * fx + a[1, 2] * fy
    # P(-q) = conj P(q): the value is conjugated there, and the slope is minus the conjugate.
    sign = np.float32(1.0)
    if x < 0:
        sign, x, y, z = np.float32(-1.0), -x, -y, -z
    floor_y, floor_z = math.floor(y), math.floor(z)
    ix, iy, iz = np.int64(x), np.int64(floor_y), np.int64(floor_z)
    dx, dy, dz = x - np.float32(ix), y - np.float32(iy), z - np.float32(iz)
    iy, iz = iy + volume.shape[0] // 2, iz + volume.shape[0] // 2
    re, xr, yr, zr = _value_and_slope(volume, 0, iz, iy, ix, dx, dy, dz)
    im, xi, yi, zi = _value_and_slope(volume, 1, iz, iy, ix, dx, dy, dz)
    # The slope in the frame of the image.
    ur, ui = sign * (a[0, 0] * xr + a[0, 1] * yr + a[0, 2] * zr), a[0, 0] * xi + a[0, 1] * yi + a[0, 2] * zi
    vr, vi = sign * (a[1, 0] * xr + a[1, 1] * yr + a[1, 2] * zr), a[1, 0] * xi + a[1, 1] * yi + a[1, 2] * zi
    sr, si = sign * (a[2, 0] * xr + a[2, 1] * yr + a[2, 2] * zr), a[2, 0] * xi + a[2, 1] * yi + a[2, 2] * zi
    return re, sign * im, -sr * fy, -si * fy, sr * fx, si * fx, ur * fy - vr * fx, ui * fy - vi * fx


@njit(**_COMPILE)  # type: ignore[untyped-decorator]
def _accumulate(
    volume: Array, a: Array, kx: Array, ky: Array, n: int, data: Array, weights: Array, phase_x: Array, phase_y: Array
) -> Any:
    """Score, five derivatives and upper triangle of the information of one pose over ``n`` pixels: 21 numbers."""
    reach = (phase_x.shape[0] - 1) // 2
    total = g0 = g1 = g2 = g3 = g4 = 0.0
    h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = h22 = h23 = h24 = h33 = h34 = h44 = 0.0
    for p in range(n):
        fx, fy = np.float32(kx[p]), np.float32(ky[p])
        re, im, d0r, d0i, d1r, d1i, d2r, d2i = _slice_and_turns(volume, a, fx, fy)
        cx, sx = phase_x[kx[p] + reach, 0], phase_x[kx[p] + reach, 1]
        cy, sy = phase_y[ky[p] + reach, 0], phase_y[ky[p] + reach, 1]
        cosine, sine = cx * cy - sx * sy, cx * sy + sx * cy
        w = weights[p]
        dr = data[p, 0] * cosine - data[p, 1] * sine
        di = data[p, 0] * sine + data[p, 1] * cosine
        rr, ri = dr - w * re, di - w * im
        power = w * (re * re + im * im)
        total += dr * re + di * im - np.float32(0.5) * power
        g0 += rr * d0r + ri * d0i
        g1 += rr * d1r + ri * d1i
        g2 += rr * d2r + ri * d2i
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
    return (
        total, g0, g1, g2, g3, g4, h00, h01, h02, h03, h04, h11, h12, h13, h14, h22, h23, h24, h33, h34, h44,
    )  # fmt: skip


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
    reach = 0
    for p in range(kx.size):
        reach = max(reach, abs(kx[p]), abs(ky[p]))
    phase_x = np.empty((2 * reach + 1, 2), np.float32)
    phase_y = np.empty((2 * reach + 1, 2), np.float32)
    unit = np.array([1.0, 1.0, 1.0, TWO_PI, TWO_PI])
    for j in range(image.size):
        _fill_phases(shift_box[j, 0], reach, phase_x)
        _fill_phases(shift_box[j, 1], reach, phase_y)
        a = (rot_img_from_map[j] * scale).astype(np.float32)
        row = image[j]
        sums = np.array(_accumulate(volume, a, kx, ky, n_pixels[j], weighted[row], weights[row], phase_x, phase_y))
        score[j] = 2 * sums[0]
        entry = 6
        for i in range(5):
            gradient[j, i] = 2 * unit[i] * sums[1 + i]
            for k in range(i, 5):
                information[j, i, k] = 2 * unit[i] * unit[k] * sums[entry]
                information[j, k, i] = information[j, i, k]
                entry += 1
