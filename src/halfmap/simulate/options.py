"""Options of ``halfmap simulate map``, ``particles`` and ``movies``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from halfmap.options import Options, option

PositiveA = Annotated[float, Field(gt=0, le=100)]
BoxSize = Annotated[int, Field(ge=16, le=2048)]


class ModelOptions(Options):
    """Which molecule is simulated."""

    model: Literal["cage", "asymmetric"] = option(
        "cage", help="Built-in model: a hollow octahedral cage of helices, or an asymmetric complex."
    )
    model_file: Path | None = option(None, help="Atomic model (PDB or mmCIF) to take instead of a built-in one.")
    solvent: bool = option(True, help="Subtract the potential of the ice that the atoms displace.", advanced=True)
    bfactor_A2: float = option(40.0, help="B factor added to those of the atoms.", ge=0, le=2000, advanced=True)


class MicroscopeOptions(Options):
    """The microscope and its defocus."""

    voltage_kV: float = option(300.0, help="Acceleration voltage.", ge=20, le=1500)
    cs_mm: float = option(2.7, help="Spherical aberration.", ge=0, le=20)
    amplitude_contrast: float = option(0.1, help="Fraction of amplitude contrast.", ge=0, lt=1)
    phase_shift_deg: float = option(0.0, help="Phase shift of a phase plate.", ge=0, le=180, advanced=True)
    defocus_min_A: float = option(8000.0, help="Smallest mean defocus of a micrograph.", ge=0, le=100000)
    defocus_max_A: float = option(18000.0, help="Largest mean defocus of a micrograph.", ge=0, le=100000)
    astigmatism_A: float = option(300.0, help="Largest astigmatism, defocus U - V.", ge=0, le=20000)
    defocus_spread_A: float = option(
        100.0, help="Standard deviation of the particles' defocus about the plane of the ice.", ge=0, le=5000
    )
    orientation_concentration: float = option(
        0.0,
        help="Preference for views along the map's z axis (von Mises-Fisher concentration; 0 = uniform).",
        ge=0,
        le=1000,
    )
    class_weights: tuple[Annotated[float, Field(ge=0)], ...] = option(
        (1.0,), help="Relative number of particles in each conformation.", min_length=1, max_length=100
    )

    @model_validator(mode="after")
    def _ranges_hold(self) -> MicroscopeOptions:
        if self.defocus_min_A > self.defocus_max_A:
            raise ValueError(f"defocus_min {self.defocus_min_A:g} is above defocus_max {self.defocus_max_A:g}")
        if sum(self.class_weights) <= 0:
            raise ValueError("class_weights are all zero")
        return self


class SimulateMapOptions(ModelOptions):
    """Options of ``halfmap simulate map``."""

    pixel_size_A: float = option(1.2, help="Voxel size of the map.", gt=0, le=100)
    box_px: int | None = option(None, help="Edge of the map; chosen from the model if absent.", ge=16, le=2048)
    lowpass_A: float | None = option(None, help="Low-pass filter with a soft edge.", gt=0, le=1000)
    conformation: int = option(1, help="Conformation of the model, from 1.", ge=1)


class SimulateParticlesOptions(ModelOptions, MicroscopeOptions):
    """Options of ``halfmap simulate particles``."""

    particles: int = option(1000, help="Number of particles.", ge=1, le=100_000_000)
    particles_per_micrograph: int = option(100, help="Particles that share a micrograph.", ge=1, le=100_000)
    pixel_size_A: tuple[PositiveA, ...] = option(
        (1.5,), help="Pixel size of each optics group.", min_length=1, max_length=100
    )
    box_px: tuple[BoxSize, ...] = option(
        (128,), help="Box of each optics group (one for all, or one each).", min_length=1, max_length=100
    )
    snr: float = option(
        0.1,
        help="Variance of the signal within the particle's circle over that of the noise, in optics group 1.",
        gt=0,
        le=1e6,
    )
    noise: Literal["white", "coloured"] = option("white", help="Spectrum of the noise.")
    shift_A: float = option(3.0, help="Standard deviation of the particles' x and y shifts.", ge=0, le=1000)

    @model_validator(mode="after")
    def _groups_match(self) -> SimulateParticlesOptions:
        if len(self.box_px) not in (1, len(self.pixel_size_A)):
            raise ValueError(f"{len(self.pixel_size_A)} pixel sizes but {len(self.box_px)} boxes")
        return self


class SimulateMoviesOptions(ModelOptions, MicroscopeOptions):
    """Options of ``halfmap simulate movies``."""

    movies: int = option(12, help="Number of movies.", ge=1, le=100_000)
    particles: int = option(60, help="Most particles of a movie (fewer if no more fit).", ge=0, le=100_000)
    pixel_size_A: float = option(1.2, help="Pixel size of the movies.", gt=0, le=100)
    width_px: int = option(1024, help="Columns of a frame.", ge=128, le=32768)
    height_px: int = option(1024, help="Rows of a frame.", ge=128, le=32768)
    frames: int = option(20, help="Frames of a movie.", ge=1, le=4000)
    dose_per_frame_e_per_A2: float = option(2.0, help="Exposure of one frame.", gt=0, le=100)
    format: Literal["tiff", "mrc", "eer"] = option("tiff", help="File format of the movies.")
    envelope_A2: float = option(50.0, help="B factor of the microscope's envelope.", ge=0, le=2000, advanced=True)
    ice_thickness_A: float = option(350.0, help="Thickness of the ice.", ge=0, le=10000)
    ice_layers: int = option(
        1,
        help="Layers that the ice is made of, each at the defocus of its depth: many give thick ice its nodes.",
        ge=1,
        le=200,
        advanced=True,
    )
    tilt_max_deg: float = option(3.0, help="Largest tilt of the plane of the ice.", ge=0, le=60)
    drift_A: float = option(12.0, help="Typical drift of the stage over a movie.", ge=0, le=1000)
    local_motion_A: float = option(4.0, help="Typical largest local motion over a movie.", ge=0, le=100)
    damage: bool = option(True, help="Let the signal fade with exposure (Grant & Grigorieff 2015).", advanced=True)
    gain_spread_frac: float = option(0.05, help="Spread of the detector's gain.", ge=0, le=0.5, advanced=True)
    hot_pixels: int = option(20, help="Pixels that always count far too much.", ge=0, le=100_000, advanced=True)
    dead_pixels: int = option(20, help="Pixels that count nothing.", ge=0, le=100_000, advanced=True)
    contaminants: float = option(0.7, help="Mean number of ice crystals on a movie.", ge=0, le=1000)
    empty_movies: int = option(0, help="Movies without particles.", ge=0)
    drifting_movies: int = option(0, help="Movies with ten times the drift.", ge=0)
    crystalline_movies: int = option(0, help="Movies with crystalline ice.", ge=0)
    carbon_movies: int = option(0, help="Movies with the edge of the carbon film.", ge=0)
    truncated_movies: int = option(0, help="Movies whose file ends too early.", ge=0)

    @model_validator(mode="after")
    def _special_movies_fit(self) -> SimulateMoviesOptions:
        if self.special_movies > self.movies:
            raise ValueError(f"{self.special_movies} special movies do not fit into {self.movies} movies")
        return self

    @property
    def special_movies(self) -> int:
        """Number of movies that are not ordinary."""
        return (
            self.empty_movies
            + self.drifting_movies
            + self.crystalline_movies
            + self.carbon_movies
            + self.truncated_movies
        )
