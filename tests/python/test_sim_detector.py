from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from e2eio.detector_grid import CRYSTAL_RAD, ECAL_RADIUS_M, FIELD_GEV_PER_M
from e2eio.presets import find_preset
from e2eio.sim.apparatus import CMS_RUN_1
from e2eio.sim.calorimeters import (
    ecal_deposits,
    ecal_spots,
    hcal_deposits,
    read_ecal,
    read_hcal,
    share_energy,
)
from e2eio.sim.helix import Helices
from e2eio.sim.images import CHANNELS, crop_jet, jet_centres, look
from e2eio.sim.particles import SimParticles, join
from e2eio.sim.pixels import pixel_hits
from e2eio.sim.tracks import Tracks, measure_tracks

PERFECT = replace(CMS_RUN_1, track_efficiency=(1.0, 1.0), pixel_efficiency=1.0)
EXACT = replace(
    PERFECT, track_pt_resolution=(0.0, 0.0), d0_resolution=(0.0, 0.0), dz_resolution=(0.0, 0.0)
)


def measured(particles: SimParticles, vertex_z: float = 0.0) -> Tracks:
    helices = Helices(particles)
    rng = np.random.default_rng(0)
    return measure_tracks(particles, helices, helices.at_calorimeter(), vertex_z, EXACT, rng)


def event(n: int = 800, seed: int = 5) -> SimParticles:
    """Particles in all directions, some from displaced vertices."""
    rng = np.random.default_rng(seed)
    kind = rng.choice([211, 22, 130, 11, 13, 12], n, p=[0.5, 0.3, 0.1, 0.04, 0.04, 0.02])
    charge = np.where(np.isin(kind, (211, 11, 13)), rng.choice([-1.0, 1.0], n), 0.0)
    x, y = np.where(rng.random(n) < 0.05, rng.normal(0, 3, (2, n)), 0.0)
    angles = {"eta": rng.uniform(-2, 2, n), "phi": rng.uniform(-math.pi, math.pi, n)}
    place = {"x": x, "y": y, "z": rng.normal(0, 5, n)}
    return SimParticles.of(
        pt=0.3 + rng.exponential(3, n), kind=kind, charge=charge, **angles, **place
    )


@pytest.mark.parametrize("charge", [-1.0, 0.0, 1.0])
def test_a_straight_track_lands_where_geometry_says(charge: float) -> None:
    particle = SimParticles.of(pt=[1e4], eta=[0.7], phi=[2.0], charge=[charge], z=[4.0])
    at = Helices(particle).at_calorimeter()
    assert at.reached.all()
    assert at.radius[0] == pytest.approx(100 * ECAL_RADIUS_M)
    assert at.z[0] == pytest.approx(4.0 + 129 * math.sinh(0.7), rel=1e-5)
    assert at.phi[0] == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("charge", [-1.0, 1.0])
@pytest.mark.parametrize("pt", [0.8, 2.0, 50.0])
def test_a_track_turns_by_the_formula(pt: float, charge: float) -> None:
    particle = SimParticles.of(pt=[pt], eta=[0.3], phi=[-1.0], charge=[charge], z=[1.0])
    at = Helices(particle).at_calorimeter()
    radius = 100 * pt / FIELD_GEV_PER_M
    turn = 2 * math.asin(129.0 / (2 * radius))
    assert at.phi[0] == pytest.approx(-1.0 - charge * turn / 2)
    assert at.z[0] == pytest.approx(1.0 + radius * turn * math.sinh(0.3))


def test_a_looping_track_meets_no_barrel_but_may_meet_an_endcap() -> None:
    particles = SimParticles.of(pt=[0.6, 0.6], eta=[0.1, 2.2], phi=[0.5, 0.5], charge=[1, 1])
    helices = Helices(particles)
    assert not helices.at_radius(129.0).reached.any()
    at = helices.at_calorimeter()
    assert at.reached.tolist() == [False, True]
    radius = 100 * 0.6 / FIELD_GEV_PER_M
    turn = 317.0 / (radius * math.sinh(2.2))
    assert at.radius[1] == pytest.approx(abs(2 * radius * math.sin(turn / 2)))
    assert at.z[1] == pytest.approx(317.0)
    assert len(measured(particles.take(np.array([0]))).pt) == 0


