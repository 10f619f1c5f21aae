"""Files of a simulated session: the movies' table, and the truth beside it as STAR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.io.relion import write_image_set
from halfmap.io.star import StarBlock, write_star
from halfmap.simulate.motion import LOCAL_TERMS, Motion
from halfmap.simulate.options import SimulateMoviesOptions
from halfmap.units import DEG

KIND_LABEL: Final = "halfmapMovieKind"
"""Label of what is special about a movie: ordinary, empty, drifting, crystalline, carbon or truncated."""
SLOPE_LABELS: Final = ("halfmapIceSlopeX", "halfmapIceSlopeY")
"""Labels of the change of defocus with position, Å per Å."""
_SUFFIX: Final = {"tiff": "tif", "mrc": "mrc", "eer": "eer"}


def movie_file(folder: Path, index: int, movie_format: str) -> Path:
    """File of a movie, numbered from 1."""
    return folder / "movies" / f"movie_{index:04d}.{_SUFFIX[movie_format]}"


def motion_file(folder: Path, index: int) -> Path:
    """File of the true motion of a movie."""
    return folder / "truth" / f"motion_{index:04d}.star"


def gain_file(folder: Path) -> Path:
    """File of the gain reference."""
    return folder / "gain.mrc"


def write_motion(path: Path, movie: Path, motion: Motion, options: SimulateMoviesOptions) -> None:
    """Write a motion as RELION does, and the displacements in Å in blocks of our own.

    RELION's shifts and coefficients (px) undo the motion: they are minus the displacement of the specimen.
    """
    pixel = options.pixel_size_A
    number = np.arange(1, motion.n_frames + 1)
    coefficients = motion.relion_coefficients_px(pixel)
    general = StarBlock.pairs(
        rlnImageSizeX=options.width_px,
        rlnImageSizeY=options.height_px,
        rlnImageSizeZ=motion.n_frames,
        rlnMicrographMovieName=str(movie),
        rlnMicrographGainName=str(gain_file(path.parent.parent)),
        rlnMicrographBinning=1.0,
        rlnMicrographOriginalPixelSize=pixel,
        rlnMicrographDoseRate=options.dose_per_frame_e_per_A2,
        rlnMicrographPreExposure=0.0,
        rlnVoltage=options.voltage_kV,
        rlnMicrographStartFrame=1,
        rlnMotionModelVersion=1,
    )
    blocks: dict[str, Mapping[str, Any]] = {
        "general": general,
        "global_shift": {
            "rlnMicrographFrameNumber": number,
            "rlnMicrographShiftX": -motion.global_A[:, 0] / pixel,
            "rlnMicrographShiftY": -motion.global_A[:, 1] / pixel,
        },
        "local_motion_model": {
            "rlnMotionModelCoeffsIdx": np.arange(len(coefficients)),
            "rlnMotionModelCoeff": coefficients,
        },
        "displacement": {
            "halfmapFrameNumber": number,
            "halfmapDisplacementXA": motion.global_A[:, 0],
            "halfmapDisplacementYA": motion.global_A[:, 1],
        },
        "local_displacement": {
            "halfmapTerm": list(LOCAL_TERMS),
            "halfmapLastDisplacementXA": motion.local_A[0],
            "halfmapLastDisplacementYA": motion.local_A[1],
        },
    }
    write_star(path, blocks)


def _optics(options: SimulateMoviesOptions) -> Table:
    return Table.of(
        optics_group=[1],
        optics_group_name=["opticsGroup1"],
        voltage_kV=[options.voltage_kV],
        cs_mm=[options.cs_mm],
        amplitude_contrast=[options.amplitude_contrast],
        original_pixel_size_A=[options.pixel_size_A],
    )


def write_movies_table(path: Path, movies: Sequence[Path], options: SimulateMoviesOptions) -> None:
    """Write ``movies.star``: what a session knows about its movies, and nothing of the truth."""
    n = len(movies)
    rows = Table.of(
        movie_name=[str(movie) for movie in movies],
        optics_group=[1] * n,
        dose_per_frame_e_per_A2=[options.dose_per_frame_e_per_A2] * n,
        pre_exposure_e_per_A2=[0.0] * n,
        gain_name=[str(gain_file(path.parent))] * n,
    )
    write_image_set(path, ImageSet("movies", rows, _optics(options)))


def write_truth_tables(
    folder: Path, movies: Sequence[Path], facts: Sequence[Mapping[str, Any]], options: SimulateMoviesOptions
) -> int:
    """Write ``truth/micrographs.star`` and ``truth/particles.star``; return the number of particles.

    ``facts`` is what ``simulate_movie`` returned for each movie. Coordinates are those in the first frame,
    to which an aligned micrograph belongs whose first frame is not moved.
    """
    optics = _optics(options)
    optics = optics.with_columns(micrograph_pixel_size_A=optics["original_pixel_size_A"])
    names = [str(movie) for movie in movies]
    numbers = [int(movie.stem.rpartition("_")[2]) for movie in movies]
    defocus = np.array([fact["defocus"] for fact in facts], dtype=np.float64).reshape(-1, 3)
    slopes = np.array([fact["plane"] for fact in facts], dtype=np.float64).reshape(-1, 2)
    foreign = {KIND_LABEL: np.array([fact["kind"] for fact in facts], dtype=object)}
    for label, slope in zip(SLOPE_LABELS, slopes.T, strict=True):
        foreign[label] = np.array([repr(float(value)) for value in slope], dtype=object)
    known = Table.of(
        micrograph_name=names,
        movie_name=names,
        optics_group=[1] * len(names),
        micrograph_metadata=[str(motion_file(folder, number)) for number in numbers],
        defocus_u_A=defocus[:, 0],
        defocus_v_A=defocus[:, 1],
        defocus_angle_rad=defocus[:, 2],
        phase_shift_rad=np.full(len(names), options.phase_shift_deg * DEG),
        ctf_bfactor_A2=np.full(len(names), options.envelope_A2),
    )
    micrographs = Table(known.columns, foreign)
    write_image_set(folder / "truth" / "micrographs.star", ImageSet("micrographs", micrographs, optics))
    rows = [_particle_rows(name, number, fact) for name, number, fact in zip(names, numbers, facts, strict=True)]
    columns = {key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
    n = len(columns["uid"])
    particles = Table.of(**columns, optics_group=[1] * n, phase_shift_rad=[options.phase_shift_deg * DEG] * n)
    write_image_set(folder / "truth" / "particles.star", ImageSet("coordinates", particles, optics))
    return n


def _particle_rows(name: str, number: int, fact: Mapping[str, Any]) -> dict[str, Any]:
    n = len(fact["position_px"])
    position = np.array(fact["position_px"], dtype=np.float64).reshape(n, 2)
    euler = np.array(fact["euler_rad"], dtype=np.float64).reshape(n, 3)
    offset = np.array(fact["defocus_offset_A"], dtype=np.float64)
    u, v, angle = fact["defocus"]
    return {
        "uid": number * 1_000_000 + np.arange(1, n + 1),
        "micrograph_name": np.array([name] * n, dtype=object),
        "coordinate_x_px": position[:, 0],
        "coordinate_y_px": position[:, 1],
        "rot_rad": euler[:, 0],
        "tilt_rad": euler[:, 1],
        "psi_rad": euler[:, 2],
        "shift_x_A": np.zeros(n),
        "shift_y_A": np.zeros(n),
        "defocus_u_A": u + offset,
        "defocus_v_A": v + offset,
        "defocus_angle_rad": np.full(n, angle),
        "class_number": np.array(fact["class_number"], dtype=np.int64),
    }
