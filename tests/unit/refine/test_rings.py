"""The search by rings against the sum over pixels that it stands for, written out in float64."""

import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.refine.rings.average import averages, empty_sums, on_larger_grid, sum_aligned, sum_images
from halfmap.refine.rings.sampling import ring_points
from halfmap.refine.rings.search import search
from halfmap.refine.rings.transform import (
    RingGrid,
    RingTransform,
    angular_coefficients,
    from_angular_coefficients,
    interpolation_taps,
    log_likelihoods,
    ring_grid,
    ring_references,
    shift_phases,
)

BOX = 48
RADIUS = 16
OBJECT = 0.32


class Blobs:
    """Gaussians in the plane, whose transform is known in closed form."""

    def __init__(self, seed, n=12):
        rng = np.random.default_rng(seed)
        angle, radius = rng.uniform(0, 2 * np.pi, n), 0.9 * OBJECT * BOX * np.sqrt(rng.uniform(size=n))
        self.centre = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
        self.height, self.width = rng.uniform(0.3, 1.3, n), rng.uniform(1.0, 1.8, n)

    def __call__(self, kx, ky):
        envelope = np.exp(-2 * np.pi**2 * self.width**2 * ((kx**2 + ky**2) / BOX**2)[..., None])
        phase = np.exp(-2j * np.pi * (kx[..., None] * self.centre[:, 0] + ky[..., None] * self.centre[:, 1]) / BOX)
        return (self.height * 2 * np.pi * self.width**2 * envelope * phase).sum(axis=-1)

    def turned(self, kx, ky, psi_rad):
        """The transform of the image at an in-plane angle: P(angle + psi)."""
        c, s = np.cos(psi_rad), np.sin(psi_rad)
        return self(c * kx - s * ky, s * kx + c * ky)


def pixels(radius=RADIUS):
    kx, ky = (k.ravel() for k in np.meshgrid(np.arange(0, radius + 1), np.arange(-radius, radius + 1)))
    keep = (np.hypot(kx, ky) <= radius) & ((kx > 0) | (ky > 0))
    return kx[keep].astype(float), ky[keep].astype(float)


def astigmatic_ctf(kx, ky, seed, astigmatism=0.2):
    rng = np.random.default_rng(seed)
    strength = rng.uniform(0.02, 0.05) * (1 + astigmatism * np.cos(2 * (np.arctan2(ky, kx) - rng.uniform(0, np.pi))))
    return np.sin(strength * (kx**2 + ky**2) + 0.1)


@pytest.fixture(scope="module")
def case():
    """Three references, three images of them at the first in-plane angle, with astigmatic CTF and noise."""
    grid = ring_grid(RADIUS, OBJECT)
    kx, ky = pixels()
    blobs = [Blobs(seed) for seed in range(3)]
    points = ring_points(grid, torch.device("cpu")).numpy()
    polar = np.stack([blob(points[..., 0], points[..., 1]) for blob in blobs]).astype(np.complex64)
    rng = np.random.default_rng(7)
    ctf = np.stack([astigmatic_ctf(kx, ky, seed) for seed in range(3)])
    clean = ctf * np.stack([blob(kx, ky) for blob in blobs])
    sigma2 = 4 * np.mean(np.abs(clean) ** 2)
    noise = rng.normal(size=(2, *clean.shape)) * np.sqrt(sigma2 / 2)
    images = clean + noise[0] + 1j * noise[1]
    return {
        "grid": grid, "kx": kx, "ky": ky, "blobs": blobs, "ctf": ctf, "images": images, "sigma2": sigma2,
        "transform": RingTransform(grid, kx, ky, torch.device("cpu")),
        "polar": torch.as_tensor(polar), "references": ring_references(grid, torch.as_tensor(polar)),
        "weighted": torch.as_tensor((ctf * images / sigma2).astype(np.complex64)),
        "weights": torch.as_tensor((ctf**2 / sigma2).astype(np.float32)),
    }  # fmt: skip


def brute_force(case, shifts_px, n_angles):
    """-|image - CTF reference|^2 / sigma2 summed over pixel pairs, minus that of an empty image."""
    kx, ky = case["kx"], case["ky"]
    scores = np.empty((3, n_angles, len(shifts_px), 3))
    for d, blob in enumerate(case["blobs"]):
        for j in range(n_angles):
            model = case["ctf"] * blob.turned(kx, ky, 2 * np.pi * j / n_angles)
            for s, (x, y) in enumerate(shifts_px):
                shifted = case["images"] * np.exp(-2j * np.pi * (kx * x + ky * y) / BOX)
                gain = np.abs(shifted) ** 2 - np.abs(shifted - model) ** 2
                scores[:, j, s, d] = gain.sum(axis=1) / case["sigma2"]
    return scores


SHIFTS = np.array([[0.0, 0.0], [2.0, -1.5]])


def shifted(case, shifts=SHIFTS):
    phases = shift_phases(torch.as_tensor(case["kx"]), torch.as_tensor(case["ky"]), torch.as_tensor(shifts), BOX)
    return (case["weighted"][:, None] * phases).flatten(0, 1)