def test_forward_particles_meet_the_endcap_of_their_side() -> None:
    at = Helices(SimParticles.of(pt=[20.0, 20.0], eta=[2.0, -2.0], phi=[0.0, 0.0])).at_calorimeter()
    np.testing.assert_allclose(at.z, [317.0, -317.0])
    np.testing.assert_allclose(at.eta_from(0.0), [2.0, -2.0])


def test_displaced_helices_end_on_their_surface_and_begin_where_they_were_made() -> None:
    particles = event()
    at = Helices(particles).at_radius(60.0)
    assert at.reached.mean() > 0.8
    np.testing.assert_allclose(at.radius[at.reached], 60.0, rtol=1e-6)
    outside = SimParticles.of(pt=[5.0], eta=[0.0], phi=[0.0], charge=[1], x=[70.0])
    assert not Helices(outside).at_radius(60.0).reached.any()


def test_impact_parameters_are_those_of_the_straight_line_at_high_momentum() -> None:
    place = {"x": [0.3], "y": [-0.2], "z": [7.0]}
    particle = SimParticles.of(pt=[1e4], eta=[0.9], phi=[0.6], charge=[-1], **place)
    d0, dz = Helices(particle).impact(5.0)
    along = 0.3 * math.cos(0.6) - 0.2 * math.sin(0.6)
    assert d0[0] == pytest.approx(0.3 * math.sin(0.6) + 0.2 * math.cos(0.6), rel=1e-4)
    assert dz[0] == pytest.approx(2.0 - along * math.sinh(0.9), rel=1e-4)


@pytest.mark.parametrize("charge", [-1.0, 1.0])
def test_impact_parameters_do_not_depend_on_where_along_the_helix_one_looks(charge: float) -> None:
    start = SimParticles.of(pt=[1.5], eta=[0.5], phi=[0.2], charge=[charge], y=[0.4], z=[1.0])
    helices = Helices(start)
    later = helices.at_radius(20.0)
    way = (later.z[0] - 1.0) / math.sinh(0.5)
    place = {"x": later.radius * np.cos(later.phi), "y": later.radius * np.sin(later.phi)}
    phi = [0.2 - charge * way / helices.radius[0]]
    moved = SimParticles.of(pt=[1.5], eta=[0.5], phi=phi, charge=[charge], z=later.z, **place)
    np.testing.assert_allclose(Helices(moved).impact(0.0), helices.impact(0.0), rtol=1e-6)


def test_prompt_tracks_have_the_stated_resolution_and_efficiency() -> None:
    n = 40_000
    angles = {"eta": np.full(n, 0.5), "phi": np.linspace(-3, 3, n)}
    particles = SimParticles.of(pt=np.full(n, 3.0), charge=np.ones(n), z=np.full(n, 2.0), **angles)
    helices = Helices(particles)
    rng = np.random.default_rng(1)
    tracks = measure_tracks(particles, helices, helices.at_calorimeter(), 2.0, CMS_RUN_1, rng)
    assert len(tracks.pt) / n == pytest.approx(0.95, abs=0.005)
    assert tracks.pt.std() / 3.0 == pytest.approx(math.hypot(0.007, 0.00015 * 3), rel=0.03)
    assert tracks.d0.std() == pytest.approx(math.hypot(10e-4, 30e-4), rel=0.03)
    assert tracks.dz.std() == pytest.approx(math.hypot(30e-4, 130e-4 / 3) * 1.125, rel=0.03)
    assert (np.diff(tracks.pt) >= 0).all()


def test_tracks_are_charged_central_and_above_half_a_gev() -> None:
    particles = SimParticles.of(
        pt=[0.49, 9.0, 9.0, 9.0], eta=[2.0, 2.6, 0.0, 1.0], phi=[0.0] * 4, charge=[1, 1, 0, 1]
    )
    assert measured(particles).pt.tolist() == [9.0]


