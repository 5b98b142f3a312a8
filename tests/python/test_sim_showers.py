"""Single electrons and photons. No test here needs Pythia or FastJet."""

from __future__ import annotations

import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio.cli.main import main
from e2eio.errors import ConfigError
from e2eio.presets import recognise
from e2eio.sim import simulate
from e2eio.sim.apparatus import CMS_READOUT, CMS_RUN_1
from e2eio.sim.gun import crop_shower, simulate_showers
from e2eio.sim.pileup import PileUp
from e2eio.sim.processes import GunProcess, Sample, find_process

QUICK: dict[str, Any] = {"processes": 1, "progress": False}


def gun() -> GunProcess:
    process = find_process("electron-photon")
    assert isinstance(process, GunProcess)
    return process


def showers(label: int, n: int, seed: int = 1) -> list[Sample]:
    seeds = np.random.SeedSequence([seed, label])
    none = PileUp((), 0.0)
    return list(islice(simulate_showers(gun(), label, none, CMS_RUN_1, seeds=seeds), n))


@pytest.fixture(scope="module")
def images() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """300 photons and 300 electrons, float32 [300, 2, 32, 32]."""
    photons, electrons = (np.stack([each.image for each in showers(k, 300)]) for k in (0, 1))
    return photons, electrons


def deposits(cells: dict[tuple[int, int], float]) -> NDArray[np.float64]:
    grid = np.zeros((280, 360))
    for cell, energy in cells.items():
        grid[cell] = energy
    return grid


def crop(grid: NDArray[np.float64], z: float = 0.0, seed: int = 0) -> Any:
    return crop_shower(grid, z, CMS_RUN_1, np.random.default_rng(seed))


