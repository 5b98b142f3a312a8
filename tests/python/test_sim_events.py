from __future__ import annotations

import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli.main import main
from e2eio.errors import ConfigError
from e2eio.sim import simulate
from e2eio.sim.apparatus import CMS_RUN_1
from e2eio.sim.decays import decay_evenly, higgs_to_photons
from e2eio.sim.grid import crystal_rows, event_rows
from e2eio.sim.images import crop_jet, draw_event, look
from e2eio.sim.layers import CMS_TRACKER
from e2eio.sim.particles import SimParticles
from e2eio.sim.pileup import PileUp
from e2eio.sim.processes import EventProcess, find_process

#: `eta_bins_EEp` of the producer's code has these, and fifths between them.
TOWER_EDGES = (1.479, 1.566, 1.653, 1.74, 1.83, 1.93, 2.043, 2.172, 2.322, 2.5, 2.65, 3.0)


def masses(momenta: NDArray[np.float64]) -> NDArray[np.float64]:
    squares = momenta[:, 0] ** 2 - (momenta[:, 1:] ** 2).sum(1)
    found: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0))
    return found


def four_vectors(p: SimParticles) -> NDArray[np.float64]:
    columns = (p.energy, p.pt * np.cos(p.phi), p.pt * np.sin(p.phi), p.pt * np.sinh(p.eta))
    return np.column_stack(columns)


def test_children_add_up_have_their_mass_and_fly_evenly() -> None:
    n = 20_000
    momentum = np.array([30.0, -40.0, 120.0])
    energy = math.sqrt(125**2 + (momentum**2).sum())
    parents = np.tile([energy, *momentum], (n, 1))
    one, other = decay_evenly(parents, 1.2, np.random.default_rng(0))
    np.testing.assert_allclose(one + other, parents, rtol=1e-9)
    np.testing.assert_allclose(masses(one), 1.2, atol=1e-3)
    np.testing.assert_allclose(masses(other), 1.2, atol=1e-3)
    # The energy of one is even between its ends, as everything is along any axis of the rest frame.
    assert one[:, 0].mean() == pytest.approx(energy / 2, rel=0.01)
    spread = np.linalg.norm(momentum) * math.sqrt(0.25 - (1.2 / 125) ** 2) / math.sqrt(3)
    assert one[:, 0].std() == pytest.approx(spread, rel=0.02)


def test_a_higgs_boson_becomes_two_narrow_pairs_of_photons() -> None:
    energy = math.sqrt(125**2 + 60**2 * math.cosh(0.5) ** 2)
    higgs = SimParticles.of(pt=[60.0], eta=[0.5], phi=[2.0], energy=[energy], kind=[25])
    for seed in range(20):
        made = higgs_to_photons(higgs, 0.8, np.random.default_rng(seed))
        vectors = four_vectors(made.photons)
        assert masses(vectors.sum(0, keepdims=True))[0] == pytest.approx(125, rel=1e-6)
        pairs = vectors.reshape(2, 2, 4).sum(1)
        np.testing.assert_allclose(masses(pairs), 0.8, rtol=1e-3)
        np.testing.assert_allclose(made.pt, np.hypot(pairs[:, 1], pairs[:, 2]), rtol=1e-9)
        assert set(made.photons.kind) == {22}


def test_rows_are_crystals_in_the_barrel_and_fifths_of_towers_beyond() -> None:
    edges = np.array(TOWER_EDGES)
    inside = edges - 1e-9
    np.testing.assert_allclose(event_rows(inside), 225 + 5 * np.arange(12), atol=1e-4)
    np.testing.assert_allclose(event_rows(-inside), 55 - 5 * np.arange(12), atol=1e-4)
    for low, high in pairwise(TOWER_EDGES):
        assert event_rows(np.array([low + (high - low) * 0.7]))[0] % 5 == pytest.approx(3.5)
    barrel = np.linspace(-1.478, 1.478, 50)
    np.testing.assert_allclose(event_rows(barrel), crystal_rows(barrel), atol=0.3)


def test_photons_of_the_endcaps_are_in_their_rows_up_to_three() -> None:
    eta = np.array([0.5, 2.0, -2.7, 2.9, 3.8])
    photons = SimParticles.of(pt=np.full(5, 40.0), eta=eta, phi=np.arange(5) - 2.0)
    view = look(photons, 0.0, CMS_RUN_1, np.random.default_rng(0), rows_of=event_rows)
    image = draw_event(view)
    assert image.shape == (8, 280, 360)
    assert image.dtype == np.float32
    near = [image[3, :, int(np.degrees(phi) % 360)] for phi in photons.phi]
    hottest = [int(np.argmax(column)) for column in near]
    assert hottest[:4] == np.floor(event_rows(eta[:4])).astype(int).tolist()
    assert near[4].sum() == 0


