from __future__ import annotations

import math

import numpy as np
import pytest

from e2eio.sim.helix import Helices
from e2eio.sim.layers import CMS_TRACKER, disk, radiation_lengths, shell
from e2eio.sim.material import cross_tracker, pair_shares, radiate
from e2eio.sim.particles import SimParticles


def beam(
    n: int, kind: int, eta: float = 0.0, pt: float = 50.0, charge: float = 0.0
) -> SimParticles:
    columns = {"pt": pt, "eta": eta, "phi": 1.0, "charge": charge, "kind": kind}
    return SimParticles.of(**{name: np.full(n, value) for name, value in columns.items()})


def test_the_budget_is_that_of_the_cms_tracker() -> None:
    """0.4 radiation lengths in the middle, up to 2 where cables leave the barrel, less beyond (CMS)."""
    eta = np.linspace(0, 2.5, 51)
    budget = radiation_lengths(eta)
    assert budget[0] == pytest.approx(0.417, abs=1e-3)  # added up by hand
    assert 1.3 < eta[np.argmax(budget)] < 1.8
    assert 1.7 < budget.max() < 2.2
    assert 1.0 < budget[-1] < 1.5
    np.testing.assert_allclose(radiation_lengths(-eta), budget, rtol=1e-9)


def test_slanted_ways_through_shells_and_disks_are_longer() -> None:
    layers = (shell(50.0, 0.0, 0.1, 100.0, 0.3, 200.0), disk(300.0, 0.0, 0.2, 90.0))
    eta = np.array([0.0, 1.0, 1.8, 2.2])
    found = radiation_lengths(eta, layers)
    expected = [0.1, 0.1 * math.cosh(1.0), 0.3 * math.cosh(1.8), 0.2 / math.tanh(2.2)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("eta", [0.0, 1.4])
def test_photons_convert_as_often_as_their_way_in_radiation_lengths_says(eta: float) -> None:
    n = 3000
    photons = beam(n, 22, eta)
    crossed = cross_tracker(photons, np.random.default_rng(1))
    chance = 1 - math.exp(-7 / 9 * radiation_lengths(np.array([eta]))[0])
    # Photons that electrons of conversions radiate convert as well: each photon counts once.
    found = len(np.unique(crossed.pair_origin)) / n
    assert abs(found - chance) < 4 * math.sqrt(chance * (1 - chance) / n)
    assert set(crossed.pairs.kind) == {11}
    assert crossed.pairs.charge.sum() == 0
    made_at = np.hypot(crossed.pairs.x, crossed.pairs.y)
    assert 2.9 < made_at.min() < made_at.max() < 120.1


def test_shares_of_pairs_have_the_moments_of_their_density() -> None:
    shares = pair_shares(40_000, np.random.default_rng(2))
    assert shares.mean() == pytest.approx(0.5, abs=0.006)
    assert shares.var() == pytest.approx(9 / 7 * 4 / 15 - 0.25, abs=0.003)


@pytest.mark.parametrize("thickness", [0.1, 0.4, 1.5])
def test_electrons_keep_their_energy_as_an_exponential_of_the_way(thickness: float) -> None:
    n = 4000
    electrons = beam(n, 11, charge=-1)
    slowed, photons, which = radiate(electrons, np.full(n, thickness), np.random.default_rng(3))
    kept = slowed.energy / electrons.energy
    assert abs(kept.mean() - math.exp(-thickness)) < 4 * kept.std() / math.sqrt(n)
    radiated = np.bincount(which, photons.energy, n)
    np.testing.assert_allclose(slowed.energy + radiated, electrons.energy, rtol=1e-9)
    assert (photons.energy / electrons.energy[which] < 1).all()
    hard = (
        photons.energy > 25
    ).sum() / n  # more than half of the energy, where one radiation is the first
    if thickness == 0.1:
        assert hard == pytest.approx(0.1 * (4 / 3 * math.log(2) - 2 / 3 + 3 / 8), rel=0.15)


def test_energy_is_kept_and_every_particle_knows_where_it_comes_from() -> None:
    particles = beam(200, 11, eta=1.2, charge=1)
    crossed = cross_tracker(particles, np.random.default_rng(4))
    sums = np.bincount(crossed.origin, crossed.particles.energy, 200)
    lost = 1 - sums / particles.energy
    assert (lost > -1e-9).all()
    assert lost.mean() < 0.01  # what was too soft to be followed
    assert len(crossed.origin) > 600
    charge = np.bincount(crossed.origin, crossed.particles.charge, 200)
    assert abs(charge.mean() - 1) < 4 * charge.std() / math.sqrt(
        200
    )  # soft ones of a pair are lost


def test_what_radiates_is_spread_to_the_side_from_which_the_track_bends_away() -> None:
    layers = (shell(30.0, 0.0, 0.3, 120.0),)
    for charge in (-1.0, 1.0):
        electrons = beam(300, 11, pt=20, charge=charge)
        crossed = cross_tracker(electrons, np.random.default_rng(5), layers)
        at = Helices(crossed.particles).at_calorimeter()
        photons = at.reached & (crossed.particles.kind == 22)
        straight = Helices(electrons).at_calorimeter().phi[0]
        aside = charge * (at.phi[photons] - straight)
        half = 20 / 1.14 * 100  # the radius, cm: from 30 cm on the direction is turned by 30 / R
        kink = math.asin(15 / half)
        expected = math.asin(64.5 / half) - 2 * kink + math.asin(math.sin(kink) * 30 / 129)
        assert len(aside) > 100
        np.testing.assert_allclose(aside, expected, rtol=1e-3)


def test_hadrons_muons_and_soft_photons_pass_unchanged() -> None:
    rng = np.random.default_rng(6)
    kinds = np.array([211, 13, 130, 22])
    given = SimParticles.of(
        pt=[5.0, 5.0, 5.0, 0.01],
        eta=rng.uniform(-2, 2, 4) * [1, 1, 1, 0.1],
        phi=rng.uniform(-3, 3, 4),
        charge=[1, -1, 0, 0],
        kind=kinds,
    )
    crossed = cross_tracker(given, rng)
    assert crossed.origin.tolist() == [0, 1, 2, 3]
    for name in SimParticles.__slots__:
        assert np.array_equal(getattr(crossed.particles, name), getattr(given, name)), name
    assert len(crossed.pairs) == 0


def test_no_material_changes_nothing_and_equal_draws_give_equal_particles() -> None:
    electrons = beam(20, 11, charge=1)
    assert cross_tracker(electrons, np.random.default_rng(0), ()).particles.energy.tolist() == (
        electrons.energy.tolist()
    )
    one, other = (cross_tracker(electrons, np.random.default_rng(7)) for _ in range(2))
    assert one.particles.energy.tobytes() == other.particles.energy.tobytes()
    assert (
        len(cross_tracker(electrons.take(np.zeros(0, np.int64)), np.random.default_rng(0)).origin)
        == 0
    )


@pytest.mark.parametrize("charge", [-1.0, 0.0, 1.0])
def test_particles_that_were_carried_some_way_meet_the_ecal_where_they_would_have(
    charge: float,
) -> None:
    start = SimParticles.of(pt=[1.7], eta=[0.6], phi=[0.4], charge=[charge], kind=[11], z=[3.0])
    helices = Helices(start)
    way, reached = helices.way_to_radius(60.0)
    assert reached.all()
    later, _ = helices.carried(way, reached)
    assert np.hypot(later.x, later.y)[0] == pytest.approx(60.0)
    ends = [Helices(each).at_calorimeter() for each in (start, later)]
    for name in ("radius", "phi", "z"):
        np.testing.assert_allclose(getattr(ends[1], name), getattr(ends[0], name), rtol=1e-6)


def test_layers_are_met_from_inside_to_outside() -> None:
    """Along straight tracks, way by way: nobody is to come to a layer that lies behind it."""
    for eta in np.linspace(0.05, 2.45, 25):
        photon = beam(1, 22, eta)
        helices = Helices(photon)
        ways = []
        for layer in CMS_TRACKER:
            way, reached = layer.way_to(helices)
            at = helices.places(way, reached)
            if layer.crossed(at, photon.eta, photon.phi)[0] > 0:
                ways.append(way[0])
        assert ways == sorted(ways), eta
