import numpy as np
import pytest
import torch

from halfmap.data.records import Volume
from halfmap.errors import HalfmapError
from halfmap.geometry.rotations import matrix_from_euler
from halfmap.simulate.phantoms import GaussianPhantom
from halfmap.simulate.projection import Optics, Projector, contrast_images

PIXEL_A = 1.5
BOX = 48


@pytest.fixture(scope="module")
def phantom():
    return GaussianPhantom.random(12, 16.0, (2.0, 4.0), seed=5)


@pytest.fixture(scope="module")
def projector(phantom):
    return Projector([Volume(phantom.volume(BOX, PIXEL_A).astype(np.float32), PIXEL_A)])


def optics(**changes):
    return Optics(300.0, 2.7, 0.1)._replace(**changes)


def contrast(projections, box, *, defocus_A=0.0, displacement_A=(0.0, 0.0), optics=optics()):  # noqa: B008
    n = len(projections)
    return contrast_images(
        projections,
        box,
        PIXEL_A,
        defocus_u_A=torch.full((n,), float(defocus_A)),
        defocus_v_A=torch.full((n,), float(defocus_A)),
        defocus_angle_rad=torch.zeros(n),
        displacement_A=torch.tensor([displacement_A] * n),
        optics=optics,
    )


def test_projection_equals_the_analytic_one(phantom, projector):
    generator = np.random.default_rng(6)
    rotations = matrix_from_euler(*torch.from_numpy(generator.uniform(-3, 3, (3, 5))))
    images = projector.project(rotations, np.ones(5, np.int64)).numpy()
    for image, rotation in zip(images, rotations.numpy(), strict=True):
        expected = phantom.projection(rotation, BOX, PIXEL_A)
        assert np.abs(image - expected).max() < 1e-3 * expected.max()


def test_projection_keeps_the_integral_of_the_map(phantom, projector):
    volume = phantom.volume(BOX, PIXEL_A)
    images = projector.project(matrix_from_euler(0.3, 1.1, -0.4)[None], np.array([1]))
    assert float(images.sum()) * PIXEL_A**2 == pytest.approx(volume.sum() * PIXEL_A**3, rel=1e-3)


def test_classes_project_their_own_maps(phantom):
    data = phantom.volume(BOX, PIXEL_A).astype(np.float32)
    projector = Projector([Volume(data, PIXEL_A), Volume(3.0 * data, PIXEL_A)])
    rotations = matrix_from_euler(0.3, 1.1, -0.4).expand(3, 3, 3)
    images = projector.project(rotations, np.array([2, 1, 2]))
    assert torch.allclose(images[0], 3.0 * images[1], atol=1e-4)
    assert torch.equal(images[0], images[2])
    with pytest.raises(HalfmapError, match="one grid"):
        Projector([Volume(data, PIXEL_A), Volume(data, 2.0)])


def test_amplitude_contrast_alone_makes_protein_white(phantom, projector):
    images = projector.project(matrix_from_euler(0.0, 0.0, 0.0)[None], np.array([1]))
    seen = contrast(images, BOX, optics=optics(amplitude_contrast=1.0, cs_mm=0.0))
    assert torch.allclose(seen, images, atol=1e-3 * float(images.max()))


def test_underfocus_makes_protein_white_with_a_dark_rim(projector):
    images = projector.project(matrix_from_euler(0.0, 0.0, 0.0)[None], np.array([1]))
    seen = contrast(images, 128, defocus_A=20000.0)[0]
    inside = torch.nn.functional.pad(images, [40] * 4)[0] > 0.3 * images.max()
    assert seen[inside].mean() > 0 > seen.min()
    assert seen[inside].mean() > 3 * seen[~inside].abs().mean()


def test_displacement_moves_the_particle_right_and_down(projector):
    images = projector.project(matrix_from_euler(0.2, 0.5, 0.1)[None], np.array([1]))
    still = contrast(images, 64, defocus_A=10000.0)
    moved = contrast(images, 64, defocus_A=10000.0, displacement_A=(4 * PIXEL_A, 2 * PIXEL_A))
    assert torch.allclose(moved, torch.roll(still, (2, 4), (1, 2)), atol=2e-3 * float(still.abs().max()))


def test_a_wider_box_changes_only_what_lies_outside(projector):
    images = projector.project(matrix_from_euler(0.2, 0.5, 0.1)[None], np.array([1]))
    narrow, wide = contrast(images, 160, defocus_A=5000.0), contrast(images, 200, defocus_A=5000.0)
    difference = (wide[:, 60:140, 60:140] - narrow[:, 40:120, 40:120]).abs().max()
    assert difference < 0.01 * narrow.abs().max()
    with pytest.raises(HalfmapError, match="cannot hold"):
        contrast(images, 32)