def test_ninety_per_cent_of_an_electromagnetic_shower_lie_within_a_moliere_radius() -> None:
    energy, core = np.full(400, 40.0), np.full(400, CMS_RUN_1.shower_core)
    shower, down, across, weights = ecal_spots(energy, core, CMS_RUN_1, np.random.default_rng(2))
    np.testing.assert_allclose(np.bincount(shower, weights), 40.0)
    within = np.hypot(down, across) < 2.19 / 2.2  # Moliere radius over a crystal's edge
    assert np.average(within, weights=weights) == pytest.approx(0.90, abs=0.005)


def test_energy_is_conserved_from_particles_to_crystals_and_towers() -> None:
    rng = np.random.default_rng(3)
    n = 300
    kind = np.where(np.arange(n) % 2, 22, 130)
    angles = {"eta": rng.uniform(-1, 1, n), "phi": rng.uniform(-9, 9, n)}
    particles = SimParticles.of(pt=rng.uniform(1, 60, n), kind=kind, **angles)
    at = Helices(particles).at_calorimeter()
    in_ecal, in_hcal = share_energy(particles, CMS_RUN_1, rng)
    assert in_ecal[1::2] == pytest.approx(particles.energy[1::2])
    assert in_hcal[1::2].max() == 0
    hadrons = particles.energy[::2]
    width = math.sqrt(hadrons.sum())  # 100 % / sqrt(E) of each
    assert abs((in_ecal + in_hcal)[::2].sum() - hadrons.sum()) < 4 * width
    crystals = ecal_deposits(particles, in_ecal, at, CMS_RUN_1, rng)
    towers = hcal_deposits(in_hcal, at, CMS_RUN_1, rng)
    assert crystals.sum() == pytest.approx(in_ecal.sum(), rel=1e-9)
    assert towers.sum() == pytest.approx(in_hcal.sum(), rel=1e-9)
    lit = crystals > 1
    read = read_ecal(crystals, CMS_RUN_1, rng)
    a, b, c = CMS_RUN_1.ecal_resolution
    pull = (read - crystals)[lit] / np.sqrt(a**2 * crystals + b**2 + (c * crystals) ** 2)[lit]
    assert pull.std() == pytest.approx(1.0, abs=0.1)


def test_crystals_and_towers_below_their_thresholds_are_empty() -> None:
    rng = np.random.default_rng(4)
    crystals = read_ecal(rng.exponential(0.2, (280, 360)), CMS_RUN_1, rng)
    assert crystals.dtype == np.float32
    barrel, endcap = crystals[60:220], crystals[:50]
    assert 0.080 < barrel[barrel > 0].min() < 0.1
    assert 0.300 < endcap[endcap > 0].min() < 0.4
    towers = read_hcal(np.zeros((56, 72)), CMS_RUN_1, rng)
    assert not towers.any()


def test_muons_pass_and_neutrinos_leave_nothing() -> None:
    angles = {"eta": [0.2, 0.2], "phi": [0.0, 1.0]}
    particles = SimParticles.of(pt=[50.0, 50.0], kind=[13, 12], **angles)
    in_ecal, in_hcal = share_energy(particles, CMS_RUN_1, np.random.default_rng(0))
    assert in_ecal.tolist() == [0.3, 0.0]
    assert 0 < in_hcal[0] < 10
    assert in_hcal[1] == 0


def test_pixel_hits_are_seen_from_the_vertex_in_the_right_crystal() -> None:
    particle = SimParticles.of(pt=[100.0], eta=[0.5], phi=[0.305], charge=[1], z=[6.0])
    hits = pixel_hits(particle, Helices(particle), 6.0, PERFECT, np.random.default_rng(0))
    assert len(hits) == 3
    for layer in hits:
        assert math.floor(layer.row[0]) == 140 + math.floor(0.5 / CRYSTAL_RAD)
        assert math.floor(layer.column[0]) == math.floor(0.305 / CRYSTAL_RAD)
    gone = particle.moved(30.0)
    hits = pixel_hits(gone, Helices(gone), 36.0, PERFECT, np.random.default_rng(0))
    assert [len(layer.row) for layer in hits] == [0, 0, 0]


def test_slow_tracks_bend_more_from_layer_to_layer() -> None:
    particle = SimParticles.of(pt=[0.2], eta=[0.0], phi=[1.0], charge=[1])
    hits = pixel_hits(particle, Helices(particle), 0.0, PERFECT, np.random.default_rng(0))
    for layer, radius in zip(hits, CMS_RUN_1.pixel_radii, strict=True):
        turn = math.asin(radius * FIELD_GEV_PER_M / (2 * 100 * 0.2))
        assert layer.column[0] == pytest.approx((1.0 - turn) / CRYSTAL_RAD)


