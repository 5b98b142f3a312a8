from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
import root_toys
from e2eio.detector_grid import CRYSTAL_RAD
from e2eio.errors import ConfigError, E2eioError, ImporterError
from e2eio.importers import ImportOptions, open_source
from importer_toys import read_all
from root_toys import ak

Images = NDArray[np.float32]


@pytest.fixture(scope="module")
def real(published: Path) -> Path:
    path = published.parent / "real"
    if not path.is_dir():
        pytest.skip(f"no data at {path}; set E2EIO_DATA to the directory that holds 'real'")
    return path


@pytest.fixture(scope="module")
def real_images(real: Path) -> tuple[Images, NDArray[np.float64]]:
    """Images [24, 5, 125, 125] made of the same events, and event, pt, eta, phi, ... [24, 6]."""
    with np.load(real / "cms_pfnano_jet_images_5ch_125.npz") as arrays:
        return arrays["X"], arrays["meta"]


def options(**recipe: Any) -> ImportOptions:
    return ImportOptions(recipe=",".join(f"{name}={value}" for name, value in recipe.items()))


# --- real CMS events ---


def test_images_of_real_events_equal_those_made_before(
    real: Path, real_images: tuple[Images, NDArray[np.float64]]
) -> None:
    truth, meta = real_images
    source = open_source(real / "cms_pfnano.root", options(centre="axis"))
    images, scalars = read_all(source)
    assert np.array_equal(images.view(np.uint32), truth.view(np.uint32))
    for column, name in ((1, "pt"), (2, "eta"), (3, "phi"), (4, "m0")):
        assert np.array_equal(scalars[name], meta[:, column].astype("f4"))
    assert source.schema.channels == ("track_pt", "d0", "dz", "ecal", "hcal")
    assert [channel.unit for channel in source.schema.image.channels] == [
        *("GeV", "cm", "cm", "GeV", "GeV")
    ]
    assert {s.name: s.dtype for s in source.schema.scalars} == {
        **dict.fromkeys(("pt", "eta", "phi", "m0"), "float32"),
        **dict.fromkeys(("hadron_flavour", "ieta", "iphi"), "int32"),
        **dict.fromkeys(("n_b_hadrons", "n_c_hadrons"), "uint8"),
        **dict.fromkeys(("run", "luminosityBlock"), "uint32"),
        "event": "uint64",
    }


def test_the_hottest_tower_is_in_the_middle(
    real: Path, real_images: tuple[Images, NDArray[np.float64]]
) -> None:
    truth, _ = real_images
    images, scalars = read_all(open_source(real / "cms_pfnano.root"))
    towers = images[:, 4, ::5, ::5]
    assert np.all(towers[:, 12, 12] > 0)
    same = np.all(images == truth, axis=(1, 2, 3))
    assert same.sum() == 20  # in the other four the axis hits a tower beside the hottest
    by_axis, axis = read_all(open_source(real / "cms_pfnano.root", options(centre="axis")))
    for jet in np.flatnonzero(~same):
        assert towers[jet, 12, 12] > by_axis[jet, 4, 62, 62]
        assert abs(scalars["ieta"][jet] - axis["ieta"][jet]) <= 3


def test_occupancy_of_real_events(real: Path) -> None:
    """The field's figures: 66 track pixels, 61 of electrons and photons, 71 HCAL towers."""
    images, _ = read_all(open_source(real / "cms_pfnano.root", options(centre="axis")))
    lit = (images != 0).sum(axis=(0, 2, 3)) / len(images)
    assert [round(x) for x in (lit[0], lit[3], lit[4] / 25)] == [66, 61, 71]


def test_any_range_and_any_resolution_of_real_events(real: Path) -> None:
    whole, scalars = read_all(open_source(real / "cms_pfnano.root"))
    source = open_source(real / "cms_pfnano.root", options(resolution=3))
    assert source.schema.image.shape == (5, 375, 375)
    fine, _ = read_all(source)
    blocks = fine.reshape(24, 5, 125, 3, 125, 3).sum(axis=(3, 5), dtype=float)
    for channel in (0, 3, 4):
        assert np.allclose(blocks[:, channel], whole[:, channel], rtol=1e-5, atol=1e-6)
    source = open_source(real / "cms_pfnano.root")
    for begin, end in ((0, 1), (8, 11), (23, 24), (5, 5)):
        if begin < end:
            images, part = read_all(source, begin, end)
            assert np.array_equal(images, whole[begin:end])
            assert np.array_equal(part["event"], scalars["event"][begin:end])
        else:
            assert list(source.chunks(begin, end)) == []


