"""The three steps one after the other, on simulated micrographs, through a job that does items in turn."""

import json
from contextlib import contextmanager

import numpy as np
import pytest

from halfmap.errors import StepFailedError
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import write_image
from halfmap.io.relion import read_image_set
from halfmap.jobs.context import ItemResult
from halfmap.particles.options import ExtractOptions, SelectOptions
from halfmap.picking.options import PickOptions
from halfmap.steps.extract import STEP as EXTRACT
from halfmap.steps.pick import STEP as PICK
from halfmap.steps.select import STEP as SELECT

PIXEL_A, DIAMETER_A, DEFOCUS_A = 4.0, 120.0, 16000.0


class Job:
    seed, threads, device, memory_GB = 1, 1, "cpu", 1.0

    def __init__(self, folder):
        folder.mkdir()
        self.folder, self.lines, self.warnings = folder, [], []

    def log(self, message):
        self.lines.append(message)

    def warn(self, message):
        self.warnings.append(message)

    @contextmanager
    def progress(self, label, total):
        yield self

    def once(self, name, decide):
        return decide()

    def each(self, label, items, work, *, key):
        results = []
        for item in items:
            try:
                value, error = json.loads(json.dumps(work(item))), ""
            except Exception as failure:
                value, error = None, str(failure)
            results.append(ItemResult(item, key(item), value, error))
        return results

    def fail(self, code, message):
        raise StepFailedError(message, code=code)


def micrograph(rng, count=18, shape=(420, 420)):
    fy, fx = np.fft.fftfreq(shape[0], PIXEL_A)[:, None], np.fft.rfftfreq(shape[1], PIXEL_A)[None]
    s2 = fx**2 + fy**2
    ctf = np.sin(np.pi * 0.0196875 * DEFOCUS_A * s2 - 0.5 * np.pi * 2.7e7 * 0.0196875**3 * s2**2 + np.arcsin(0.1))
    y, x = np.indices(shape)
    radius, places, clean = DIAMETER_A / 2 / PIXEL_A, [], np.zeros(shape)
    while len(places) < count:
        place = rng.uniform(1.1 * radius, shape[0] - 1.1 * radius, 2)
        if all(np.hypot(*(place - other)) > 2.3 * radius for other in places):
            places.append(place)
            clean += np.sqrt(np.maximum(radius**2 - (y - place[0]) ** 2 - (x - place[1]) ** 2, 0))
    seen = np.fft.irfft2(np.fft.rfft2(clean) * ctf, s=shape)
    return (1000 - 40 * seen / seen.std() + 80 * rng.standard_normal(shape)).astype(np.float32), np.array(places)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    folder = tmp_path_factory.mktemp("session")
    rng, places, lines = np.random.default_rng(7), {}, []
    for k in range(3):
        image, places[str(folder / f"{k}.mrc")] = micrograph(rng)
        write_image(folder / f"{k}.mrc", image, PIXEL_A)
        lines.append(f"{folder / f'{k}.mrc'} 1 {DEFOCUS_A} {DEFOCUS_A} 0.0")
    (folder / "broken.mrc").write_bytes(b"not an image")
    lines.append(f"{folder / 'broken.mrc'} 1 {DEFOCUS_A} {DEFOCUS_A} 0.0")
    labels = "MicrographName OpticsGroup DefocusU DefocusV DefocusAngle"
    optics = "OpticsGroup MicrographPixelSize Voltage SphericalAberration AmplitudeContrast"
    (folder / "micrographs.star").write_text(
        "data_optics\nloop_\n" + "".join(f"_rln{name}\n" for name in optics.split()) + f"1 {PIXEL_A} 300 2.7 0.1\n\n"
        "data_micrographs\nloop_\n" + "".join(f"_rln{name}\n" for name in labels.split()) + "\n".join(lines) + "\n"
    )
    pick = Job(folder / "pick")
    figures = PICK.run(
        pick, {"micrographs": [folder / "micrographs.star"]}, PickOptions(diameter_A=DIAMETER_A, survey_micrographs=2)
    )
    extract = Job(folder / "ex")
    extract_figures = EXTRACT.run(extract, {"coordinates": [pick.folder / "particles.star"]}, ExtractOptions())
    return folder, places, (pick, figures), (extract, extract_figures)


