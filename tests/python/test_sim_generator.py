from __future__ import annotations

import io
import subprocess
import sys
from itertools import islice

import numpy as np
import pytest

from e2eio.errors import ConfigError, E2eioError
from e2eio.sim.apparatus import CMS_RUN_1
from e2eio.sim.particles import INVISIBLE, SimParticles
from e2eio.sim.pileup import PileUp, make_pileup
from e2eio.sim.processes import JetProcess, find_process, is_of_class

for package in ("pythia8mc", "fastjet"):
    pytest.importorskip(package, reason=f"package {package} of the extra 'sim' is missing")

from e2eio.sim.clustering import find_jets  # noqa: E402
from e2eio.sim.generator import Collision, Partons, collisions  # noqa: E402
from e2eio.sim.jets import JetSample, simulate_jets  # noqa: E402


def jet_process(name: str) -> JetProcess:
    process = find_process(name)
    assert isinstance(process, JetProcess)
    return process


TOP = jet_process("top")


@pytest.fixture(scope="module")
def tops() -> list[Collision]:
    return list(islice(collisions(TOP.classes[1], 3), 16))


@pytest.fixture(scope="module")
def pileup() -> PileUp:
    return make_pileup(21.0, 1)


def jets(label: int, pileup: PileUp, n: int, seed: int = 2, resolution: int = 1) -> list[JetSample]:
    seeds = np.random.SeedSequence(seed)
    made = simulate_jets(TOP, label, pileup, CMS_RUN_1, resolution=resolution, seeds=seeds)
    return list(islice(made, n))


@pytest.fixture(scope="module")
def both_classes(pileup: PileUp) -> tuple[list[JetSample], list[JetSample]]:
    return jets(0, pileup, 24), jets(1, pileup, 24)


def test_collisions_are_decided_by_their_seed(tops: list[Collision]) -> None:
    same, other = (next(collisions(TOP.classes[1], seed)) for seed in (3, 4))
    assert same.particles.pt.tobytes() == tops[0].particles.pt.tobytes()
    assert other.particles.pt.tobytes() != tops[0].particles.pt.tobytes()


def test_top_pairs_decay_to_six_quarks_of_which_three_are_each_tops(tops: list[Collision]) -> None:
    for collision in tops:
        mothers = collision.partons.mother
        from_decays = np.isin(np.abs(mothers), (6, 24))
        assert from_decays.sum() == 6
        assert (mothers[from_decays] > 0).sum() == 3
        assert (np.abs(collision.partons.number[from_decays]) <= 5).all()


def test_particles_are_stable_visible_and_in_physical_units(tops: list[Collision]) -> None:
    all_of = SimParticles(
        *(
            np.concatenate([getattr(c.particles, name) for c in tops])
            for name in SimParticles.__slots__
        )
    )
    assert not np.isin(all_of.kind, INVISIBLE).any()
    assert set(np.unique(all_of.charge)) == {-1.0, 0.0, 1.0}
    assert np.isin(all_of.kind, (22, 11, 13, 211, 321, 2212, 130, 310, 2112, 3122)).mean() > 0.99
    assert (all_of.energy >= all_of.pt * np.cosh(all_of.eta) * (1 - 1e-9)).all()
    made_at = np.hypot(all_of.x, all_of.y)
    assert 0.5 < (made_at < 1e-6).mean() < 0.99
    assert 10 < made_at.max() < 129.1  # cm: K_S and Lambda decay in the tracker


def test_a_setting_that_pythia_does_not_know_is_refused() -> None:
    with pytest.raises(E2eioError, match="wrong setting: found 'Nothing:like = on'"):
        next(collisions(["Nothing:like = on"], 1))


def test_jets_are_sums_of_their_particles() -> None:
    three = SimParticles.of(pt=[30.0, 20.0, 40.0], eta=[0.0, 0.1, 0.1], phi=[3.1, -3.1, 0.0])
    found = find_jets(three, 0.8, 10.0)
    assert len(found) == 2
    assert found.pt[0] == pytest.approx(50, rel=1e-2)
    assert abs(found.phi[0]) > 3
    opening = np.cosh(0.1) - np.cos(2 * np.pi - 6.2)
    assert found.mass[0] == pytest.approx(np.sqrt(2 * 30 * 20 * opening))
    assert found.mass[1] == pytest.approx(0, abs=1e-3)
    assert len(find_jets(three, 0.8, 100.0)) == 0


def test_a_top_jet_holds_all_three_quarks() -> None:
    eta, phi = np.array([0.0, 0.0]), np.array([3.1, 0.0])
    near, far = np.array([3.0, -3.1, -2.6]), np.array([3.0, -3.1, -2.2])
    found = []
    for quarks in (near, far):
        partons = Partons(np.array([5, 2, -1]), np.array([6, 24, 24]), np.zeros(3), quarks)
        found.append(is_of_class(TOP, 1, partons, eta, phi).tolist())
    assert found == [[True, False], [False, False]]
    assert is_of_class(TOP, 0, partons, eta, phi).all()


