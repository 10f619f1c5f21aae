"""Small particles with known poses, in memory."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from halfmap.data.records import ImageSet, Volume
from halfmap.data.table import Table
from halfmap.geometry.rotations import euler_from_matrix, random_rotations
from halfmap.geometry.symmetry import point_group
from halfmap.refine.images.lattice import MapGrid
from halfmap.refine.images.observations import Observations
from halfmap.simulate.projection import Optics, Projector, contrast_images

OPTICS = Optics(300.0, 2.7, 0.1)


def gaussian_phantom(box_px, pixel_size_A, diameter_A, symmetry="C1", n=40, sigma_A=2.5, seed=0, turn=None):
    """Gaussian blobs at random places within a sphere, and all their symmetry mates; turned as a whole if asked."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n, 3))
    centres *= 0.42 * diameter_A * rng.uniform(size=(n, 1)) ** (1 / 3) / np.linalg.norm(centres, axis=1, keepdims=True)
    centres = np.concatenate([centres @ operator.T for operator in point_group(symmetry).numpy()])
    centres = centres if turn is None else centres @ np.asarray(turn).T
    axis = (np.arange(box_px) - box_px // 2) * pixel_size_A
    profile = np.exp(-((axis[None, None] - centres.T[:, :, None]) ** 2) / (2 * sigma_A**2))
    x, y, z = profile
    return Volume(np.einsum("nz,ny,nx->zyx", z, y, x, optimize=True).astype(np.float32), pixel_size_A)


@dataclass
class ArrayReader:
    """Images held in memory, read as files are."""

    images: list

    def read(self, indices):
        return np.stack([self.images[i] for i in indices]).astype(np.float32)


@dataclass
class Simulated:
    """Particles, their pixels, and the truth about them."""

    image_set: ImageSet
    images: list
    rot_img_from_map: torch.Tensor
    shift_A: torch.Tensor

    def observations(self, grid, diameter_A, **kwargs):
        return Observations(self.image_set, ArrayReader(self.images), grid, diameter_A, **kwargs)

    def with_images(self, images):
        return replace(self, images=list(images))


def simulate(volumes, counts, snr, diameter_A, seed=0, shift_sigma_A=4.0, rot=None):
    """Noisy images of one optics group for each volume (the same map on other grids), at given or random poses."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    n = sum(counts)
    rot = random_rotations(n, generator) if rot is None else rot
    u = rng.uniform(8000, 20000, n)
    v, angle = u - rng.uniform(100, 800, n), rng.uniform(0, np.pi, n)
    shift = torch.as_tensor(rng.normal(0, shift_sigma_A, (n, 2)))
    images, group = [], np.repeat(np.arange(1, len(counts) + 1), counts)
    for number, volume in enumerate(volumes, start=1):
        rows = np.flatnonzero(group == number)
        projections = Projector([volume]).project(rot[rows], np.ones(len(rows), int))
        clean = contrast_images(
            projections, volume.data.shape[0], volume.pixel_size_A, defocus_u_A=torch.as_tensor(u[rows]),
            defocus_v_A=torch.as_tensor(v[rows]), defocus_angle_rad=torch.as_tensor(angle[rows]),
            displacement_A=-shift[rows], optics=OPTICS,
        ).numpy()  # fmt: skip
        axis = (np.arange(clean.shape[1]) - clean.shape[1] // 2) * volume.pixel_size_A
        inside = np.hypot(axis[:, None], axis) < diameter_A / 2
        images += list(clean + rng.normal(0, np.sqrt(clean[:, inside].var() / snr), clean.shape))
    euler = euler_from_matrix(rot).numpy()
    rows = Table.of(
        image_name=[f"{i + 1}@particles.mrcs" for i in range(n)], uid=np.arange(1, n + 1), optics_group=group,
        micrograph_name=[f"micrograph{i // 10}.mrc" for i in range(n)], defocus_u_A=u, defocus_v_A=v,
        defocus_angle_rad=angle, rot_rad=euler[:, 0], tilt_rad=euler[:, 1], psi_rad=euler[:, 2],
        shift_x_A=shift[:, 0].numpy(), shift_y_A=shift[:, 1].numpy(),
    )  # fmt: skip
    groups = range(1, len(counts) + 1)
    optics = Table.of(
        optics_group=list(groups), optics_group_name=[f"group{i}" for i in groups],
        voltage_kV=[OPTICS.voltage_kV] * len(counts), cs_mm=[OPTICS.cs_mm] * len(counts),
        amplitude_contrast=[OPTICS.amplitude_contrast] * len(counts),
        image_pixel_size_A=[volume.pixel_size_A for volume in volumes],
        box_px=[volume.data.shape[0] for volume in volumes],
    )  # fmt: skip
    return Simulated(ImageSet("particles", rows, optics), images, rot, shift)


@dataclass
class QuietSession:
    """A session that remembers what it was told, and can be killed after a checkpoint."""

    seed: int = 1
    threads: int = 1
    memory_GB: float = 1.0
    die_at: int = 0
    messages: list = field(default_factory=list)
    warnings: list = field(default_factory=list)
    checkpoints: dict = field(default_factory=dict)
    indices: list = field(default_factory=list)

    def log(self, message):
        self.messages.append(message)

    def warn(self, message):
        self.warnings.append(message)

    @contextmanager
    def progress(self, label, total):
        yield self

    def advance(self, count=1, note=""):
        pass

    def show(self, write):
        pass

    def save_checkpoint(self, name, index, arrays, facts):
        self.indices.append(index)
        self.checkpoints[name] = (index, {k: np.array(v) for k, v in arrays.items()}, dict(facts))
        if index == self.die_at:
            raise KeyboardInterrupt

    def load_checkpoint(self, name):
        return self.checkpoints.get(name)


@pytest.fixture(scope="session")
def phantom() -> Callable[..., Volume]:
    return gaussian_phantom


@pytest.fixture(scope="session")
def simulated() -> Callable[..., Simulated]:
    return simulate


@pytest.fixture
def session() -> type[QuietSession]:
    return QuietSession


@pytest.fixture(scope="session")
def tiny(phantom, simulated):
    """A 32 px phantom of 60 Å and 24 particles of it, with some noise."""
    volume = phantom(32, 3.0, 60.0, n=12)
    return volume, simulated([volume], [24], snr=0.5, diameter_A=60.0), MapGrid(32, 3.0)