def test_the_hottest_crystal_is_at_row_and_column_16(
    images: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    for one in images:
        assert one.dtype == np.float32
        assert one.shape == (300, 2, 32, 32)
        assert set(one[:, 0].reshape(300, -1).argmax(1)) == {16 * 32 + 16}


def test_pixels_are_as_those_of_the_real_set_on_average(
    images: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    """Mean and deviation by which public training code normalises both classes of the 498,000 real images."""
    both = np.concatenate(images)
    mean, deviation = both.mean((0, 2, 3)), both.std((0, 2, 3))
    assert mean[0] == pytest.approx(0.00114013, rel=0.12)
    assert abs(mean[1]) < 0.0005
    np.testing.assert_allclose(deviation, [0.02360118, 0.06654396], rtol=0.07)


def test_electrons_are_spread_in_phi_and_photons_more_often_narrow(
    images: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    away = np.arange(32) - 16
    spread, narrow = [], []
    for one in images:
        energy = np.where(one[:, 0] > 0.01, one[:, 0], 0)  # above 0.5 GeV
        total = energy.sum((1, 2))
        phi = (energy.sum(1) * away**2).sum(1) / total
        eta = (energy.sum(2) * away**2).sum(1) / total
        spread.append((phi.mean(), eta.mean()))
        narrow.append((energy[:, 15:18, 15:18].sum((1, 2)) / total > 0.95).mean())
    (photon_phi, photon_eta), (electron_phi, electron_eta) = spread
    assert electron_phi > 1.3 * photon_phi > 1.3 * photon_eta
    assert electron_eta == pytest.approx(photon_eta, rel=0.5)  # the field bends in phi alone
    assert narrow[0] > narrow[1] + 0.05


def test_what_is_not_read_is_zero_and_what_is_read_is_above_its_threshold(
    images: tuple[NDArray[np.float32], NDArray[np.float32]],
) -> None:
    for one in images:
        energy, time = one[:, 0], one[:, 1]
        assert (energy >= 0).all()
        assert energy[energy > 0].min() > 0.08 / 50
        assert np.array_equal(energy > 0, time != 0)
        assert 30 < (energy > 0).sum((1, 2)).mean() < 60
        assert (time[:, 16, 16] * 50).std() == pytest.approx(0.48, abs=0.1)  # of 5 GeV and more


def test_energy_and_time_are_divided_by_fifty() -> None:
    image, row, column = crop(deposits({(140, 100): 50.0}))
    assert (row, column) == (140, 100)
    assert image[0, 16, 16] == pytest.approx(1.0, abs=0.02)
    errors = [crop(deposits({(140, 100): 1.0}), seed=k)[0][1, 16, 16] for k in range(200)]
    assert np.std(errors) * 50 == pytest.approx(np.hypot(1.1089, 0.428), rel=0.15)


def test_light_from_a_vertex_nearer_by_comes_earlier() -> None:
    cells = {(195 + k, 50): 40.0 for k in range(-10, 11, 5)} | {(195, 50): 45.0}
    sharp = np.mean([crop(deposits(cells), 40.0, k)[0][1, :, 16] for k in range(40)], axis=0) * 50
    rows = np.arange(6, 27, 5)
    z = 129 * np.sinh((195 - 16 + rows + 0.5 - 140) * np.pi / 180)
    expected = (np.hypot(129, z - 40) - np.hypot(129, z)) / 29.979
    np.testing.assert_allclose(sharp[rows], expected, atol=0.3)
    assert expected.max() < -0.5


def test_windows_wrap_in_phi_and_end_with_the_barrel() -> None:
    image, row, column = crop(deposits({(100, 2): 50.0, (100, 355): 20.0}))
    assert (row, column) == (100, 2)
    assert image[0, 16, 16 - 7] == pytest.approx(0.4, abs=0.02)
    assert crop(deposits({(70, 9): 50.0})) is None
    assert crop(deposits({(71, 9): 50.0})) is not None
    assert crop(deposits({(208, 9): 50.0})) is not None
    assert crop(deposits({(209, 9): 50.0})) is None
    assert crop(deposits({})) is None


def test_showers_do_not_depend_on_how_many_are_asked_for() -> None:
    three, seventy = showers(1, 3), showers(1, 70)
    for one, other in zip(three, seventy, strict=False):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.scalars == other.scalars
    assert len({each.image.tobytes() for each in seventy}) == 70
    assert showers(1, 1, seed=2)[0].image.tobytes() != three[0].image.tobytes()


def test_the_command_needs_no_generator_and_its_shards_not_the_number_of_processes(
    tmp_path: Path,
) -> None:
    program = (
        "import sys; sys.modules['pythia8mc'] = sys.modules['fastjet'] = None\n"
        "from e2eio.cli.main import main\n"
        "sys.exit(main(['simulate', 'electron-photon', *sys.argv[1:]]))\n"
    )
    options = ["--n", "21", "--seed", "4", "--shard-samples", "8", "--processes", "1"]
    command = [sys.executable, "-c", program, str(tmp_path / "one"), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "21 simulated samples in 3 shard(s)" in done.stdout
    simulate(
        "electron-photon",
        tmp_path / "two",
        n=21,
        seed=4,
        shard_samples=8,
        processes=2,
        progress=False,
    )
    names = sorted(path.name for path in (tmp_path / "one").glob("*.e2e"))
    assert len(names) == 3
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    piled = [*command[:-6], *options, "--pileup", "3", "--no-resume", "--overwrite"]
    done = subprocess.run(piled, capture_output=True, text=True)
    assert done.returncode == 1
    assert "package pythia8mc is missing" in done.stderr


def test_the_dataset_is_recognised_balanced_and_passes_the_checks(tmp_path: Path) -> None:
    out = tmp_path / "d"
    content = simulate("electron-photon", out, n=40, seed=2, **QUICK)
    image = content.schema.image
    names = [field.name for field in content.schema.scalars]
    assert names == ["y", "pt", "ieta", "iphi"]
    found = recognise(image.name, names, image.shape)
    assert found is not None
    assert found.name == "electron-photon"
    assert image.shape == (2, 32, 32)
    options = content.provenance.options
    assert options["pileup"] == 0
    assert "pythia8mc" not in options
    dataset = e2eio.Dataset(out)
    assert dataset.scalars("y").sum() == 20
    assert set(dataset.scalars("pt")) == {50.0}
    assert main(["verify", "--physics", str(out), "--quiet"]) == 0


def test_a_run_goes_on_from_the_shards_that_are_complete(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for out in (whole, cut):
        out.mkdir()
    simulate("electron-photon", whole, n=12, seed=3, shard_samples=6, **QUICK)
    first, second = sorted(whole.glob("*.e2e"))
    (cut / first.name).write_bytes(first.read_bytes())
    kept = (cut / first.name).stat().st_ino
    simulate("electron-photon", cut, n=12, seed=3, shard_samples=6, **QUICK)
    assert (cut / first.name).stat().st_ino == kept
    assert (cut / second.name).read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 3}, "wrong resolution: found 3, expected 1 for electron-photon"),
        ({"pileup": 201.0}, "wrong pileup: found 201.0, expected a number from 0 to 200"),
        ({"n": 0}, "wrong n: found 0, expected an integer from 1 to"),
    ],
)
def test_options_out_of_range_are_refused_with_the_range(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        simulate("electron-photon", tmp_path / "d", **{"n": 4, **QUICK, **options})
    assert not (tmp_path / "d").exists()


def test_showers_are_made_of_as_many_spots_as_thresholds_need() -> None:
    """Ten spots and more make up what a crystal must have to be read."""
    assert CMS_READOUT.spot_energy * 10 <= CMS_RUN_1.ecal_thresholds[0]
    shares, cores = np.array(CMS_READOUT.profile).T
    within = [(shares * r**2 / (r**2 + cores**2)).sum() for r in (1.0, 3.5)]
    np.testing.assert_allclose(within, [0.90, 0.99], atol=0.01)  # Moliere radii, one crystal each
    assert shares.sum() == pytest.approx(1.0)