def test_conversion_of_real_events(
    real: Path, tmp_path: Path, real_images: tuple[Images, NDArray[np.float64]]
) -> None:
    content = e2eio.convert([real / "cms_pfnano.root"], tmp_path / "a", progress=False)
    assert content.n_samples == 24
    images, scalars = read_all(open_source(real / "cms_pfnano.root"))
    dataset = e2eio.Dataset(tmp_path / "a")
    for number in range(24):
        sample = dataset[number]
        assert np.array_equal(sample["X_jets"].view("u4"), images[number].view("u4"))
        assert sample["event"] == scalars["event"][number]


# --- events made by hand ---


class Event:
    """Collects particles and jets; thread rule: one thread."""

    def __init__(self) -> None:
        self.particles: list[tuple[float, ...]] = []
        self.jets: list[tuple[float, ...]] = []

    def jet(self, eta: float, phi: float, pt: float = 500.0) -> Event:
        self.jets.append((pt, eta, phi))
        return self

    def particle(
        self,
        pt: float,
        eta: float,
        phi: float,
        kind: int,
        d0: float = 0.0,
        dz: float = 0.0,
    ) -> Event:
        charge = {22: 0, 130: 0}.get(abs(kind), int(math.copysign(1, kind)))
        self.particles.append((pt, eta, phi, charge, kind, d0, dz))
        return self


def columns(events: list[Event]) -> dict[str, Any]:
    made: dict[str, Any] = {"event": np.arange(len(events), dtype=np.uint64)}
    for position, name in enumerate(("pt", "eta", "phi", "charge", "pdgId", "d0", "dz")):
        values = ak.Array([[p[position] for p in event.particles] for event in events])
        kind = "int32" if name in ("charge", "pdgId") else "float32"
        made[f"PFCands_{name}"] = ak.values_astype(values, kind)
    for position, name in enumerate(("pt", "eta", "phi")):
        values = ak.Array([[j[position] for j in event.jets] for event in events])
        made[f"FatJet_{name}"] = ak.values_astype(values, "float32")
    return made


def write(
    path: Path, events: list[Event], kind: str = "tree", step: int = 2, **changed: Any
) -> Path:
    made = {k: v for k, v in {**columns(events), **changed}.items() if v is not None}
    return root_toys.write(path, made, kind, step=step)


def middle(tower: int) -> float:
    """Return the middle, in radians, of the middle crystal of a tower; 0 begins at 0."""
    return (5 * tower + 2.5) * CRYSTAL_RAD


@pytest.mark.parametrize("kind", ["tree", "ntuple"])
def test_known_pixels(tmp_path: Path, kind: str) -> None:
    """The jet points to tower (28, 10); the hottest is (28, 11)."""
    event = Event().jet(middle(0), middle(10))
    event.particle(100, middle(2), middle(10), 130)  # a neutral hadron: row 62, column 62
    event.particle(20, middle(0), middle(10), 22)  # 10 crystals below
    event.particle(1000, middle(0), middle(11), 211, d0=1.5, dz=-2.0)  # hardly bends
    event.particle(900, middle(0), middle(11), -211, d0=0.5, dz=4.0)
    event.particle(50, middle(2), middle(10), 13)  # a muon: a track, no energy
    event.particle(0.4, middle(2), middle(12), 211)  # too soft, and turns back
    _, scalars = read_all(open_source(write(tmp_path / "a", [event], kind)))
    energy = {tower: math.cosh(middle(tower)) for tower in (0, 2)}
    assert (scalars["ieta"][0], scalars["iphi"][0]) == (28, 11)  # two pions: 1900 GeV
    image, scalars = read_all(open_source(tmp_path / "a", options(centre="axis")))
    image = image[0]
    assert (scalars["ieta"][0], scalars["iphi"][0]) == (28, 10)
    assert image[3, 62, 62] == np.float32(20 * energy[0])
    assert np.count_nonzero(image[3]) == 1
    assert np.allclose(image[4, 70:75, 60:65], 100 * energy[2] / 25, rtol=1e-6)
    assert image[4].sum(dtype=float) == pytest.approx(
        100 * energy[2] + sum(math.hypot(pt * energy[0], 0.13957) for pt in (1000, 900)), rel=1e-6
    )
    assert image[0, 62, 67] == 1900
    assert (image[1, 62, 67], image[2, 62, 67]) == (1.5, -2.0)  # the hardest track's
    assert image[0].sum() == 1950
    mean, _ = read_all(open_source(tmp_path / "a", options(centre="axis", impact="mean")))
    assert (mean[0, 1, 62, 67], mean[0, 2, 62, 67]) == (1.0, 1.0)


