"""Motion of the specimen during an exposure: fast then slow drift, and smooth local motion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np

from halfmap.typing import Array, FloatArray

LOCAL_TERMS: Final = ("1", "x", "xx", "y", "yy", "xy")
"""Products of the position in the local model, in RELION's order."""
_HALF_TAPS: Final = 8
_STEPS: Final = 2048
_STEPS_PER_FRAME: Final = 16
_EARLY_E_PER_A2: Final = 5.0
"""Exposure in which the fast first motion dies down to 1/e."""


@dataclass(frozen=True, eq=False)
class Motion:
    """Displacement of the specimen from where it is in the first frame, x and y in Å.

    ``global_A`` is ``[n_frames, 2]``, the mean over each frame; ``travel_A`` ``[n_frames, 2]`` is the way
    covered within each frame; ``local_A`` ``[2, 6]`` holds the coefficients of 1, x, x², y, y², xy, where
    x and y run from -0.5 to 0.5 over the frame, of the local displacement at the last frame. Its mean over
    the frame is zero: the global displacement is that of the frame as a whole.
    """

    global_A: FloatArray
    travel_A: FloatArray
    local_A: FloatArray

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.global_A)

    def local_progress(self, frame: int) -> float:
        """Share of the local motion that is done at a frame: a cubic in time, fast first, then slow."""
        return _progress(frame / max(self.n_frames - 1, 1))

    def last_local_A(self, x: FloatArray, y: FloatArray) -> FloatArray:
        """Local displacement ``[2, ...]`` at the last frame of what lies at positions from -0.5 to 0.5 of the frame."""
        last: FloatArray = np.tensordot(self.local_A, _terms(x, y), axes=1)
        return last

    def local_displacement_A(self, frame: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """Local displacement ``[2, ...]`` at a frame of what lies at positions from -0.5 to 0.5 of the frame."""
        return self.last_local_A(x, y) * self.local_progress(frame)

    def displacement_A(self, frame: int, x: FloatArray, y: FloatArray) -> FloatArray:
        """Whole displacement ``[2, ...]`` at a frame of what lies at positions from -0.5 to 0.5 of the frame."""
        local = self.local_displacement_A(frame, x, y)
        displacement: FloatArray = self.global_A[frame].reshape(2, *[1] * (local.ndim - 1)) + local
        return displacement

    def relion_coefficients_px(self, pixel_size_A: float) -> FloatArray:
        """The 36 coefficients of RELION's motion model, of the shifts in px that undo the local motion.

        For x and then y, for 1, x, x², y, y², xy: coefficients of z, z², z³, where z is the frame from 0
        (``ThirdOrderPolynomialModel``; Zivanov, Nakane & Scheres 2019, IUCrJ 6, 5).
        """
        last = max(self.n_frames - 1, 1)
        in_time = np.array([3.0 / last, -3.0 / last**2, 1.0 / last**3])
        in_space = self.local_A / pixel_size_A
        coefficients: FloatArray = -(in_space[:, :, None] * in_time).reshape(-1)
        return coefficients


def _progress(time: float) -> float:
    return 1.0 - (1.0 - time) ** 3


def _terms(x: FloatArray, y: FloatArray) -> FloatArray:
    return np.stack([np.ones_like(x), x, x * x, y, y * y, x * y])


def random_motion(
    n_frames: int,
    dose_per_frame_e_per_A2: float,
    *,
    drift_A: float,
    local_A: float,
    generator: np.random.Generator,
) -> Motion:
    """Draw a motion: most of the drift in the first few e/Å², some of it steady, and a little jitter.

    ``drift_A`` is the typical path over the movie, ``local_A`` the typical largest local displacement.
    """
    total = n_frames * dose_per_frame_e_per_A2
    time = np.linspace(0.0, 1.0, n_frames * _STEPS_PER_FRAME + 1)[:, None]
    early = (1.0 - np.exp(-time * total / _EARLY_E_PER_A2)) / (1.0 - np.exp(-total / _EARLY_E_PER_A2))
    angles = generator.uniform(0.0, 2.0 * np.pi, 2)
    lengths = drift_A * generator.uniform((0.5, 0.1), (0.9, 0.4))
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    bend = generator.uniform(-1.0, 1.0) * np.array([-directions[1, 1], directions[1, 0]])
    jitter = 0.02 * drift_A / np.sqrt(n_frames) * generator.standard_normal((n_frames + 1, 2)).cumsum(axis=0)
    path = lengths[0] * early * directions[0] + lengths[1] * time * directions[1]
    path += 0.3 * lengths[1] * time * (1.0 - time) * bend
    at_edges = np.linspace(0.0, 1.0, n_frames + 1)
    path += np.stack([np.interp(time[:, 0], at_edges, component) for component in jitter.T], axis=1)
    first = np.arange(_STEPS_PER_FRAME) + np.arange(n_frames)[:, None] * _STEPS_PER_FRAME
    mean = 0.5 * (path[first] + path[first + 1]).mean(axis=1)
    edges = path[::_STEPS_PER_FRAME]
    grid = np.meshgrid(np.linspace(-0.5, 0.5, 9), np.linspace(-0.5, 0.5, 9))
    coefficients = generator.standard_normal((2, 6)) * np.array([0.0, 1.0, 1.5, 1.0, 1.5, 1.0])
    coefficients[:, 0] = -(coefficients[:, 2] + coefficients[:, 4]) / 12.0
    field = np.einsum("ij,j...->i...", coefficients, _terms(*grid))
    largest = np.linalg.norm(field, axis=0).max()
    coefficients *= local_A * generator.uniform(0.6, 1.2) / largest
    return Motion(mean - mean[0], np.diff(edges, axis=0), coefficients)


def _sinc_table() -> FloatArray:
    """Kaiser-windowed sinc, ``[sub-pixel position, tap]``, each row summing to one."""
    fraction = np.arange(_STEPS + 1) / _STEPS
    offset = np.arange(1 - _HALF_TAPS, _HALF_TAPS + 1)[None] - fraction[:, None]
    window = np.i0(6.0 * np.sqrt(np.clip(1.0 - (offset / _HALF_TAPS) ** 2, 0.0, None)))
    table = np.sinc(offset) * window
    rows: FloatArray = (table / table.sum(axis=1, keepdims=True)).astype(np.float32)
    return rows


_TABLE: Final = _sinc_table()


@numba.njit(cache=True, fastmath=False)
def _warp(image: Array, dx: Array, dy: Array, table: Array, between: Array, out: Array) -> None:
    """Sample ``image`` at (x - dx, y - dy), rows first, then columns; edges repeat."""
    height, width = image.shape
    steps = table.shape[0] - 1
    taps = table.shape[1]
    before = taps // 2 - 1
    for y in range(height):
        for x in range(width):
            at = x - dx[y, x]
            first = int(np.floor(at))
            row = int((at - first) * steps + 0.5)
            first -= before
            total = np.float32(0.0)
            if first >= 0 and first + taps <= width:
                for tap in range(taps):
                    total += table[row, tap] * image[y, first + tap]
            else:
                for tap in range(taps):
                    total += table[row, tap] * image[y, min(max(first + tap, 0), width - 1)]
            between[y, x] = total
    for y in range(height):
        for x in range(width):
            at = y - dy[y, x]
            first = int(np.floor(at))
            row = int((at - first) * steps + 0.5)
            first -= before
            total = np.float32(0.0)
            if first >= 0 and first + taps <= height:
                for tap in range(taps):
                    total += table[row, tap] * between[first + tap, x]
            else:
                for tap in range(taps):
                    total += table[row, tap] * between[min(max(first + tap, 0), height - 1), x]
            out[y, x] = total


def warp(image: FloatArray, dx_px: FloatArray, dy_px: FloatArray) -> FloatArray:
    """Move the content of an image by a smooth displacement field, all ``[y, x]`` float32.

    ``out(x, y) = image(x − dx, y − dy)``, interpolated by a windowed sinc of 16 taps. Two passes of one
    dimension each: right to the product of the displacement and its gradient.
    """
    out = np.empty_like(image)
    _warp(image, dx_px, dy_px, _TABLE, np.empty_like(image), out)
    return out