def test_picks_are_the_particles(session):
    folder, places, (_, figures), _ = session
    picks = read_image_set(folder / "pick" / "particles.star", "coordinates")
    assert figures["contrast"] == "dark"
    assert (figures["items_in"], figures["items_out"]) == (4, 3)
    found = 0
    for name, expected in places.items():
        mine = picks.select(picks["micrograph_name"] == name)
        points = np.stack((mine["coordinate_y_px"], mine["coordinate_x_px"]), axis=1)
        found += sum(np.hypot(*(points - place).T).min() < 4 for place in expected)
    assert found >= 0.95 * 54
    assert len(picks) <= 54 * 1.1
    assert set(picks["half_set"]) == {1, 2}


def test_extracted_particles_are_white_and_complete(session):
    folder, _, _, (_, figures) = session
    picks = read_image_set(folder / "pick" / "particles.star", "coordinates")
    star = folder / "ex" / "particles.star"
    particles = read_image_set(star, "particles")
    assert figures["items_in"] == len(picks) == len(particles) + figures["at_edge"] + figures["constant"]
    assert set(particles["uid"]) <= set(picks["uid"])
    assert set(particles["defocus_u_A"]) == {DEFOCUS_A}
    assert particles["box_px"][0] * particles.pixel_size_A()[0] > DIAMETER_A
    mean = ParticleImages(particles, star).read(np.arange(len(particles))).mean(axis=0)
    n = mean.shape[-1]
    assert mean[n // 2 - 2 : n // 2 + 3, n // 2 - 2 : n // 2 + 3].mean() > 1.0


def test_select_by_condition_keeps_every_particle_visible(session, tmp_path):
    folder, _, _, _ = session
    job = Job(tmp_path / "sel")
    star = folder / "ex" / "particles.star"
    median = float(np.median(read_image_set(star, "particles")["pick_figure_of_merit"]))
    figures = SELECT.run(job, {"particles": [star]}, SelectOptions(where=(f"pick_figure_of_merit>{median}",)))
    kept, excluded = (read_image_set(job.folder / name, "particles") for name in ("particles.star", "excluded.star"))
    assert len(kept) + len(excluded) == figures["items_in"]
    assert kept["pick_figure_of_merit"].min() > median >= excluded["pick_figure_of_merit"].max()
    assert set(excluded.rows.foreign["halfmapReason"]) == {f"not_pick_figure_of_merit>{median}"}


def test_steps_fail_with_their_declared_reasons(session, tmp_path):
    folder, _, _, _ = session
    star = folder / "ex" / "particles.star"
    with pytest.raises(StepFailedError) as failure:
        SELECT.run(Job(tmp_path / "a"), {"particles": [star]}, SelectOptions(where=("defocus_u_A<0",)))
    assert failure.value.code == "nothing-left"
    noise = np.random.default_rng(0).normal(size=(420, 420)).astype(np.float32)
    write_image(tmp_path / "noise.mrc", noise, PIXEL_A)
    optics = {"pixel_size_A": PIXEL_A, "voltage_kV": 300.0, "cs_mm": 2.7}
    with pytest.raises(StepFailedError) as failure:
        PICK.run(
            Job(tmp_path / "b"), {"micrographs": [tmp_path / "noise.mrc"]}, PickOptions(diameter_A=120.0, **optics)
        )
    assert failure.value.code == "no-particles"
    (tmp_path / "c.star").write_text(
        "data_particles\nloop_\n_rlnMicrographName\n_rlnCoordinateX\n_rlnCoordinateY\n"
        f"{tmp_path / 'noise.mrc'} 200 200\n"
    )
    with pytest.raises(StepFailedError) as failure:
        EXTRACT.run(Job(tmp_path / "d"), {"coordinates": [tmp_path / "c.star"]}, ExtractOptions(**optics))
    assert failure.value.code == "no-diameter"