def test_quark_jets_are_near_a_quark_and_gluon_jets_near_a_gluon() -> None:
    process = jet_process("quark-gluon")
    partons = Partons(np.array([21, -3]), np.array([21, 21]), np.zeros(2), np.array([1.0, -2.0]))
    eta, phi = np.zeros(3), np.array([1.2, -2.1, 0.0])
    assert is_of_class(process, 0, partons, eta, phi).tolist() == [True, False, False]
    assert is_of_class(process, 1, partons, eta, phi).tolist() == [False, True, False]


def test_an_unknown_process_is_refused() -> None:
    with pytest.raises(ConfigError, match="found 'higgs', expected one of top, quark-gluon, "):
        find_process("higgs")


def test_pileup_is_poisson_turned_and_spread_along_the_beam() -> None:
    pool = [SimParticles.of(pt=[1.0] * k, eta=[0.0] * k, phi=[0.0] * k) for k in (1, 2, 3)]
    pile, rng = PileUp(pool, 21.0), np.random.default_rng(0)
    drawn = [pile.draw(CMS_RUN_1, rng) for _ in range(500)]
    events = [each for each in drawn if each is not None]
    assert all(each.pileup.all() for each in events)
    sizes = np.array([len(np.unique(each.z)) for each in events])
    assert sizes.mean() == pytest.approx(21, abs=0.7)
    assert sizes.var() == pytest.approx(21, rel=0.2)
    assert np.concatenate([each.z for each in events]).std() == pytest.approx(5, rel=0.05)
    assert np.ptp(np.concatenate([each.phi for each in events])) > 6
    assert PileUp((), 0.0).draw(CMS_RUN_1, rng) is None


def test_jets_do_not_depend_on_how_many_are_asked_for_or_on_the_resolution(pileup: PileUp) -> None:
    three, two = jets(1, pileup, 3), jets(1, pileup, 2)
    for one, other in zip(three, two, strict=False):
        assert one.image.tobytes() == other.image.tobytes()
        assert (one.mass, one.pt) == (other.mass, other.pt)
    fine = jets(1, pileup, 1, resolution=3)[0]
    assert fine.image.shape == (8, 375, 375)
    assert (fine.mass, fine.pt) == (three[0].mass, three[0].pt)
    np.testing.assert_allclose(fine.image[4].sum(), three[0].image[4].sum(), rtol=1e-5)


def test_images_are_within_the_ranges_of_the_published_sets(
    both_classes: tuple[list[JetSample], list[JetSample]],
) -> None:
    """Ranges: from the real public set to real full-simulation jets, and the recipe's 68 jets, within 25 %."""
    made = [jet for one in both_classes for jet in one]
    images = np.stack([jet.image for jet in made])
    assert images.dtype == np.float32
    filled = (images != 0).sum((2, 3)).mean(0)
    ranges = ((45, 66), (45, 66), (45, 66), (461, 549), (29 * 25, 80 * 25), *[(124, 159)] * 3)
    for found, (low, high) in zip(filled, ranges, strict=True):
        assert 0.75 * low < found < 1.25 * high
    centre = images[:, 4, 60:65, 60:65].sum((1, 2))
    around = images[:, 4, 45:80, 45:80].reshape(-1, 7, 5, 7, 5).sum((2, 4)).max((1, 2))
    # The hottest tower of the 7 x 7 round the axis, mostly also of those round itself.
    assert (centre > 0.999 * around).mean() > 0.9
    assert all(jet.pt > 400 for jet in made)


def test_a_jet_takes_as_many_bytes_of_parquet_as_a_published_one(
    both_classes: tuple[list[JetSample], list[JetSample]],
) -> None:
    """11.1 kB: as the published files are, a flat list of (125, 125, 8) and one row group per jet, snappy."""
    pa = pytest.importorskip("pyarrow", reason="package pyarrow is missing")
    pq = pytest.importorskip("pyarrow.parquet", reason="package pyarrow is missing")
    stream = io.BytesIO()
    schema = pa.schema([("X_jets", pa.list_(pa.float32()))])
    with pq.ParquetWriter(stream, schema, compression="snappy") as writer:
        for jet in (jet for one in both_classes for jet in one):
            pixels = [np.moveaxis(jet.image, 0, 2).ravel()]
            writer.write_table(pa.table({"X_jets": pixels}, schema=schema))
    per_jet = len(stream.getvalue()) / 48
    assert per_jet == pytest.approx(11_100, rel=0.2)


def test_top_jets_are_heavier(both_classes: tuple[list[JetSample], list[JetSample]]) -> None:
    qcd, top = ([jet.mass for jet in one] for one in both_classes)
    assert 160 < np.median(top) < 230  # pile-up and the underlying event add to 172 GeV
    assert np.median(qcd) < 140


@pytest.mark.parametrize(
    ("module", "package"), [("generator", "pythia8mc"), ("clustering", "fastjet")]
)
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module: str, package: str
) -> None:
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from e2eio.errors import MissingDependencyError\n"
        f"try:\n    import e2eio.sim.{module}\nexcept MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert f"package {package} is missing" in done.stdout
    assert "pip install 'e2eio[sim]'" in done.stdout
