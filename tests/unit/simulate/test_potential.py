import gemmi
import numpy as np
import pytest
import torch

from halfmap.errors import HalfmapError
from halfmap.simulate.atoms import Atoms, join
from halfmap.simulate.form_factors import (
    ICE_POTENTIAL_V,
    POTENTIAL_PER_FORM_FACTOR_V_A2,
    form_factor_A,
    ice_phase_variance_density,
    potential_transform,
)
from halfmap.simulate.helix import alpha_helix
from halfmap.simulate.potential import scattering_potential


def few_atoms():
    generator = np.random.default_rng(1)
    element = np.array(["C", "N", "O", "C", "S", "H"])
    return Atoms(element, generator.uniform(-12, 12, (6, 3)), generator.uniform(5, 80, 6), np.linspace(0.5, 1, 6))


def direct_transform(atoms, n, pixel_A, solvent_V):
    """Sum over atoms at every frequency below Nyquist, float64, without grids or kernels."""
    k = np.fft.fftfreq(n, pixel_A)
    kz, ky, kx = np.meshgrid(k, k, np.fft.rfftfreq(n, pixel_A), indexing="ij")
    radius = np.sqrt(kx**2 + ky**2 + kz**2)
    total = np.zeros(radius.shape, complex)
    for element, (x, y, z), b, occupancy in zip(
        atoms.element, atoms.position_A, atoms.bfactor_A2, atoms.occupancy, strict=True
    ):
        weight = potential_transform(element, radius, solvent_V=solvent_V, with_hydrogens=not atoms.has_hydrogens)
        phase = np.exp(-2j * np.pi * (kx * x + ky * y + kz * z))
        total += occupancy * weight * np.exp(-b * radius**2 / 4) * phase
    below = (np.abs(kx) < k.max() * 1.001) & (np.abs(ky) < k.max() * 1.001) & (np.abs(kz) < k.max() * 1.001)
    return total, below


@pytest.mark.parametrize("n", [24, 25])
@pytest.mark.parametrize("solvent_V", [0.0, ICE_POTENTIAL_V])
def test_potential_equals_the_direct_sum_over_atoms(n, solvent_V):
    atoms = few_atoms()
    volume = scattering_potential(atoms, n, 1.6, solvent_V=solvent_V).data
    transform = torch.fft.rfftn(torch.fft.ifftshift(torch.from_numpy(volume).double())).numpy() * 1.6**3
    expected, below = direct_transform(atoms, n, 1.6, solvent_V)
    assert np.abs(transform - expected)[below].max() < 1e-4 * np.abs(expected).max()


def test_potential_equals_gemmi_where_gemmi_samples_finely():
    atoms = Atoms.uniform(np.array(["C", "N", "O", "H"]), few_atoms().position_A[:4], 60.0)
    n, pixel = 48, 0.7
    model, chain, residue = gemmi.Model(1), gemmi.Chain("A"), gemmi.Residue()
    for element, position in zip(atoms.element, atoms.position_A, strict=True):
        atom = gemmi.Atom()
        atom.element, atom.b_iso = gemmi.Element(element), 60.0
        atom.pos = gemmi.Position(*(position + n // 2 * pixel))
        residue.add_atom(atom)
    chain.add_residue(residue)
    model.add_chain(chain)
    calculator = gemmi.DensityCalculatorE()
    calculator.grid.set_unit_cell(gemmi.UnitCell(n * pixel, n * pixel, n * pixel, 90, 90, 90))
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    calculator.grid.set_size(n, n, n)
    calculator.add_model_density_to_grid(model)
    reference = np.array(calculator.grid.array).transpose(2, 1, 0) * POTENTIAL_PER_FORM_FACTOR_V_A2
    volume = scattering_potential(atoms, n, pixel, solvent_V=0.0).data
    assert np.abs(volume - reference).max() < 2e-3 * reference.max()


def test_pixel_size_changes_the_sampling_and_nothing_else():
    atoms = few_atoms()
    coarse = scattering_potential(atoms, 24, 2.0, solvent_V=0.0, lowpass_A=5.0).data
    fine = scattering_potential(atoms, 48, 1.0, solvent_V=0.0, lowpass_A=5.0).data
    assert np.abs(fine[::2, ::2, ::2] - coarse).max() < 1e-3 * coarse.max()


def test_origin_is_the_middle_voxel():
    at_origin = Atoms.uniform(np.array(["O"]), np.zeros((1, 3)), 40.0)
    moved = Atoms.uniform(np.array(["O"]), np.array([[4.5, -3.0, 1.5]]), 40.0)
    first = scattering_potential(at_origin, 20, 1.5, solvent_V=0.0).data
    second = scattering_potential(moved, 20, 1.5, solvent_V=0.0).data
    assert np.unravel_index(first.argmax(), first.shape) == (10, 10, 10)
    assert np.unravel_index(second.argmax(), second.shape) == (11, 8, 13)


def test_protein_stands_out_of_ice_by_a_few_volts():
    helix = alpha_helix(24)
    bundle = join(
        [
            Atoms.uniform(helix.element, helix.position_A + np.array([x, y, 0.0]), 40.0)
            for x in (-10.0, 0.0, 10.0)
            for y in (-8.7, 0.0, 8.7)
        ]
    )
    inside = scattering_potential(bundle, 24, 2.5, solvent_V=ICE_POTENTIAL_V).data[9:15, 10:14, 10:14].mean()
    in_vacuum = scattering_potential(bundle, 24, 2.5, solvent_V=0.0).data[9:15, 10:14, 10:14].mean()
    assert 4.0 < ICE_POTENTIAL_V < 5.0
    assert 6.5 < in_vacuum < 10.0
    assert 1.5 < inside < 5.0


def test_same_atoms_give_the_same_bits():
    first = scattering_potential(few_atoms(), 24, 1.5, solvent_V=4.0).data
    assert first.dtype == np.float32
    assert np.array_equal(first, scattering_potential(few_atoms(), 24, 1.5, solvent_V=4.0).data)


def test_atoms_outside_the_box_and_unknown_elements_are_errors():
    with pytest.raises(HalfmapError, match="Use a box of at least"):
        scattering_potential(few_atoms(), 16, 1.0, solvent_V=0.0)
    strange = Atoms.uniform(np.array(["Es"]), np.zeros((1, 3)), 10.0)
    with pytest.raises(HalfmapError, match="no electron form factor"):
        scattering_potential(strange, 16, 1.0, solvent_V=0.0)
    with pytest.raises(HalfmapError, match="without atoms"):
        Atoms.uniform(np.array([]), np.zeros((0, 3)), 10.0)


def test_form_factors_follow_mott_and_bethe_at_high_frequency():
    # f_e = 0.023934 (Z - f_x) / s² with s = k / 2, and f_x is nearly gone at k = 3 / Å.
    k = np.array([3.0])
    assert form_factor_A("C", k)[0] == pytest.approx(0.023934 * 6 / (k[0] / 2) ** 2, rel=0.2)


def test_ice_scatters_most_at_the_ring_of_water():
    k = np.linspace(0.02, 0.5, 97)
    power = ice_phase_variance_density(k, 300.0, 300.0) / form_factor_A("O", k) ** 2
    assert 1 / 4.0 < k[power.argmax()] < 1 / 3.4
    assert ice_phase_variance_density(k, 600.0, 300.0) == pytest.approx(2 * ice_phase_variance_density(k, 300.0, 300.0))
