import hashlib

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.io.images import ParticleImages
from halfmap.io.mrc import read_volume
from halfmap.io.relion import read_image_set
from halfmap.simulate.options import SimulateParticlesOptions
from halfmap.simulate.particles import circle_mask, noise_amplitude, signal_variance
from halfmap.simulate.projection import Optics, Projector, contrast_images
from halfmap.steps.simulate_particles import STEP

SMALL = {
    "particles": 60, "particles_per_micrograph": 20, "pixel_size_A": (4.0,), "box_px": (48,), "snr": 0.5,
    "defocus_min_A": 10000.0, "defocus_max_A": 14000.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def simulate(make_job):
    def run(folder, seed=1, order=1, **changes):
        return STEP.run(make_job(folder, seed, order), {}, SimulateParticlesOptions(**(SMALL | changes)))

    return run


def pixels(folder, table):
    return ParticleImages(table, folder).read(np.arange(len(table)))


def digests(folder):
    return [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((folder / "stacks").iterdir())]


@pytest.fixture(scope="module")
def session(tmp_path_factory, simulate):
    folder = tmp_path_factory.mktemp("particles")
    return folder, simulate(folder)


def test_truth_and_particles_have_the_same_rows_and_only_the_truth_has_poses(session):
    folder, facts = session
    particles = read_image_set(folder / "particles.star", "particles")
    truth = read_image_set(folder / "truth.star", "particles")
    assert facts["items_out"] == len(particles) == len(truth) == 60
    assert particles["image_name"].tolist() == truth["image_name"].tolist()
    assert particles["uid"].tolist() == list(range(1, 61))
    assert "rot_rad" in truth
    assert not {"rot_rad", "tilt_rad", "psi_rad", "class_number"} & set(particles.rows.columns)


def test_half_sets_are_given_by_micrograph(session):
    folder, _ = session
    particles = read_image_set(folder / "particles.star", "particles")
    for name in set(particles["micrograph_name"]):
        assert len(set(particles["half_set"][particles["micrograph_name"] == name])) == 1
    assert set(particles["half_set"]) == {1, 2}


def test_images_are_what_the_truth_predicts_protein_positive(session):
    folder, facts = session
    truth = read_image_set(folder / "truth.star", "particles")
    images = pixels(folder, truth)
    projector = Projector([read_volume(folder / "truth" / "map.mrc")])
    column = {name: torch.from_numpy(np.array(values)) for name, values in truth.rows.columns.items() if "_" in name
              and values.dtype == np.float64}  # fmt: skip
    clean = contrast_images(
        projector.project(matrix_from_euler(column["rot_rad"], column["tilt_rad"], column["psi_rad"]),
                          truth["class_number"]),
        96, 4.0,
        defocus_u_A=column["defocus_u_A"], defocus_v_A=column["defocus_v_A"],
        defocus_angle_rad=column["defocus_angle_rad"],
        displacement_A=-torch.stack([column["shift_x_A"], column["shift_y_A"]], dim=1),
        optics=Optics(300.0, 2.7, 0.1),
    )[:, 24:72, 24:72].numpy()  # fmt: skip
    scale = (images * clean).sum() / (clean * clean).sum()
    noise = images - scale * clean
    assert scale > 0
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)
    inside = circle_mask(48, facts["diameter_A"] / 4.0)
    ratio = (scale * clean)[:, inside].var(axis=1).mean() / noise[:, inside].var(axis=1).mean()
    assert ratio == pytest.approx(0.5, rel=0.1), "the signal-to-noise ratio asked for"
    correlations = [np.corrcoef(image.ravel(), model.ravel())[0, 1] for image, model in zip(images, clean, strict=True)]
    wrong = [np.corrcoef(image.ravel(), model.ravel())[0, 1] for image, model in zip(images, clean[::-1], strict=True)]
    assert min(correlations) > max(0.2, np.mean(wrong))


def test_same_seed_gives_the_same_bytes_in_any_order(session, tmp_path, simulate):
    folder, _ = session
    simulate(tmp_path / "again", order=-1)
    simulate(tmp_path / "other", seed=2)
    assert digests(tmp_path / "again") == digests(folder)
    assert not set(digests(tmp_path / "other")) & set(digests(folder))


def test_optics_groups_have_their_own_pixel_and_box(tmp_path, simulate):
    simulate(tmp_path, pixel_size_A=(2.0, 3.0), box_px=(80, 54), snr=100.0)
    truth = read_image_set(tmp_path / "truth.star", "particles")
    assert truth.optics["image_pixel_size_A"].tolist() == [2.0, 3.0]
    assert truth.optics["box_px"].tolist() == [80, 54]
    variance = []
    for group, box, pixel in ((1, 80, 2.0), (2, 54, 3.0)):
        chosen = truth.select(truth["optics_group"] == group)
        images = pixels(tmp_path, chosen)
        assert images.shape == (len(chosen), box, box)
        variance.append(signal_variance(images, pixel, 131.5).mean())
    # Pixels of 1.5 times the edge hold 2.25 times the electrons.
    assert variance[1] / variance[0] == pytest.approx(2.25, rel=0.25)
    with pytest.raises(ValueError, match="2 pixel sizes but 3 boxes"):
        SimulateParticlesOptions(pixel_size_A=(1.0, 2.0), box_px=(64, 64, 64))


def test_classes_are_conformations(tmp_path, simulate):
    simulate(tmp_path, model="asymmetric", class_weights=(1.0, 1.0), pixel_size_A=(5.0,))
    truth = read_image_set(tmp_path / "truth.star", "particles")
    assert set(truth["class_number"]) == {1, 2}
    first, second = (read_volume(tmp_path / "truth" / name).data for name in ("map.mrc", "map_class2.mrc"))
    assert 0.5 < np.corrcoef(first.ravel(), second.ravel())[0, 1] < 0.95
    with pytest.raises(HalfmapError, match="3 class weights"):
        simulate(tmp_path / "three", model="asymmetric", class_weights=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("box", [32, 33])
@pytest.mark.parametrize("kind", ["white", "coloured"])
def test_noise_has_variance_one_and_the_colour_asked_for(box, kind):
    amplitude = noise_amplitude(box, 3.0, kind)
    white = np.random.default_rng(1).standard_normal((400, box, box))
    noise = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(box, box))
    assert noise.var() == pytest.approx(1.0, abs=0.01)
    assert amplitude[0, 0] / amplitude[box // 2, -2] == pytest.approx(
        np.sqrt(6.0) if kind == "coloured" else 1.0, rel=0.01
    )
