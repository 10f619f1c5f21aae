"""Every column, declared once: name with unit, type, meaning, RELION label, CryoSPARC field.

``relion_scale`` is what a RELION value is multiplied with to become ours (``DEG`` for angles).
CryoSPARC fields that need more than a factor (rotation vectors, fractional coordinates) are
translated in ``io/cryosparc.py``; the field named here says where they come from.
"""
# ruff: noqa: E501 (one line a column)

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from halfmap.units import DEG

Kind = Literal["movies", "micrographs", "coordinates", "particles"]
ColumnType = Literal["float", "int", "str"]


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: ColumnType
    meaning: str
    relion: str | None = None
    relion_scale: float = 1.0
    cryosparc: str | None = None
    relion_older: tuple[str, ...] = ()
    """Labels of RELION 3.0 and before for the same thing, in units that io/relion.py translates."""


_COLUMNS: Final = (
    # --- optics groups -------------------------------------------------------------------------
    Column("optics_group", "int", "number of the optics group, from 1", "rlnOpticsGroup", cryosparc="ctf/exp_group_id"),
    Column("optics_group_name", "str", "name of the optics group", "rlnOpticsGroupName"),
    Column("voltage_kV", "float", "acceleration voltage", "rlnVoltage", cryosparc="ctf/accel_kv"),
    Column("cs_mm", "float", "spherical aberration", "rlnSphericalAberration", cryosparc="ctf/cs_mm"),
    Column("amplitude_contrast", "float", "fraction of amplitude contrast", "rlnAmplitudeContrast", cryosparc="ctf/amp_contrast"),
    Column("original_pixel_size_A", "float", "pixel size of the movie as recorded", "rlnMicrographOriginalPixelSize"),
    Column("micrograph_pixel_size_A", "float", "pixel size of the micrograph", "rlnMicrographPixelSize", cryosparc="micrograph_blob/psize_A"),
    Column("image_pixel_size_A", "float", "pixel size of the particle images", "rlnImagePixelSize", cryosparc="blob/psize_A"),
    Column("box_px", "int", "box edge of the particle images", "rlnImageSize", cryosparc="blob/shape"),
    Column("image_dimensions", "int", "2 for images, 3 for subtomograms", "rlnImageDimensionality"),
    # --- movies and micrographs ----------------------------------------------------------------
    Column("movie_name", "str", "file of the movie", "rlnMicrographMovieName", cryosparc="movie_blob/path"),
    Column("micrograph_name", "str", "file of the micrograph", "rlnMicrographName", cryosparc="location/micrograph_path"),
    Column("micrograph_metadata", "str", "STAR file of the motion of a movie", "rlnMicrographMetadata"),
    Column("micrograph_unweighted_name", "str", "sum without dose weighting", "rlnMicrographNameNoDW"),
    Column("micrograph_odd_name", "str", "sum of the odd frames", "rlnMicrographNameOdd"),
    Column("micrograph_even_name", "str", "sum of the even frames", "rlnMicrographNameEven"),
    Column("power_spectrum_name", "str", "file of the summed power spectrum", "rlnCtfPowerSpectrum"),
    Column("dose_per_frame_e_per_A2", "float", "exposure of one frame", "rlnMicrographDoseRate"),
    Column("pre_exposure_e_per_A2", "float", "exposure before the first frame", "rlnMicrographPreExposure"),
    Column("gain_name", "str", "file of the gain reference", "rlnMicrographGainName"),
    Column("motion_total_A", "float", "accumulated motion", "rlnAccumMotionTotal"),
    Column("motion_early_A", "float", "accumulated motion of the first 4 e/Å²", "rlnAccumMotionEarly"),
    Column("motion_late_A", "float", "accumulated motion after the first 4 e/Å²", "rlnAccumMotionLate"),
    # --- CTF -------------------------------------------------------------------------------------
    Column("defocus_u_A", "float", "larger defocus, underfocus positive", "rlnDefocusU", cryosparc="ctf/df1_A"),
    Column("defocus_v_A", "float", "smaller defocus, underfocus positive", "rlnDefocusV", cryosparc="ctf/df2_A"),
    Column("defocus_angle_rad", "float", "direction of defocus_u from x to y", "rlnDefocusAngle", DEG, "ctf/df_angle_rad"),
    Column("phase_shift_rad", "float", "phase shift of a phase plate", "rlnPhaseShift", DEG, "ctf/phase_shift_rad"),
    Column("ctf_bfactor_A2", "float", "envelope of the CTF", "rlnCtfBfactor", cryosparc="ctf/bfactor"),
    Column("ctf_scale", "float", "scale of the CTF", "rlnCtfScalefactor", cryosparc="ctf/scale"),
    Column("ctf_fit_resolution_A", "float", "resolution to which the CTF fits", "rlnCtfMaxResolution", cryosparc="ctf/ctf_fit_to_A"),
    Column("ctf_figure_of_merit", "float", "correlation of spectrum and fit", "rlnCtfFigureOfMerit", cryosparc="ctf/cross_corr_ctffind4"),
    Column("astigmatism_A", "float", "difference of the two defoci", "rlnCtfAstigmatism"),
    Column("ctf_evidence", "float", "chi-squared by which rings explain the spectrum better than none", "rlnHalfmapCtfEvidence"),
    Column("ctf_margin", "float", "evidence over that of the next candidate", "rlnHalfmapCtfMargin"),
    Column("defocus_slope_x", "float", "growth of defocus along x at the centre, Å per Å", "rlnHalfmapDefocusSlopeX"),
    Column("defocus_slope_y", "float", "growth of defocus along y at the centre, Å per Å", "rlnHalfmapDefocusSlopeY"),
    Column("defocus_xx_per_A", "float", "coefficient of x² of the surface of defocus", "rlnHalfmapDefocusXX"),
    Column("defocus_xy_per_A", "float", "coefficient of xy of the surface of defocus", "rlnHalfmapDefocusXY"),
    Column("defocus_yy_per_A", "float", "coefficient of y² of the surface of defocus", "rlnHalfmapDefocusYY"),
    Column("surface_centre_x_px", "float", "column at which the surface has the defocus of the micrograph", "rlnHalfmapSurfaceCentreX"),
    Column("surface_centre_y_px", "float", "row at which the surface has the defocus of the micrograph", "rlnHalfmapSurfaceCentreY"),
    Column("specimen_tilt_rad", "float", "tilt of the specimen at the centre, from the surface", "rlnHalfmapSpecimenTilt", DEG),
    Column("specimen_tilt_axis_rad", "float", "direction of constant defocus from x to y", "rlnHalfmapSpecimenTiltAxis", DEG),
    Column("specimen_tilt_error_rad", "float", "standard error of the tilt", "rlnHalfmapSpecimenTiltError", DEG),
    Column("ice_ring_density", "float", "power at 3.67 Å over the background there: crystalline ice", "rlnCtfIceRingDensity"),
    Column("relative_ice_thickness", "float", "height of the diffuse ring of water near 3.7 Å over the background", "rlnHalfmapRelativeIceThickness"),
    Column("sample_thickness_A", "float", "thickness from nodes of the Thon rings; nan where there are none", "rlnHalfmapSampleThickness"),
    Column("ctf_image_name", "str", "picture of spectrum and fit", "rlnCtfImage"),
    # --- particles -------------------------------------------------------------------------------
    Column("uid", "int", "permanent number of the row", "rlnHalfmapUid", cryosparc="uid"),
    Column("source_uid", "int", "uid of the particle that this row is a symmetry copy of", "rlnHalfmapSourceUid"),
    Column("coordinate_x_px", "float", "x in the micrograph, from the first column", "rlnCoordinateX"),
    Column("coordinate_y_px", "float", "y in the micrograph, from the first row", "rlnCoordinateY"),
    Column("particle_diameter_A", "float", "longest diameter of the particle", "rlnParticleDiameter"),
    Column("pick_figure_of_merit", "float", "score of the pick", "rlnAutopickFigureOfMerit"),
    Column("image_name", "str", "N@stack of the particle, N from 1", "rlnImageName", cryosparc="blob/path"),
    Column("original_image_name", "str", "N@stack of the image that this one was made from", "rlnImageOriginalName"),
    Column("rot_rad", "float", "first Euler angle (ZYZ) of rot_img_from_map", "rlnAngleRot", DEG, "alignments3D/pose"),
    Column("tilt_rad", "float", "second Euler angle", "rlnAngleTilt", DEG, "alignments3D/pose"),
    Column("psi_rad", "float", "third Euler angle, in the image plane", "rlnAnglePsi", DEG, "alignments3D/pose"),
    Column("shift_x_A", "float", "x shift that centres the particle", "rlnOriginXAngst", cryosparc="alignments3D/shift", relion_older=("rlnOriginX",)),
    Column("shift_y_A", "float", "y shift that centres the particle", "rlnOriginYAngst", cryosparc="alignments3D/shift", relion_older=("rlnOriginY",)),
    Column("class_number", "int", "class, from 1", "rlnClassNumber", cryosparc="alignments2D/class"),
    Column("class_posterior", "float", "weight of the particle's class", "rlnHalfmapClassPosterior"),
    Column("half_set", "int", "independent half, 1 or 2", "rlnRandomSubset", cryosparc="alignments3D/split"),
    Column("group_number", "int", "noise or scale group", "rlnGroupNumber"),
    Column("group_name", "str", "noise or scale group", "rlnGroupName"),
    Column("norm_correction", "float", "normalisation of the image", "rlnNormCorrection"),
    Column("log_likelihood_contribution", "float", "log-likelihood of the particle", "rlnLogLikeliContribution"),
    Column("max_posterior", "float", "largest weight of one pose", "rlnMaxValueProbDistribution"),
    Column("significant_poses", "int", "poses that hold the posterior", "rlnNrOfSignificantSamples"),
)  # fmt: skip

COLUMNS: Final[dict[str, Column]] = {column.name: column for column in _COLUMNS}
COLUMN_OF_RELION: Final[dict[str, Column]] = {c.relion: c for c in _COLUMNS if c.relion is not None}

OPTICS_COLUMNS: Final = frozenset(
    {
        "optics_group",
        "optics_group_name",
        "voltage_kV",
        "cs_mm",
        "amplitude_contrast",
        "original_pixel_size_A",
        "micrograph_pixel_size_A",
        "image_pixel_size_A",
        "box_px",
        "image_dimensions",
    }
)
"""Columns that live in the table of optics groups (``optics_group`` also in the rows)."""

NAME_COLUMN: Final[dict[Kind, str]] = {
    "movies": "movie_name",
    "micrographs": "micrograph_name",
    "coordinates": "micrograph_name",
    "particles": "image_name",
}
"""The column that a table of each kind cannot do without."""

PIXEL_SIZE_COLUMN: Final[dict[Kind, str]] = {
    "movies": "original_pixel_size_A",
    "micrographs": "micrograph_pixel_size_A",
    "coordinates": "micrograph_pixel_size_A",
    "particles": "image_pixel_size_A",
}
"""The optics column that holds the pixel size of the images of each kind."""