def test_the_crop_is_centred_on_the_hottest_tower_and_wraps() -> None:
    hadron = SimParticles.of(pt=[500.0], eta=[0.05], phi=[0.01], kind=[130])
    view = look(hadron, 0.0, CMS_RUN_1, np.random.default_rng(6))
    rows, columns = jet_centres(view, np.array([0.2]), np.array([-0.2]))  # two towers beside it
    assert rows[0] * 72 + columns[0] == np.argmax(view.hcal)
    image = crop_jet(view, int(rows[0]), int(columns[0]))
    towers = image[4].reshape(25, 5, 25, 5).sum((1, 3))
    assert np.argmax(towers) == 12 * 25 + 12
    assert image[4].sum() == pytest.approx(view.hcal.sum(), rel=1e-5)  # also beyond phi = 0
    assert jet_centres(view, np.array([2.4]), np.array([0.0]))[0].tolist() == [-1]


@pytest.mark.parametrize("resolution", [1, 3])
def test_images_do_not_change_when_the_event_is_turned_by_whole_towers(resolution: int) -> None:
    quiet = replace(CMS_RUN_1, ecal_resolution=(0.0, 0.0, 0.0), hcal_resolution=(1.0, 0.0))
    views = []
    for turns in (0, 31):
        turned = event().turned(turns * 5 * CRYSTAL_RAD)
        views.append(look(turned, 1.0, quiet, np.random.default_rng(7)))
    first = crop_jet(views[0], 28, 60, resolution)
    second = crop_jet(views[1], 28, (60 + 31) % 72, resolution)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-4)
    assert all(plane.any() for plane in first)


def test_both_resolutions_are_the_same_jet() -> None:
    view = look(event(), 1.0, CMS_RUN_1, np.random.default_rng(8))
    coarse, fine = crop_jet(view, 30, 1), crop_jet(view, 30, 1, 3)
    assert coarse.shape == (8, 125, 125)
    assert fine.shape == (8, 375, 375)
    merged = fine.reshape(8, 125, 3, 125, 3).sum((2, 4))
    summed = [0, 3, 4, 5, 6, 7]  # d0 and dz are no sums
    np.testing.assert_allclose(merged[summed], coarse[summed], rtol=1e-5, atol=1e-5)


def test_the_hardest_track_of_a_pixel_gives_its_impact_parameters() -> None:
    pt, d0, dz = (
        np.array([50.0, 60.0, 900.0]),
        np.array([0.1, 0.2, -0.3]),
        np.array([1.0, 2.0, -3.0]),
    )
    tracks = Tracks(pt, d0, dz, np.array([140.2, 140.9, 140.5]), np.array([0.1, 0.3, 0.9]))
    view = replace(look(event(9), 0.0, CMS_RUN_1, np.random.default_rng(0)), tracks=tracks)
    image = crop_jet(view, 28, 0)
    assert np.argwhere(image[0]).tolist() == [[60, 60]]
    np.testing.assert_allclose(image[:3, 60, 60], [1010, -0.3, -3])
    fine = crop_jet(view, 28, 0, 3)
    assert np.argwhere(fine[0]).tolist() == [[180, 180], [181, 182], [182, 180]]


def test_channels_are_those_of_the_preset() -> None:
    assert tuple(c.name for c in find_preset("boosted-top").channels) == CHANNELS


def test_the_same_draws_give_the_same_view() -> None:
    one, other = (look(event(), 0.5, CMS_RUN_1, np.random.default_rng(9)) for _ in range(2))
    assert one.ecal.tobytes() == other.ecal.tobytes()
    assert crop_jet(one, 20, 5).tobytes() == crop_jet(other, 20, 5).tobytes()


def test_an_empty_event_is_an_empty_image() -> None:
    nothing = event().take(np.zeros(0, np.int64))
    view = look(join([nothing, nothing]), 0.0, CMS_RUN_1, np.random.default_rng(0))
    assert not crop_jet(view, 28, 3).any()