def test_scores_are_the_pixelwise_likelihood(case):
    found = log_likelihoods(
        case["references"], case["transform"].images(shifted(case)), case["transform"].power(case["weights"])
    ).numpy()
    expected = brute_force(case, SHIFTS, case["grid"].n_angles)
    error, spread = found - expected, expected.std()
    assert np.sqrt(np.mean(error**2)) < 0.04 * spread
    # Most of the error is one offset for each image and reference, which is the same for all poses.
    assert (error - error.mean(axis=(1, 2), keepdims=True)).std() < 0.01 * spread


def test_without_interpolation_between_rings_scores_are_exact():
    """Pixels that lie on rings: what is left is rounding."""
    grid = RingGrid(12, 80, OBJECT)
    radius = np.repeat([4.0, 7.0, 9.0], 10)
    angle = np.random.default_rng(0).uniform(-np.pi / 2, np.pi / 2, 30)
    kx, ky = radius * np.cos(angle), radius * np.sin(angle)
    blob = Blobs(5)
    points = ring_points(grid, torch.device("cpu")).numpy()
    references = ring_references(grid, torch.as_tensor(blob(points[..., 0], points[..., 1])[None].astype(np.complex64)))
    transform = RingTransform(grid, kx, ky, torch.device("cpu"))
    image = np.random.default_rng(1).normal(size=(1, 30)) * 1j + 0.3
    weights = np.full((1, 30), 0.01)
    found = log_likelihoods(
        references, transform.images(torch.as_tensor(image.astype(np.complex64))),
        transform.power(torch.as_tensor(weights.astype(np.float32))),
    )[0, :, 0, 0].numpy()  # fmt: skip
    models = [blob.turned(kx, ky, psi) for psi in grid.psi_rad]
    expected = [(2 * np.real(np.conj(image[0]) * m) - 0.01 * np.abs(m) ** 2).sum() for m in models]
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()


def test_best_mode_is_the_true_pose(case):
    grid, kx, ky = case["grid"], case["kx"], case["ky"]
    turn = 11
    displaced = np.exp(2j * np.pi * (kx * 3.0 + ky * -2.0) / BOX)
    image = case["blobs"][1].turned(kx, ky, grid.psi_rad[turn]) * displaced
    shifts = torch.tensor([[x, y] for x in (-3.0, 0.0, 3.0) for y in (-2.0, 0.0, 2.0)])
    phases = shift_phases(torch.as_tensor(kx), torch.as_tensor(ky), shifts, BOX)
    noise_power = 100.0
    modes = search(
        case["transform"], case["references"], torch.as_tensor((image / noise_power).astype(np.complex64))[None],
        torch.full((1, len(kx)), 1 / noise_power), phases,
    )  # fmt: skip
    assert int(modes.direction[0, 0]) == 1
    assert float(modes.psi_rad[0, 0]) == pytest.approx(grid.psi_rad[turn])
    # The image was multiplied by exp(+2 pi i k . shift): this shift centres it.
    assert shifts[modes.shift[0, 0]].tolist() == [3.0, -2.0]


