import csv

import numpy as np
import pytest
import torch

from halfmap.ctffit.estimate import FitSettings, estimate_ctf
from halfmap.ctffit.files import MicrographFiles, on_finer_grid, process_micrograph
from halfmap.ctffit.model import Microscope
from halfmap.ctffit.options import CtfOptions
from halfmap.ctffit.session import micrograph_files, with_ctf
from halfmap.ctffit.spectrum import micrograph_spectrum
from halfmap.data.records import ImageSet
from halfmap.data.table import Table
from halfmap.errors import BadInputError
from halfmap.fourier.periodogram import centred_amplitude
from halfmap.io.mrc import read_image, write_image
from halfmap.io.star import read_star
from halfmap.units import DEG


def task(folder, titan, *, power_spectrum=None):
    settings = FitSettings()
    return MicrographFiles(folder / "a.mrc", power_spectrum, folder / "a", 1.4, titan, settings, local=False)


def test_a_stored_spectrum_is_fitted_and_its_files_agree(make_spectrum, titan, tmp_path):
    spectrum = make_spectrum(15000, 14400, 30)
    write_image(tmp_path / "a_ps.mrc", centred_amplitude(spectrum.power), 1.4)
    value = process_micrograph(task(tmp_path, titan, power_spectrum=tmp_path / "a_ps.mrc"))
    assert abs(value["defocus_u_A"] - 15000) < 50
    picture, _ = read_image(value["ctf_image_name"])
    assert picture.shape == (512, 512)
    star = read_star(tmp_path / "a_ctf.star")
    assert float(star["ctf_fit"]["rlnDefocusU"][0]) == value["defocus_u_A"]
    assert float(star["ctf_fit"]["rlnDefocusAngle"][0]) * DEG == pytest.approx(value["defocus_angle_rad"])
    curve = {label: np.asarray(v, float) for label, v in star["ctf_curve"].items()}
    low = curve["halfmapFrequency"] < 0.15
    assert np.corrcoef(curve["halfmapSpectrum"][low], curve["halfmapFit"][low])[0, 1] > 0.7
    assert np.asarray(star["ctf_candidates"]["halfmapScore"], float)[0] > 0


def test_a_micrograph_that_is_too_small_is_an_error(titan, tmp_path):
    write_image(tmp_path / "a.mrc", np.random.default_rng(0).normal(size=(64, 300)).astype(np.float32), 1.4)
    with pytest.raises(BadInputError, match=r"a\.mrc.*at least 128"):
        process_micrograph(task(tmp_path, titan))


def test_a_spectrum_that_is_not_square_is_an_error(titan, tmp_path):
    write_image(tmp_path / "a_ps.mrc", np.random.default_rng(0).random((64, 128)).astype(np.float32), 1.4)
    with pytest.raises(BadInputError, match="--no-power-spectra"):
        process_micrograph(task(tmp_path, titan, power_spectrum=tmp_path / "a_ps.mrc"))


def test_two_optics_groups_keep_their_constants_and_columns_pass_through(tmp_path):
    optics = Table.of(
        optics_group=[2, 1], voltage_kV=[200.0, 300.0], cs_mm=[0.01, 2.7], amplitude_contrast=[0.1, 0.07],
        micrograph_pixel_size_A=[1.2, 0.8],
    )  # fmt: skip
    rows = Table.of(
        micrograph_name=["a.mrc", "b.mrc"], optics_group=[1, 2], motion_total_A=[3.0, 4.0],
        power_spectrum_name=["a_ps.mrc", "None"],
    )  # fmt: skip
    micrographs = ImageSet("micrographs", rows, optics)
    options = CtfOptions(local=False)
    first, second = micrograph_files(micrographs, [tmp_path / "a", tmp_path / "b"], options)
    assert (first.microscope, first.pixel_size_A) == (Microscope(300.0, 2.7, 0.07), 0.8)
    assert (second.microscope, second.pixel_size_A) == (Microscope(200.0, 0.01, 0.1), 1.2)
    assert first.power_spectrum is not None
    assert second.power_spectrum is None
    value = {
        "defocus_u_A": 1e4, "defocus_v_A": 9e3, "defocus_angle_rad": 0.1, "phase_shift_rad": 0.0,
        "ctf_figure_of_merit": 0.1, "ctf_fit_resolution_A": 4.0, "ctf_image_name": "b_ctf.mrc",
        "astigmatism_A": 1e3, "ctf_evidence": 900.0, "ctf_margin": 500.0,
        "ice_ring_density": 0.0, "relative_ice_thickness": 0.2, "sample_thickness_A": float("nan"),
    }  # fmt: skip
    fitted = with_ctf(micrographs, [(1, value)], options)
    assert fitted["micrograph_name"].tolist() == ["b.mrc"]
    assert fitted["motion_total_A"].tolist() == [4.0]
    assert "phase_shift_rad" not in fitted


