import numpy as np
import pytest
import torch

from halfmap.motion.align import align_frames
from halfmap.motion.band import Band, band_indices
from halfmap.motion.local import (
    NOT_FORETOLD,
    TOO_FEW_FRAMES,
    TOO_FEW_PATCHES,
    TOO_MUCH_DRIFT,
    find_local_motion,
)
from halfmap.motion.patches import patch_grid
from halfmap.motion.surface import LocalModel
from halfmap.simulate.motion import warp

pytestmark = pytest.mark.truth


def moving(make_movie, *, local_px, shape=(640, 720), n=10, seed=0, contrast=0.3):
    """A movie whose specimen bends: counts, and the local model that undoes it."""
    rng = np.random.default_rng(seed)
    surface = rng.normal(size=(2, 6)) * [0, 1, 1.5, 1, 1.5, 1]
    surface[:, 0] = -(surface[:, 2] + surface[:, 4]) / 12
    surface *= local_px / np.abs(surface).sum()
    x, y = np.meshgrid(np.arange(shape[1]) / shape[1] - 0.5, np.arange(shape[0]) / shape[0] - 0.5)
    field = np.tensordot(surface, np.stack([np.ones_like(x), x, x * x, y, y * y, x * y]), axes=1).astype(np.float32)
    rate = make_movie(n=1, shape=shape, dose=400.0, contrast=contrast, path="still", seed=seed).counts[0] / 400.0
    last, counts = n - 1, []
    for frame in range(n):
        progress = np.float32(1 - (1 - frame / last) ** 3)
        moved = warp(rate.astype(np.float32), progress * field[0], progress * field[1])
        counts.append(rng.poisson(np.clip(moved, 0, None)).astype(np.uint8))
    in_time = np.array([3 / last, -3 / last**2, 1 / last**3])
    return np.array(counts), LocalModel(-surface[:, :, None] * in_time)


def band_of(counts, limit=0.25):
    shape = counts.shape[1:]
    rows, columns = band_indices(shape, limit)
    ft = torch.fft.rfft2(torch.from_numpy(counts.astype(np.float32)))[:, rows, :columns]
    return Band(ft.contiguous(), torch.fft.fftfreq(shape[0])[rows], torch.fft.rfftfreq(shape[1])[:columns])


def found(counts, **changes):
    band, shape, n = band_of(counts), counts.shape[1:], len(counts)
    alignment = align_frames(band, shape=shape, max_shift_px=40.0)
    settings = {
        "frames": np.arange(n), "n_frames": n, "shape": shape, "pixel_size_A": 2.0,
        "max_frequency": alignment.max_frequency,
    }  # fmt: skip
    return alignment, find_local_motion(band, alignment.shifts_px, **(settings | changes))


def field_error_px(alignment, local, truth, n):
    """Root mean square distance of all places from the truth, apart from a constant of each place."""
    edge = np.linspace(-0.45, 0.45, 7)
    places = np.stack(np.meshgrid(edge, edge), -1).reshape(-1, 2)
    error = alignment.shifts_px[None] - truth.shifts_px(np.arange(n), places)
    if local.model is not None:
        error = error + local.model.shifts_px(np.arange(n), places)
    error -= error.mean(axis=1, keepdims=True)
    return float(np.sqrt((error**2).sum(-1).mean()))


@pytest.mark.parametrize("seed", [0, 1])
def test_local_motion_is_found_to_a_fraction_of_a_pixel(make_movie, seed):
    counts, truth = moving(make_movie, local_px=6.0, seed=seed)
    alignment, local = found(counts)
    assert local.model is not None
    globally = field_error_px(alignment, type(local)(None), truth, len(counts))
    assert field_error_px(alignment, local, truth, len(counts)) < min(0.25 * globally, 0.15)
    assert local.sharpness > 1.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_where_nothing_moves_locally_the_global_shifts_are_left_alone(make_movie, seed):
    counts, truth = moving(make_movie, local_px=0.0, seed=seed)
    alignment, local = found(counts)
    globally = field_error_px(alignment, type(local)(None), truth, len(counts))
    assert field_error_px(alignment, local, truth, len(counts)) < globally + 0.02
    if local.model is None:
        assert local.reason == NOT_FORETOLD


def test_tracks_of_patches_follow_the_truth(make_movie):
    counts, truth = moving(make_movie, local_px=6.0)
    _, local = found(counts)
    expected = truth.shifts_px(np.arange(len(counts)), local.centres)
    last = local.tracks_px[:, -1] - expected[:, -1]
    assert np.sqrt((last**2).sum(-1).mean()) < 0.5 * np.sqrt((expected[:, -1] ** 2).sum(-1).mean())


def test_too_little_of_anything_is_told(make_movie):
    counts, _ = moving(make_movie, local_px=0.0, n=4, shape=(256, 256))
    assert found(counts[:2])[1].reason == TOO_FEW_FRAMES
    assert found(counts, pixel_size_A=1.0)[1].reason == TOO_FEW_PATCHES
    band = band_of(counts)
    drift = np.array([[0.0, 0], [50, 0], [100, 0], [140, 0]])
    local = find_local_motion(
        band, drift, frames=np.arange(4), n_frames=4, shape=(256, 256), pixel_size_A=4.0, max_frequency=0.2
    )
    assert local.reason == TOO_MUCH_DRIFT


@pytest.mark.parametrize(
    ("shape", "pixel_size_A", "expected"),
    [((4096, 4096), 1.0, (7, 7)), ((4092, 5760), 0.8, (5, 7)), ((1024, 1024), 1.2, (4, 4)), ((256, 256), 1.0, (1, 1))],
)
def test_the_grid_follows_the_size_of_the_frame(shape, pixel_size_A, expected):
    assert patch_grid(shape, pixel_size_A, 0.1) == expected
    assert patch_grid(shape, pixel_size_A, 0.1, 3)[1] == 3
