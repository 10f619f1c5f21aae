"""Likelihood of a pose with its derivatives, the fast twin (numba) of ``local.derivatives``.

One pass over the Fourier pixels of an image gathers the slice and its gradient from the same eight
voxels and accumulates the score, its five derivatives and the Fisher information; nothing is stored.
Images are independent of each other, so that results do not depend on how they are shared out.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from halfmap.typing import Array


@njit(cache=True, nogil=True, fastmath=False)
def derivatives(
    volume: Array,
    scale: float,
    kx: Array,
    ky: Array,
    n_pixels: Array,
    weighted: Array,
    weights: Array,
    image: Array,
    rot_img_from_map: Array,
    shift_box: Array,
    score: Array,
    gradient: Array,
    information: Array,
) -> None:
    """Fill ``score [m]``, ``gradient [m, 5]`` and ``information [m, 5, 5]`` for ``m`` poses.

    ``volume [z, y, x]`` complex64 holds frequencies ``z - c``, ``y - c``, ``x`` with
    ``c = shape[0] // 2``, in units of ``1 / scale`` pixels of the list ``kx, ky``.
    Pose ``j`` belongs to row ``image[j]`` of ``weighted`` and ``weights`` and uses the first
    ``n_pixels[j]`` pixels. Shifts are fractions of the box.
    """
    centre = volume.shape[0] // 2
    reach = 0
    for p in range(kx.size):
        reach = max(reach, abs(kx[p]), abs(ky[p]))
    phase_x = np.empty(2 * reach + 1, np.complex64)
    phase_y = np.empty(2 * reach + 1, np.complex64)
    two_pi = 2 * math.pi
    for j in range(image.size):
        for k in range(-reach, reach + 1):
            ax = -two_pi * k * shift_box[j, 0]
            ay = -two_pi * k * shift_box[j, 1]
            phase_x[k + reach] = complex(math.cos(ax), math.sin(ax))
            phase_y[k + reach] = complex(math.cos(ay), math.sin(ay))
        a = rot_img_from_map[j]
        xx = np.float32(a[0, 0] * scale)
        xy = np.float32(a[0, 1] * scale)
        xz = np.float32(a[0, 2] * scale)
        yx = np.float32(a[1, 0] * scale)
        yy = np.float32(a[1, 1] * scale)
        yz = np.float32(a[1, 2] * scale)
        zx = np.float32(a[2, 0] * scale)
        zy = np.float32(a[2, 1] * scale)
        zz = np.float32(a[2, 2] * scale)
        total = 0.0
        g0 = g1 = g2 = g3 = g4 = 0.0
        h00 = h01 = h02 = h03 = h04 = h11 = h12 = h13 = h14 = h22 = h23 = h24 = h33 = h34 = h44 = 0.0
        row = image[j]
        for p in range(n_pixels[j]):
            fx = np.float32(kx[p])
            fy = np.float32(ky[p])
            x = xx * fx + yx * fy
            y = xy * fx + yy * fy
            z = xz * fx + yz * fy
            mirrored = x < 0
            if mirrored:
                x = -x
                y = -y
                z = -z
            ix = int(x)
            iy = math.floor(y)
            iz = math.floor(z)
            dx = x - np.float32(ix)
            dy = y - np.float32(iy)
            dz = z - np.float32(iz)
            iy += centre
            iz += centre
            v000 = volume[iz, iy, ix]
            v001 = volume[iz, iy, ix + 1] - v000
            v010 = volume[iz, iy + 1, ix]
            v011 = volume[iz, iy + 1, ix + 1] - v010
            v100 = volume[iz + 1, iy, ix]
            v101 = volume[iz + 1, iy, ix + 1] - v100
            v110 = volume[iz + 1, iy + 1, ix]
            v111 = volume[iz + 1, iy + 1, ix + 1] - v110
            low0 = v000 + dx * v001
            low1 = v010 + dx * v011
            high0 = v100 + dx * v101
            high1 = v110 + dx * v111
            slope_low = low1 - low0
            slope_high = high1 - high0
            low = low0 + dy * slope_low
            high = high0 + dy * slope_high
            dvz = high - low
            value = low + dz * dvz
            dvy = slope_low + dz * (slope_high - slope_low)
            gx_low = v001 + dy * (v011 - v001)
            gx_high = v101 + dy * (v111 - v101)
            dvx = gx_low + dz * (gx_high - gx_low)
            if mirrored:
                # P(-q) = conj P(q), so the gradient there is minus the conjugate.
                value = value.conjugate()
                dvx = -dvx.conjugate()
                dvy = -dvy.conjugate()
                dvz = -dvz.conjugate()
            in_x = xx * dvx + xy * dvy + xz * dvz
            in_y = yx * dvx + yy * dvy + yz * dvz
            in_z = zx * dvx + zy * dvy + zz * dvz
            d0 = -in_z * fy
            d1 = in_z * fx
            d2 = in_x * fy - in_y * fx
            shifted = weighted[row, p] * phase_x[kx[p] + reach] * phase_y[ky[p] + reach]
            w = weights[row, p]
            total += shifted.real * value.real + shifted.imag * value.imag
            power = w * (value.real * value.real + value.imag * value.imag)
            total -= 0.5 * power
            rest_re = shifted.real - w * value.real
            rest_im = shifted.imag - w * value.imag
            g0 += rest_re * d0.real + rest_im * d0.imag
            g1 += rest_re * d1.real + rest_im * d1.imag
            g2 += rest_re * d2.real + rest_im * d2.imag
            # d/dshift of P exp(2 pi i k shift) is 2 pi i k P exp(...); the factor 2 pi comes at the end.
            turned = shifted.imag * value.real - shifted.real * value.imag
            g3 += fx * turned
            g4 += fy * turned
            h00 += w * (d0.real * d0.real + d0.imag * d0.imag)
            h01 += w * (d0.real * d1.real + d0.imag * d1.imag)
            h02 += w * (d0.real * d2.real + d0.imag * d2.imag)
            h11 += w * (d1.real * d1.real + d1.imag * d1.imag)
            h12 += w * (d1.real * d2.real + d1.imag * d2.imag)
            h22 += w * (d2.real * d2.real + d2.imag * d2.imag)
            t0 = w * (d0.imag * value.real - d0.real * value.imag)
            t1 = w * (d1.imag * value.real - d1.real * value.imag)
            t2 = w * (d2.imag * value.real - d2.real * value.imag)
            h03 += t0 * fx
            h04 += t0 * fy
            h13 += t1 * fx
            h14 += t1 * fy
            h23 += t2 * fx
            h24 += t2 * fy
            h33 += power * fx * fx
            h34 += power * fx * fy
            h44 += power * fy * fy
        score[j] = 2 * total
        g = gradient[j]
        g[0], g[1], g[2], g[3], g[4] = 2 * g0, 2 * g1, 2 * g2, 2 * two_pi * g3, 2 * two_pi * g4
        h = information[j]
        h[0, 0], h[0, 1], h[0, 2], h[0, 3], h[0, 4] = h00, h01, h02, two_pi * h03, two_pi * h04
        h[1, 1], h[1, 2], h[1, 3], h[1, 4] = h11, h12, two_pi * h13, two_pi * h14
        h[2, 2], h[2, 3], h[2, 4] = h22, two_pi * h23, two_pi * h24
        h[3, 3], h[3, 4], h[4, 4] = two_pi * two_pi * h33, two_pi * two_pi * h34, two_pi * two_pi * h44
        for i in range(5):
            for k in range(i, 5):
                h[i, k] *= 2
                h[k, i] = h[i, k]