@pytest.mark.truth
def test_apoferritin_micrographs_agree_with_ctffind(shared_data, tmp_path):
    """EMPIAR-10146 against CTFFIND 5, with the same (nominal) constants: see docs/results/ctf_real.md."""
    with (shared_data / "reference" / "ctffind5.tsv").open() as table:
        reference = {row["micrograph"]: row for row in csv.DictReader(table, delimiter="\t")}
    paths = sorted((shared_data / "empiar-10146").glob("*.mrc"))
    assert len(paths) == 10
    for path in paths:
        files = MicrographFiles(
            path, None, tmp_path / path.stem, 1.5, Microscope(300.0, 2.7, 0.07), FitSettings(), True
        )
        value, expected = process_micrograph(files), reference[path.stem]
        assert abs(value["defocus_u_A"] - float(expected["defocus_u_A"])) < 170
        assert abs(value["defocus_v_A"] - float(expected["defocus_v_A"])) < 170
        assert value["ctf_fit_resolution_A"] < 6


def ringing_picture(u_A, v_A, angle_rad, microscope, pixel_size_A, edge_px=1024):
    """White noise filtered such that its spectrum has the rings of a CTF over an even background."""
    fx, fy = np.fft.rfftfreq(edge_px, pixel_size_A)[None], np.fft.fftfreq(edge_px, pixel_size_A)[:, None]
    s2 = fx**2 + fy**2
    defocus = (u_A + v_A) / 2 + (u_A - v_A) / 2 * np.cos(2 * (np.arctan2(fy, fx) - angle_rad))
    wavelength = microscope.wavelength_A
    gamma = np.pi * wavelength * defocus * s2 - np.pi / 2 * microscope.cs_mm * 1e7 * wavelength**3 * s2**2
    gamma = gamma + np.arcsin(microscope.amplitude_contrast)
    noise = np.fft.rfft2(np.random.default_rng(3).standard_normal((edge_px, edge_px)))
    return np.fft.irfft2(noise * np.sqrt(1.0 + 2.0 * np.sin(gamma) ** 2 * np.exp(-30.0 * s2))).astype(np.float32)


def test_rings_of_large_defocus_are_fitted_on_a_finer_grid():
    u_A, v_A, angle_rad, pixel_size_A = 60_300.0, 59_700.0, 0.6, 1.2
    microscope = Microscope(120.0, 1.6, 0.1)
    picture = ringing_picture(u_A, v_A, angle_rad, microscope, pixel_size_A)
    settings = FitSettings(max_defocus_A=70_000.0)
    coarse = micrograph_spectrum(torch.from_numpy(picture), pixel_size_A)
    first = estimate_ctf(coarse, microscope, settings)
    spectrum, found = on_finer_grid(torch.from_numpy(picture), pixel_size_A, coarse, first, microscope, settings)
    assert spectrum.power.shape[0] == 1024
    assert found.fit_resolution_A < 0.8 * first.fit_resolution_A
    assert abs(0.5 * (found.defocus_u_A + found.defocus_v_A) - 60_000.0) < 10.0
    assert abs(found.defocus_u_A - found.defocus_v_A - 600.0) < 50.0
    assert abs(found.defocus_angle_rad - angle_rad) < np.radians(2.0)


def test_a_grid_that_resolves_the_rings_is_kept():
    microscope = Microscope(300.0, 2.7, 0.1)
    picture = ringing_picture(15_200.0, 14_800.0, 0.3, microscope, 1.2)
    spectrum = micrograph_spectrum(torch.from_numpy(picture), 1.2)
    estimate = estimate_ctf(spectrum, microscope, FitSettings())
    kept = on_finer_grid(torch.from_numpy(picture), 1.2, spectrum, estimate, microscope, FitSettings())
    assert kept[0] is spectrum
    assert kept[1] is estimate
