"""Movies of a specimen: electron counts frame by frame, as a detector records them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from halfmap.fourier.grid import frequencies_2d
from halfmap.io.eer import write_eer
from halfmap.io.movies import write_movie
from halfmap.io.mrc import read_volume, write_image
from halfmap.optics.dose import damage_amplitude
from halfmap.simulate.background import MovieKind, random_background
from halfmap.simulate.detector import Detector, random_detector
from halfmap.simulate.motion import Motion, random_motion, warp
from halfmap.simulate.options import SimulateMoviesOptions
from halfmap.simulate.poses import Defocus, random_classes, random_defocus, random_euler_rad
from halfmap.simulate.projection import Optics, Projector
from halfmap.simulate.specimen import (
    IcePlane,
    Particles,
    background_field,
    contrast_box_px,
    particle_field,
    scattered_positions_px,
)
from halfmap.simulate.truth import motion_file, movie_file, write_motion
from halfmap.typing import Array, FloatArray
from halfmap.units import DEG

_DRIFTING: Final = 10.0
"""How much more a drifting movie drifts."""
_KEPT_OF_TRUNCATED: Final = 0.6
_MARGIN_PX: Final = 32
_MOST_COUNTS: Final = {"tiff": 255, "mrc": 127}
"""Largest count of a pixel that 8 bits of a format hold (MRC's are signed)."""
_EER_RATE: Final = 0.05
"""Electrons a pixel in a camera frame of EER."""


@dataclass(frozen=True)
class MovieTask:
    """One movie to simulate."""

    index: int
    kind: MovieKind


@dataclass(frozen=True, eq=False)
class Scene:
    """A micrograph before the exposure: fields with a margin, and how they move."""

    particle_field: FloatArray
    background_field: FloatArray
    margin_px: int
    motion: Motion


def movie_tasks(options: SimulateMoviesOptions, seed: int) -> list[MovieTask]:
    """The movies to simulate; which of them are special is drawn from the seed."""
    counts: dict[MovieKind, int] = {
        "empty": options.empty_movies,
        "drifting": options.drifting_movies,
        "crystalline": options.crystalline_movies,
        "carbon": options.carbon_movies,
        "truncated": options.truncated_movies,
    }
    special = [kind for kind, count in counts.items() for _ in range(count)]
    kinds: list[MovieKind] = ["ordinary"] * options.movies
    order = np.random.default_rng([seed, 1]).permutation(options.movies)
    for position, kind in zip(order, special, strict=False):
        kinds[position] = kind
    return [MovieTask(index, kind) for index, kind in enumerate(kinds, start=1)]


def movie_optics(options: SimulateMoviesOptions) -> Optics:
    """What the CTFs of the movies share."""
    return Optics(
        options.voltage_kV,
        options.cs_mm,
        options.amplitude_contrast,
        options.phase_shift_deg * DEG,
        options.envelope_A2,
    )


def session_detector(options: SimulateMoviesOptions, seed: int) -> Detector:
    """The detector that records all movies of a seed."""
    return random_detector(
        (options.height_px, options.width_px),
        spread_frac=options.gain_spread_frac,
        hot_pixels=options.hot_pixels,
        dead_pixels=options.dead_pixels,
        generator=np.random.default_rng([seed, 2]),
    )


def write_gain(path: Path, detector: Detector, options: SimulateMoviesOptions) -> None:
    """Write the gain reference as the camera's software does: EER's hold the inverse (RELION's rule)."""
    gain = detector.gain
    if options.format == "eer":
        gain = np.divide(1.0, gain, out=np.zeros_like(gain), where=~detector.dead)
    write_image(path, gain, options.pixel_size_A)


@lru_cache(maxsize=2)
def _projector(maps: tuple[Path, ...], options: SimulateMoviesOptions) -> Projector:
    """Projector of the maps that were written with these options."""
    return Projector([read_volume(path) for path in maps])


@lru_cache(maxsize=1)
def _detector(options: SimulateMoviesOptions, seed: int) -> Detector:
    return session_detector(options, seed)


def simulate_movie(
    task: MovieTask,
    *,
    options: SimulateMoviesOptions,
    maps: tuple[Path, ...],
    diameter_A: float,
    folder: Path,
    seed: int,
) -> Mapping[str, Any]:
    """Simulate one movie and write it with the truth about its motion; return the rest of the truth.

    The result depends on the options, the seed and the number of the movie alone, not on which process makes
    it or when. It is JSON-able: ``kind``, ``defocus`` (u, v, angle), ``plane`` (slopes), and one list a column of
    the particles.
    """
    generator = np.random.default_rng([seed, 3, task.index])
    defocus = random_defocus(options.defocus_min_A, options.defocus_max_A, options.astigmatism_A, generator)
    tilt = options.tilt_max_deg * DEG * generator.random()
    axis = generator.uniform(0.0, 2.0 * np.pi)
    plane = IcePlane(float(np.tan(tilt) * np.cos(axis)), float(np.tan(tilt) * np.sin(axis)))
    motion = random_motion(
        options.frames,
        options.dose_per_frame_e_per_A2,
        drift_A=options.drift_A * (_DRIFTING if task.kind == "drifting" else 1.0),
        local_A=options.local_motion_A,
        generator=generator,
    )
    scene, particles = _scene(task, options, maps, diameter_A, defocus, plane, motion, generator)
    path = movie_file(folder, task.index, options.format)
    _record(path, scene, options, _detector(options, seed), generator)
    if task.kind == "truncated":
        os.truncate(path, int(_KEPT_OF_TRUNCATED * path.stat().st_size))
    write_motion(motion_file(folder, task.index), path, motion, options)
    return {
        "kind": task.kind,
        "defocus": list(defocus_values(defocus)),
        "plane": [plane.slope_x, plane.slope_y],
        "position_px": particles.position_px.tolist(),
        "euler_rad": particles.euler_rad.tolist(),
        "class_number": particles.class_number.tolist(),
        "defocus_offset_A": particles.defocus_offset_A.tolist(),
    }


def defocus_values(defocus: Defocus) -> tuple[float, float, float]:
    """Defocus U and V in Å, and angle in rad."""
    return defocus.u_A, defocus.v_A, defocus.angle_rad


def _scene(
    task: MovieTask,
    options: SimulateMoviesOptions,
    maps: tuple[Path, ...],
    diameter_A: float,
    defocus: Defocus,
    plane: IcePlane,
    motion: Motion,
    generator: np.random.Generator,
) -> tuple[Scene, Particles]:
    pixel = options.pixel_size_A
    shape = (options.height_px, options.width_px)
    reach_px = np.abs(motion.global_A).max() + np.abs(motion.local_A).sum(axis=1).max()
    margin = _fft_margin(shape, _MARGIN_PX + int(np.ceil(reach_px / pixel)))
    padded = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    background = random_background(
        padded,
        pixel,
        kind=task.kind,
        voltage_kV=options.voltage_kV,
        ice_thickness_A=options.ice_thickness_A,
        contaminants=options.contaminants,
        generator=generator,
        ice_layers=options.ice_layers,
    )
    free = ~background.forbidden[margin : margin + shape[0], margin : margin + shape[1]]
    count = 0 if task.kind == "empty" else options.particles
    particles = _random_particles(count, free, diameter_A, plane, options, generator)
    optics = movie_optics(options)
    largest = defocus.u_A + float(np.abs(particles.defocus_offset_A).max(initial=0.0))
    field = particle_field(
        particles,
        _projector(maps, options),
        defocus,
        optics,
        shape=shape,
        margin_px=margin,
        box_px=max(contrast_box_px(diameter_A, largest, pixel, options.voltage_kV), _projector(maps, options).box_px),
    )
    field *= background.transmission
    return Scene(field, background_field(background, plane, defocus, optics, pixel), margin, motion), particles


def _fft_margin(shape: tuple[int, int], least_px: int) -> int:
    """Smallest margin that makes both padded edges products of 2, 3, 5 and 7 (at most 64 px more)."""

    def smooth(n: int) -> bool:
        for prime in (2, 3, 5, 7):
            while n % prime == 0:
                n //= prime
        return n == 1

    candidates = range(least_px, least_px + 64)
    return next((m for m in candidates if all(smooth(n + 2 * m) for n in shape)), least_px)


def _random_particles(
    count: int,
    free: Array,
    diameter_A: float,
    plane: IcePlane,
    options: SimulateMoviesOptions,
    generator: np.random.Generator,
) -> Particles:
    pixel = options.pixel_size_A
    position = scattered_positions_px(count, free, 1.02 * diameter_A / pixel, generator)
    from_centre_A = (position - np.array([options.width_px // 2, options.height_px // 2])) * pixel
    n = len(position)
    offset = plane.offset_A(from_centre_A[:, 0], from_centre_A[:, 1])
    return Particles(
        position,
        random_euler_rad(n, options.orientation_concentration, generator),
        random_classes(n, options.class_weights, generator),
        offset + options.defocus_spread_A * generator.standard_normal(n),
    )


def expected_frames(scene: Scene, options: SimulateMoviesOptions) -> Iterator[FloatArray]:
    """Expected electrons per pixel ``[y, x]`` of each frame before the detector.

    The particles fade with the exposure; everything moves by the global displacement, blurred by the way
    covered within the frame, and then by the local one.
    """
    shape = (options.height_px, options.width_px)
    pixel, dose, motion = options.pixel_size_A, options.dose_per_frame_e_per_A2, scene.motion
    padded: tuple[int, int] = scene.particle_field.shape
    fx, fy = frequencies_2d(padded, pixel)
    radius = torch.hypot(fx, fy)
    particles_ft = torch.fft.rfft2(torch.from_numpy(scene.particle_field))
    background_ft = torch.fft.rfft2(torch.from_numpy(scene.background_field))
    x, y = (
        (np.arange(n, dtype=np.float32) - scene.margin_px) / size - 0.5
        for n, size in ((padded[1], shape[1]), (padded[0], shape[0]))
    )
    grid_x, grid_y = np.meshgrid(x, y)
    local_px = (motion.last_local_A(grid_x, grid_y) / pixel).astype(np.float32)
    inside = slice(scene.margin_px, scene.margin_px + shape[0]), slice(scene.margin_px, scene.margin_px + shape[1])
    for frame in range(motion.n_frames):
        spectrum = particles_ft
        if options.damage:
            middle = torch.tensor([(frame + 0.5) * dose], dtype=torch.float64)
            spectrum = particles_ft * damage_amplitude(radius, middle, options.voltage_kV)[0].float()
        dx, dy = motion.global_A[frame]
        way_x, way_y = motion.travel_A[frame]
        blur = torch.sinc(fx * float(way_x) + fy * float(way_y))
        ramp = torch.polar(blur, -2.0 * torch.pi * (fx * float(dx) + fy * float(dy)))
        relative = torch.fft.irfft2((background_ft + spectrum) * ramp, s=padded).numpy()
        if local_px.any() and frame > 0:
            moved = local_px * np.float32(motion.local_progress(frame))
            relative = warp(relative, moved[0], moved[1])
        yield np.clip(relative[inside], 0.0, None) * (dose * pixel**2)


def camera_frames_per_frame(options: SimulateMoviesOptions) -> int:
    """Camera frames of an EER movie in a frame, so that few pixels would see two electrons."""
    return max(1, round(options.dose_per_frame_e_per_A2 * options.pixel_size_A**2 / _EER_RATE))


def _record(
    path: Path, scene: Scene, options: SimulateMoviesOptions, detector: Detector, generator: np.random.Generator
) -> None:
    """Expose the detector to a scene and write the raw counts."""
    frames = expected_frames(scene, options)
    path.parent.mkdir(parents=True, exist_ok=True)
    if options.format == "eer":
        count = camera_frames_per_frame(options)
        events = (event for frame in frames for event in detector.record_camera_frames(frame, count, generator))
        dose = options.frames * options.dose_per_frame_e_per_A2 * options.pixel_size_A**2
        write_eer(path, events, dose_total_e_per_px=dose)
        return
    most = _MOST_COUNTS[options.format]
    write_movie(path, (detector.record(frame, most, generator) for frame in frames), options.pixel_size_A)