def test_turning_the_references_turns_the_scores(case):
    grid = case["grid"]
    images, power = case["transform"].images(case["weighted"]), case["transform"].power(case["weights"])
    before = log_likelihoods(case["references"], images, power)
    steps = 5
    full = torch.cat([case["polar"], case["polar"].conj()], dim=-1)
    turned = torch.roll(full, -steps, dims=-1)[..., : grid.n_angles // 2]
    after = log_likelihoods(ring_references(grid, turned.contiguous()), images, power)
    # The scores hold all in-plane angles, and the reference now has angle + steps where angle was.
    assert torch.allclose(after, torch.roll(before, -steps, dims=1), atol=2e-4 * float(before.abs().max()))


def test_chunks_give_the_same_modes(case):
    phases = shift_phases(torch.as_tensor(case["kx"]), torch.as_tensor(case["ky"]), torch.as_tensor(SHIFTS), BOX)
    arguments = (case["transform"], case["references"], case["weighted"], case["weights"], phases)
    together = search(*arguments, n_modes=5)
    apart = search(*arguments, n_modes=5, memory_GB=1e-6)
    for name in ("direction", "psi_rad", "shift"):
        assert torch.equal(getattr(together, name), getattr(apart, name))
    assert torch.allclose(together.log_evidence, apart.log_evidence, rtol=1e-5)


def test_evidence_is_the_sum_over_all_poses(case):
    phases = shift_phases(torch.as_tensor(case["kx"]), torch.as_tensor(case["ky"]), torch.as_tensor(SHIFTS), BOX)
    prior = torch.log(torch.tensor([[0.1, 0.2, 0.3], [0.1, 0.1, 0.2]]))
    modes = search(case["transform"], case["references"], case["weighted"], case["weights"], phases, log_prior=prior)
    scores = log_likelihoods(
        case["references"], case["transform"].images(shifted(case)), case["transform"].power(case["weights"])
    )
    expected = torch.logsumexp((scores.double() + prior).flatten(1), dim=1)
    assert torch.allclose(modes.log_evidence.double(), expected, rtol=1e-4)
    assert torch.equal(modes.log_weight, modes.log_weight.sort(dim=1, descending=True).values)


def test_coefficients_of_half_rings_return(case):
    grid, polar = case["grid"], case["polar"]
    back = from_angular_coefficients(grid, angular_coefficients(grid, polar))
    assert (back - polar).abs().max() < 2e-3 * polar.abs().max()


def test_summing_is_the_adjoint_of_scoring(case):
    """sum posterior * cross term = the scalar product of the sums with the reference."""
    grid = case["grid"]
    images = case["transform"].images(shifted(case))
    generator = torch.Generator().manual_seed(0)
    posterior = torch.rand(3, grid.n_angles, 2, 3, generator=generator)
    nothing = torch.zeros_like(case["transform"].power(case["weights"]))
    scores = log_likelihoods(case["references"], images, nothing)
    sums = sum_images(grid, posterior, images, case["transform"].normal(case["weights"]))
    own = angular_coefficients(grid, case["polar"])
    product = (torch.view_as_complex(sums.numerator).conj() * own).real
    total = (product[0].sum() + 2 * product[1:].sum()) / grid.n_angles
    assert float((scores * posterior).sum()) == pytest.approx(float(total), rel=1e-4)
    assert sums.count.sum() == pytest.approx(float(posterior.sum()), rel=1e-5)


@pytest.fixture(scope="module")
def averaged():
    """CTF-corrected averages of 120 clean images at random in-plane angles, and what they should be."""
    grid = ring_grid(RADIUS, OBJECT)
    kx, ky = pixels()
    transform = RingTransform(grid, kx, ky, torch.device("cpu"))
    blob, rng = Blobs(3), np.random.default_rng(0)
    n = 120
    psi = rng.uniform(0, 2 * np.pi, n)
    ctf = np.stack([astigmatic_ctf(kx, ky, seed, 0.05) for seed in range(n)])
    images = ctf * np.stack([blob.turned(kx, ky, angle) for angle in psi])
    weights = torch.as_tensor((ctf**2).astype(np.float32))
    sums = sum_aligned(
        grid, torch.ones(n, 1), torch.as_tensor(psi),
        transform.images(torch.as_tensor((ctf * images).astype(np.complex64))), transform.normal(weights),
    )  # fmt: skip
    points = ring_points(grid, torch.device("cpu")).numpy()
    return grid, sums, torch.as_tensor(blob(points[..., 0], points[..., 1]).astype(np.complex64))


def test_averages_are_corrected_for_the_ctf(averaged):
    grid, sums, truth = averaged
    found = averages(grid, sums, torch.full((1, grid.n_rings), 1e-3, dtype=torch.float64))[0]
    inside = slice(4, RADIUS - 1)  # the innermost rings have too few pixels to be even over angles
    assert float((found - truth)[inside].norm()) < 0.03 * float(truth[inside].norm())
    by_ring = (found - truth).norm(dim=1) / truth.norm(dim=1)
    assert float(by_ring[inside].median()) < 0.05


def test_a_strong_prior_leaves_nothing(averaged):
    grid, sums, truth = averaged
    found = averages(grid, sums, torch.full((1, grid.n_rings), 1e6, dtype=torch.float64))[0]
    assert float(found.abs().max()) < 1e-3 * float(truth.abs().max())


def test_sums_carry_over_to_a_larger_grid(averaged):
    grid, sums, _ = averaged
    larger = ring_grid(RADIUS + 6, OBJECT)
    moved = on_larger_grid(sums, larger)
    assert torch.equal(moved.numerator[: grid.n_orders, :, : grid.n_rings], sums.numerator)
    assert float(moved.numerator[:, :, grid.n_rings :].abs().max()) == 0
    with pytest.raises(HalfmapError):
        on_larger_grid(moved, grid)
    assert float(empty_sums(grid, 2, torch.device("cpu")).numerator.abs().sum()) == 0


def test_interpolation_reproduces_objects_within_the_radius():
    position = np.linspace(-OBJECT, OBJECT, 41)
    offset = np.linspace(2.0, 3.0, 11)
    taps = interpolation_taps(offset, 6, OBJECT)
    found = np.einsum("nj,jt->nt", taps, np.exp(2j * np.pi * np.outer(np.arange(6), position)))
    error = np.abs(found - np.exp(2j * np.pi * np.outer(offset, position)))
    assert np.sqrt((error**2).mean()) < 0.02
    assert np.allclose(taps[0], np.eye(6)[2], atol=1e-6)


def test_pixels_beyond_the_rings_are_refused():
    grid = ring_grid(8, OBJECT)
    with pytest.raises(HalfmapError):
        RingTransform(grid, np.array([20.0]), np.array([0.0]), torch.device("cpu"))
    with pytest.raises(HalfmapError):
        RingTransform(grid, np.array([0.0]), np.array([0.0]), torch.device("cpu"))


@pytest.mark.parametrize("arguments", [(3, 64, 0.3), (12, 30, 0.3), (12, 64, 0.7)])
def test_impossible_grids_are_refused(arguments):
    with pytest.raises(HalfmapError):
        RingGrid(*arguments)