def test_charged_particles_bend_and_neutral_ones_do_not(tmp_path: Path) -> None:
    """A chord of 1.29 m on a circle of radius pT / 1.14: phi turns by asin(1.29 * 1.14 / 2 / pT)."""
    event = Event().jet(middle(0), middle(36))
    for kind in (211, -211, 130):
        event.particle(3.0, middle(0), middle(36), kind)
    image, _ = read_all(open_source(write(tmp_path / "a", [event]), options(centre="axis")))
    crystals = math.asin(1.29 * 1.14 / 2 / 3.0) / CRYSTAL_RAD
    columns_lit = np.flatnonzero(image[0, 0].any(axis=0))
    assert columns_lit.tolist() == [math.floor(62.5 - crystals), math.floor(62.5 + crystals)]


def test_a_track_that_turns_back_is_not_seen_unless_it_meets_the_endcap(tmp_path: Path) -> None:
    """A track of 0.7 GeV has a circle of 1.228 m; the barrel is at 1.29 m, the endcap at z = 3.17 m."""
    turn = 3.17 * 1.14 / 0.7 / 2 / math.sinh(1.6)
    event = Event().jet(0.9, 0.1)
    event.particle(0.7, 0.9, 0.1, 211).particle(0.7, 1.6, 0.1 + turn, 211)
    image, _ = read_all(open_source(write(tmp_path / "a", [event]), options(centre="axis")))
    top, left = 5 * ((140 + 51) // 5) - 60, -60
    row, column = math.floor(1.6 / CRYSTAL_RAD) + 140 - top, math.floor(0.1 / CRYSTAL_RAD) - left
    assert np.argwhere(image[0, 0]).tolist() == [[row, column - 5]]  # the axis is in tower 1


@pytest.mark.parametrize("phi", [math.pi, -math.pi, 3.1, -3.1, 0.0, 6.3])
def test_energy_is_conserved_round_phi(tmp_path: Path, phi: float) -> None:
    """However the jet lies to the seam, all that is within its window is in its image."""
    rng = np.random.default_rng(1)
    event = Event().jet(0.3, phi)
    total = np.zeros(2)
    for _ in range(300):
        pt, eta, shift = (
            rng.exponential(5) + 1,
            0.3 + rng.uniform(-0.9, 0.9),
            rng.uniform(-0.9, 0.9),
        )
        kind = int(rng.choice([22, 130]))
        angle = (phi + shift + math.pi) % (2 * math.pi) - math.pi
        event.particle(pt, eta, angle, kind)
        pt32, eta32 = float(np.float32(pt)), float(np.float32(eta))
        total[(22, 130).index(kind)] += pt32 * math.cosh(eta32)
    image, _ = read_all(open_source(write(tmp_path / "a", [event]), options(centre="axis")))
    assert image[0, 3:].sum(axis=(1, 2), dtype=float) == pytest.approx(total, rel=1e-6)
    assert np.array_equal(image[0, :3], np.zeros((3, 125, 125), "f4"))


def test_sum_of_track_momenta_is_that_of_the_tracks(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    event = Event().jet(-0.2, 2.0)
    for _ in range(200):
        kind = int(rng.choice([211, -211, 11, -13]))
        event.particle(rng.exponential(3) + 3, rng.uniform(-0.5, 0.1), rng.uniform(1.7, 2.3), kind)
    image, _ = read_all(open_source(write(tmp_path / "a", [event]), options(centre="axis")))
    total = sum(float(np.float32(p[0])) for p in event.particles)
    assert image[0, 0].sum(dtype=float) == pytest.approx(total, rel=1e-6)


def test_jets_near_the_end_of_the_detector_are_dropped_and_counted(tmp_path: Path) -> None:
    last = (44 - 28) * 5 * CRYSTAL_RAD  # the first edge beyond |ieta| = 16
    events = [
        Event().jet(last - 0.01, 0).jet(last + 0.01, 0).jet(5.0, 0).particle(9, 1.3, 0, 130),
        Event().jet(0.0, 0.0, pt=100.0).jet(-last + 0.01, 1.0).particle(9, 0, 0, 130),
        Event(),
        Event().jet(float("nan"), 0.0).jet(0.0, float("inf")).particle(9, 0, 0, 22),
    ]
    path = write(tmp_path / "a", events)
    source = open_source(path)
    assert source.n_samples == 3
    assert source.skipped == ("4 of 7 jets: |ieta| of the axis above 16",)
    assert source.cuts.tolist() == [0, 3]
    images, scalars = read_all(source)
    assert scalars["event"].tolist() == [0, 1, 1]
    assert images.shape == (3, 5, 125, 125)
    hard = open_source(path, options(min_pt=200.0))
    assert hard.n_samples == 2
    assert hard.skipped[1] == "1 of 7 jets: pT below 200 GeV"
    assert source.fingerprint != hard.fingerprint


def test_a_hot_tower_outside_is_no_centre(tmp_path: Path) -> None:
    event = Event().jet(middle(15), middle(3))
    event.particle(50, middle(16), middle(3), 130).particle(20, middle(14), middle(4), 130)
    _, scalars = read_all(open_source(write(tmp_path / "a", [event])))
    assert (scalars["ieta"][0], scalars["iphi"][0]) == (42, 4)


def test_many_blocks_are_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    events = []
    for _ in range(20):
        event = Event()
        for _ in range(int(rng.integers(0, 4))):
            event.jet(rng.uniform(-1, 1), rng.uniform(-3, 3))
        for _ in range(int(rng.integers(0, 30))):
            place = rng.uniform(-1, 1), rng.uniform(-3, 3)
            event.particle(rng.exponential(9), *place, int(rng.choice([22, 130, 211, -211])))
        events.append(event)
    whole, scalars = read_all(open_source(write(tmp_path / "a", events, step=20)))
    monkeypatch.setattr("e2eio.importers.root.particles._BLOCK_BYTES", 1)
    monkeypatch.setattr("e2eio.importers.root.particles.CHUNK_BYTES", 2 * 5 * 125 * 125 * 4)
    source = open_source(write(tmp_path / "b", events, step=3))
    assert max(len(images) for images, _ in source.chunks(0, source.n_samples)) == 2
    images, others = read_all(source)
    assert np.array_equal(images, whole)
    for name, values in scalars.items():
        assert np.array_equal(others[name], values)
    parts = [read_all(source, n, n + 1)[0] for n in range(source.n_samples)]
    assert np.array_equal(np.concatenate(parts), whole)


# --- malformed: what, and the error it gives ---

ONE = [Event().jet(0, 0).particle(9, 0, 0, 22)] * 2
F4 = "float32"
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "no d0": ({"PFCands_d0": None}, "missing columns.*no PFCands_d0, but.*PFCands_dz"),
    "no jets' branches": ({f"FatJet_{n}": None for n in ("pt", "eta", "phi")}, "no FatJet_pt"),
    "numbers for lists": ({"PFCands_pt": np.ones(2)}, "wrong type of column 'PFCands_pt'"),
    "fewer charges": (
        {"PFCands_charge": ak.values_astype(ak.Array([[0], [0, 0]]), "int32")},
        "particles differ in number: column 'PFCands_charge'.*entry 1",
    ),
    "fewer directions": (
        {"FatJet_eta": ak.values_astype(ak.Array([[0.0], [1.0, 2.0]]), F4)},
        "jets differ in number: column 'FatJet_eta'.*entry 1",
    ),
    "no jet at all": (
        {
            f"FatJet_{n}": ak.values_astype(ak.Array([[1.0], []])[:, :0], F4)
            for n in ("pt", "eta", "phi")
        },
        "no jets",
    ),
    "a particle without direction": (
        {"PFCands_eta": ak.values_astype(ak.Array([[0.0], [math.nan]]), F4)},
        "wrong value in column 'PFCands_eta'.*entry 1.*nan",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed(tmp_path: Path, case: str) -> None:
    changed, message = MALFORMED[case]
    path = write(tmp_path / "a", ONE, **changed)
    with pytest.raises(ImporterError, match=message) as caught:
        read_all(open_source(path))
    assert str(path) in str(caught.value)


def test_nan_impact_parameters_are_kept(tmp_path: Path) -> None:
    event = Event().jet(0, 0).particle(9000, 0.01, 0.01, 211, d0=math.nan, dz=1.0)
    image, _ = read_all(open_source(write(tmp_path / "a", [event]), options(centre="axis")))
    assert np.isnan(image[0, 1]).sum() == 1
    assert np.isnan(image[0, [0, 2, 3, 4]]).sum() == 0


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "a", ONE)
    with pytest.raises(ConfigError, match="shape of images differs"):
        open_source(path, ImportOptions(shape=(5, 64, 64)))
    with pytest.raises(ConfigError, match="number of channels differs"):
        open_source(path, ImportOptions(channels=("a", "b")))
    named = open_source(path, ImportOptions(channels=("p", "q", "r", "s", "t"), image="X"))
    assert (named.schema.channels[0], named.schema.image.name) == ("p", "X")


def test_flipped_bytes_give_data_or_an_error(real: Path, tmp_path: Path) -> None:
    events = [Event().jet(0, 0).particle(9, 0, 0, 22) for _ in range(9)]
    data = write(tmp_path / "a", events).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b"
    for _ in range(60):
        damaged = bytearray(data)
        damaged[int(rng.integers(4, len(data)))] ^= int(rng.integers(1, 256))
        path.write_bytes(damaged)
        try:
            source = open_source(path)
            list(source.chunks(0, min(source.n_samples, 1000)))
        except E2eioError as error:
            assert str(path) in str(error)  # noqa: PT017 - data is fine too
