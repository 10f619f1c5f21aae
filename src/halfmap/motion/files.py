"""One movie from file to files: micrograph, power spectrum and the STAR file of its motion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from halfmap.fourier.threads import single_threaded_torch
from halfmap.io.gain import read_gain
from halfmap.io.movies import open_movie
from halfmap.io.mrc import write_image
from halfmap.io.star import StarBlock, write_star
from halfmap.motion.correct import MotionResult, MovieSettings, correct_movie
from halfmap.motion.frames import Frames, read_frames


@dataclass(frozen=True)
class MovieFiles:
    """One movie, and the stem of what is made of it."""

    movie: Path
    gain: Path | None
    stem: Path
    """Path of the outputs without their endings."""
    settings: MovieSettings
    dose_total_e_per_A2: float | None = None
    """Exposure of the whole movie, for grouping the camera frames of EER files."""


def process_movie(files: MovieFiles, *, device: str, float16: bool) -> dict[str, Any]:
    """Correct one movie and write its outputs.

    Written are ``<stem>.mrc``, ``<stem>_ps.mrc``, ``<stem>.star``, and if wanted ``<stem>_noDW.mrc``,
    ``<stem>_odd.mrc`` and ``<stem>_even.mrc``.

    Returns
    -------
    dict
        JSON-able figures of the movie, under names of ``data.columns`` where there are any.
    """
    movie = open_movie(
        files.movie,
        dose_per_frame=files.settings.dose_per_frame_e_per_A2,
        dose_total=files.dose_total_e_per_A2,
        pixel_size_A=files.settings.pixel_size_A,
    )
    settings = replace(
        files.settings,
        dose_per_frame_e_per_A2=movie.dose_per_frame_e_per_A2 or files.settings.dose_per_frame_e_per_A2,
    )
    gain = None if files.gain is None else read_gain(files.gain, movie)
    frames = read_frames(movie, gain, movie_file=files.movie, gain_file=files.gain or "gain")
    with single_threaded_torch():
        result = correct_movie(frames, settings, movie_file=files.movie, device=device)
    dtype = np.float16 if float16 else np.float32
    names = {"micrograph_name": f"{files.stem}.mrc", "micrograph_metadata": f"{files.stem}.star"}
    write_image(names["micrograph_name"], result.weighted, result.pixel_size_A, dtype=dtype)
    if result.unweighted is not None:
        names["micrograph_unweighted_name"] = f"{files.stem}_noDW.mrc"
        write_image(names["micrograph_unweighted_name"], result.unweighted, result.pixel_size_A, dtype=dtype)
    for which, half in zip(("odd", "even"), result.halves, strict=False):
        names[f"micrograph_{which}_name"] = f"{files.stem}_{which}.mrc"
        write_image(names[f"micrograph_{which}_name"], half, result.pixel_size_A, dtype=dtype)
    names["power_spectrum_name"] = f"{files.stem}_ps.mrc"
    write_image(names["power_spectrum_name"], result.power_spectrum, result.power_spectrum_pixel_size_A)
    write_motion_star(Path(names["micrograph_metadata"]), files, settings, frames, result)
    return {
        **names,
        "motion_total_A": result.motion_total_A,
        "motion_early_A": result.motion_early_A,
        "motion_late_A": result.motion_late_A,
        "micrograph_pixel_size_A": result.pixel_size_A,
        "frames": len(frames.reasons),
        "left_out": {str(i + 1): reason for i, reason in enumerate(frames.reasons) if reason},
        "hot_pixels": frames.n_hot,
        "dead_pixels": frames.n_dead,
        "gain_defects": frames.n_gain_defects,
        "shift_error_px": _finite(float(np.median(result.alignment.error_px))),
        "converged": result.alignment.converged,
        "aligned": result.alignment.signal,
        "frames_grouped": result.alignment.group,
        "motion_fastest_A": float(np.hypot(*np.diff(result.shifts_A, axis=0).T).max(initial=0.0)),
        "motion_local_A": result.motion_local_A,
        "local_reason": result.local.reason,
        "local_order": [result.local.space_order, result.local.time_order],
        "patches": list(result.local.grid),
        "sharpness_global": _finite(result.alignment.sharpness),
        "sharpness_local": _finite(result.local.sharpness),
        "message": movie.message,
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def write_motion_star(
    path: Path, files: MovieFiles, settings: MovieSettings, frames: Frames, result: MotionResult
) -> None:
    """Write a motion in the form that RELION's polishing reads.

    ``rlnMicrographShiftX/Y`` are the shifts applied to the frames, in pixels of the movie as
    recorded, relative to the first frame: they undo the motion. Frames are numbered from 1. The local model is
    RELION's: 36 coefficients (``motion.surface.LocalModel``) of the shifts to apply besides. A block of our own
    holds what each patch tells by itself.
    """
    rows, columns = frames.shape
    general: dict[str, Any] = {
        "rlnImageSizeX": columns,
        "rlnImageSizeY": rows,
        "rlnImageSizeZ": len(frames.reasons),
        "rlnMicrographMovieName": str(files.movie),
    }
    if files.gain is not None:
        general["rlnMicrographGainName"] = str(files.gain)
    general |= {
        "rlnMicrographBinning": result.pixel_size_A / settings.pixel_size_A,
        "rlnMicrographOriginalPixelSize": settings.pixel_size_A,
        "rlnMicrographDoseRate": settings.dose_per_frame_e_per_A2,
        "rlnMicrographPreExposure": settings.pre_exposure_e_per_A2,
        "rlnVoltage": settings.voltage_kV,
        "rlnMicrographStartFrame": 1,
        "rlnMotionModelVersion": 0 if result.local_model is None else 1,
    }
    shifts_px = result.shifts_A / settings.pixel_size_A
    blocks: dict[str, Any] = {
        "general": StarBlock.pairs(**general),
        "global_shift": {
            "rlnMicrographFrameNumber": np.arange(1, len(shifts_px) + 1),
            "rlnMicrographShiftX": shifts_px[:, 0],
            "rlnMicrographShiftY": shifts_px[:, 1],
        },
    }
    if result.local_model is not None:
        recorded = result.local_model.scaled(result.pixel_size_A / settings.pixel_size_A)
        coefficients = recorded.coefficients_px.reshape(-1)
        blocks["local_motion_model"] = {
            "rlnMotionModelCoeffsIdx": np.arange(len(coefficients)),
            "rlnMotionModelCoeff": coefficients,
        }
    if len(result.local.centres):
        blocks["halfmap_patches"] = _patch_rows(result, frames, settings)
    y, x = np.nonzero(frames.replaced)
    if len(x):
        blocks["hot_pixels"] = {"rlnCoordinateX": x.astype(np.float64), "rlnCoordinateY": y.astype(np.float64)}
    left_out = [(i + 1, reason) for i, reason in enumerate(frames.reasons) if reason]
    if left_out:
        blocks["halfmap_left_out"] = {
            "rlnMicrographFrameNumber": [number for number, _ in left_out],
            "halfmapReason": [reason for _, reason in left_out],
        }
    write_star(path, blocks)


def _patch_rows(result: MotionResult, frames: Frames, settings: MovieSettings) -> dict[str, Any]:
    """Positions (px as recorded) of patches and, frame by frame, the shifts (px as recorded) that each asks for."""
    local, numbers = result.local, np.flatnonzero(frames.usable) + 1
    n_patches = len(local.centres)
    places = (local.centres + 0.5) * np.array(frames.shape[::-1])
    tracks = (local.tracks_px * (result.pixel_size_A / settings.pixel_size_A)).reshape(-1, 2)
    return {
        "halfmapPatchNumber": np.repeat(np.arange(1, n_patches + 1), len(numbers)),
        "rlnCoordinateX": np.repeat(places[:, 0], len(numbers)),
        "rlnCoordinateY": np.repeat(places[:, 1], len(numbers)),
        "rlnMicrographFrameNumber": np.tile(numbers, n_patches),
        "halfmapLocalShiftX": tracks[:, 0],
        "halfmapLocalShiftY": tracks[:, 1],
    }