def test_a_jet_is_a_window_of_the_event() -> None:
    rng = np.random.default_rng(1)
    n = 200
    angles = {"eta": rng.uniform(-1, 1, n), "phi": rng.uniform(-3, 3, n)}
    charge = rng.choice([-1.0, 0.0, 1.0], n)
    kind = np.where(charge == 0, 22, 211)
    particles = SimParticles.of(pt=1 + rng.exponential(5, n), charge=charge, kind=kind, **angles)
    view = look(particles, 0.0, CMS_RUN_1, rng)
    for resolution in (1, 3):
        event, jet = draw_event(view, resolution), crop_jet(view, 28, 40, resolution)
        top, left, edge = 80 * resolution, 140 * resolution, 125 * resolution
        assert np.array_equal(event[:, top : top + edge, left : left + edge], jet)
    towers = draw_event(view)[4].reshape(56, 5, 72, 5).sum((1, 3))
    np.testing.assert_allclose(towers, view.hcal, rtol=1e-5)


def test_conversions_are_tracks_and_material_takes_energy_nowhere_else() -> None:
    photons = SimParticles.of(pt=np.full(60, 8.0), eta=np.full(60, 0.8), phi=np.arange(60) / 10)
    rng = np.random.default_rng(2)
    bare = look(photons, 0.0, CMS_RUN_1, rng)
    real = look(photons, 0.0, CMS_RUN_1, rng, material=CMS_TRACKER)
    assert len(bare.tracks.pt) == 0
    assert 10 < len(real.tracks.pt) < 100
    assert real.ecal.sum() == pytest.approx(bare.ecal.sum(), rel=0.03)
    assert (real.ecal > 0).sum() > 1.1 * (bare.ecal > 0).sum()


def test_events_without_pythia_are_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pythia8mc", None)
    monkeypatch.delitem(sys.modules, "e2eio.sim.generator", raising=False)
    with pytest.raises(e2eio.errors.MissingDependencyError, match="package pythia8mc is missing"):
        simulate("h4gamma", tmp_path / "d", n=2, processes=1, progress=False)
    assert not (tmp_path / "d").exists()


def test_resolutions_of_events_are_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 5, expected 1 or 3 for h4gamma"):
        simulate("h4gamma", tmp_path / "d", n=2, resolution=5, processes=1, progress=False)


class TestWithPythia:
    """Collisions, in few events."""

    @pytest.fixture(autouse=True)
    def pythia(self) -> None:
        pytest.importorskip("pythia8mc", reason="package pythia8mc of the extra 'sim' is missing")

    def run(self, process: str, out: Path, **options: Any) -> e2eio.Dataset:
        simulate(process, out, **{"pileup": 0.0, "processes": 1, "progress": False, **options})
        return e2eio.Dataset(out)

    def test_four_photons_and_two(self, tmp_path: Path) -> None:
        found = self.run("h4gamma", tmp_path / "d", n=6, seed=1)
        assert found.schema.image.shape == (8, 280, 360)
        y, mass = found.scalars("y"), found.scalars("am")
        assert y.sum() == 3
        assert (mass[y == 0] == 0).all()
        assert ((mass[y == 1] > 0.1) & (mass[y == 1] < 1.2)).all()
        assert len(set(mass)) == 4
        for row in range(6):
            ecal = np.asarray(found[row]["X"])[3]
            blocks = ecal.reshape(56, 5, 72, 5).sum((1, 3))
            assert (blocks[11:45] > 10).sum() >= 2  # two showers in the barrel
        assert main(["verify", "--physics", str(tmp_path / "d"), "--quiet"]) == 0

    def test_events_depend_on_their_seed_alone(self) -> None:
        from e2eio.sim.events import simulate_events

        process = find_process("h4gamma")
        assert isinstance(process, EventProcess)
        none, seeds = PileUp((), 0.0), np.random.SeedSequence(3)
        one, other = (
            next(simulate_events(process, 1, none, CMS_RUN_1, resolution=k, seeds=seeds))
            for k in (1, 3)
        )
        assert one.scalars == other.scalars
        merged = other.image.reshape(8, 280, 3, 360, 3).sum((2, 4))
        summed = [0, 3, 4, 5, 6, 7]  # d0 and dz are no sums
        np.testing.assert_allclose(merged[summed], one.image[summed], rtol=1e-5, atol=1e-5)

    def test_top_pairs_at_three_pixels_a_crystal(self, tmp_path: Path) -> None:
        found = self.run("ttbar", tmp_path / "d", n=2, seed=2, resolution=3)
        assert found.schema.image.shape == (8, 840, 1080)
        image = np.asarray(found[0]["X"])
        assert all(plane.any() for plane in image)

    def test_the_two_hardest_photons_decide(self) -> None:
        from e2eio.sim.events import chosen_photons

        process = find_process("h4gamma")
        assert isinstance(process, EventProcess)
        cases = [
            ([50, 35], [0.1, 1.0]),
            ([50, 30], [0, 0]),
            ([50, 35], [0, 1.5]),
            ([40, 35], [0, 0]),
        ]
        found = [
            chosen_photons(process, np.array(pt, float), np.array(eta, float)) for pt, eta in cases
        ]
        assert found == [True, False, False, False]
        assert not chosen_photons(process, np.array([90.0]), np.array([0.0]))
