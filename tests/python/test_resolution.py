from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
import reference_transforms as reference
from e2eio import transforms as t
from e2eio.errors import ConfigError
from e2eio.presets import find_preset
from e2eio.schema import Channel, ImageField, ScalarField, Schema

Image = NDArray[np.float32]
ROLES = {
    "track_pt": "point",
    "d0": "mean",
    "dz": "mean",
    "ecal": "energy",
    "hcal": "energy",
    "bpix1": "point",
}
UNITS = {"track_pt": "GeV", "d0": "cm", "dz": "cm", "ecal": "GeV", "hcal": "GeV", "bpix1": "hits"}


def write(out: Path, x: Image, channels: Sequence[Channel]) -> Path:
    field = ImageField("X", tuple(channels), x.shape[2], x.shape[3])
    with e2eio.write(out, Schema(field, (ScalarField("y", "float32", ""),))) as writer:
        writer.append(x, {"y": np.zeros(len(x), np.float32)})
    return out


def named(names: Sequence[str]) -> list[Channel]:
    return [Channel(name, UNITS[name]) for name in names]


def load(path: Path, **options: Any) -> Image:
    with e2eio.Loader(path, batch_size=4, framework="numpy", fields=("X",), **options) as loader:
        return np.concatenate([batch[0].copy() for batch in loader])


def assert_same(got: Image, want: Image) -> None:
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(got, want)


@pytest.fixture(scope="module")
def odd_x3() -> Image:
    """[6, 6, 375, 375]: cells and pixels, dense and empty planes, NaN, infinities, -0.0, denormals."""
    rng = np.random.default_rng(8)
    x = np.zeros((6, 6, 375, 375), np.float32)
    for c in (0, 1, 2, 5):
        x[:, c] = np.where(rng.random((6, 375, 375)) < 0.01, rng.normal(size=(6, 375, 375)), 0)
    ecal = np.where(rng.random((6, 125, 125)) < 0.1, rng.exponential(size=(6, 125, 125)), 0)
    hcal = np.where(rng.random((6, 25, 25)) < 0.3, rng.exponential(size=(6, 25, 25)), 0)
    x[:, 3] = np.kron(ecal, np.ones((3, 3)))
    x[:, 4] = np.kron(hcal, np.ones((15, 15)))
    x[1, 3] = rng.normal(size=(375, 375))  # dense
    x[2, 4, 20:25, 30:35] = 7.0  # breaks the cells
    x[3, 4] = 0.1  # one value
    x[4, :, 100, 100:105] = np.array([np.nan, np.inf, -0.0, 1e-45, -np.inf], np.float32)
    x[5, :, 30:33, 30:33] = np.float32(-0.0)
    return x


@pytest.mark.parametrize("resolution", [1, "x1"])
def test_x1_from_x3_equals_numpy(tmp_path: Path, odd_x3: Image, resolution: Any) -> None:
    path = write(tmp_path / "ds", odd_x3, named(list(ROLES)))
    with np.errstate(all="ignore"):
        want = [
            [reference.coarsen(p, r) for p, r in zip(x, ROLES.values(), strict=True)]
            for x in odd_x3
        ]
    got = load(path, resolution=resolution)
    assert_same(got, np.array(want))
    np.testing.assert_array_equal(
        np.signbit(got), np.signbit(np.array(want)) | np.isnan(got) & np.signbit(got)
    )
    assert_same(load(path, resolution=3), odd_x3)
    assert_same(load(path), odd_x3)


@pytest.mark.parametrize("resolution", [3, "x3"])
def test_x3_from_x1_equals_numpy(tmp_path: Path, odd_x3: Image, resolution: Any) -> None:
    x1 = np.ascontiguousarray(odd_x3[:, :, 1::3, 1::3])
    path = write(tmp_path / "ds", x1, named(list(ROLES)))
    want = [[reference.refine(p, r) for p, r in zip(x, ROLES.values(), strict=True)] for x in x1]
    assert_same(load(path, resolution=resolution), np.array(want))
    chain = (t.FlipEta(1.0), t.Scale(2.0), t.RollPhi(amount=15), t.Crop(360, 360))
    flipped = [reference.apply(np.array(x), chain, list(ROLES)) for x in want]
    assert_same(load(path, resolution=resolution, transforms=chain), np.array(flipped))
    some = load(path, resolution=resolution, channels=("hcal", "d0"))
    assert_same(some, np.array(want)[:, [4, 1]])


def test_sums_are_preserved(
    truth_x1: dict[str, Image], truth_x3: dict[str, Image], tmp_path: Path
) -> None:
    channels = find_preset("boosted-top").channels
    twins = [int(np.flatnonzero(truth_x1["pt"] == pt)[0]) for pt in truth_x3["pt"]]
    x1, x3 = truth_x1["X"][twins], truth_x3["X"]
    one = write(tmp_path / "x1", x1, channels)
    three = write(tmp_path / "x3", x3, channels)
    finer, coarser = load(one, resolution=3), load(three, resolution=1)
    assert finer.shape == x3.shape
    assert coarser.shape == x1.shape
    for c, channel in enumerate(channels):
        if channel.unit == "cm":
            continue
        for got, stored in ((finer, x1), (coarser, x3)):
            sums = [each[:, c].astype(np.float64).sum(axis=(1, 2)) for each in (got, stored)]
            np.testing.assert_allclose(sums[0], sums[1], rtol=1e-6)
    for c in (3, 4):  # the same jets are in both files: calorimeters agree pixel by pixel
        np.testing.assert_allclose(finer[:, c], x3[:, c], rtol=3e-7)
        np.testing.assert_allclose(coarser[:, c], x1[:, c], rtol=3e-7)
    back = load(write(tmp_path / "back", finer, channels), resolution=1)
    np.testing.assert_allclose(back, x1, rtol=3e-7)
    # d0 and dz are where the track pT is.
    np.testing.assert_array_equal(coarser[:, 1] != 0, coarser[:, 0] != 0)


def test_cells_grow_with_the_granularity(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x = np.zeros((3, 2, 125, 125), np.float32)
    x[:, 0] = np.kron(rng.exponential(size=(3, 25, 25)), np.ones((5, 5)))
    x[:, 1] = np.where(rng.random((3, 125, 125)) < 0.1, 1, 0)
    path = write(tmp_path / "ds", x, named(["hcal", "ecal"]))
    chain = (t.EnergySmear(stochastic=0.5), t.DeadCells(0.2))
    got = load(path, transforms=chain, resolution=3)
    for channel, cell in ((0, 15), (1, 3)):
        cells = got[:, channel].reshape(3, 375 // cell, cell, 375 // cell, cell)
        np.testing.assert_array_equal(cells, np.broadcast_to(cells[:, :, :1, :, :1], cells.shape))
    # The draws are the same as at x1: the same towers, smeared alike.
    coarse = load(path, transforms=chain)
    np.testing.assert_allclose(got[:, :, 1::3, 1::3] * 9, coarse, rtol=1e-6, atol=1e-7)


def test_resolutions_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    small = write(tmp_path / "small", np.zeros((1, 1, 30, 30), np.float32), named(["ecal"]))
    x5 = write(tmp_path / "x5", np.zeros((1, 1, 625, 625), np.float32), named(["ecal"]))
    unknown = write(
        tmp_path / "u",
        np.zeros((1, 2, 125, 125), np.float32),
        [Channel("muon"), Channel("ecal", "GeV")],
    )
    for resolution in (2, "3", 3.0, True, "x5"):
        with pytest.raises(ConfigError, match="expected None, 1, 3"):
            load(small, resolution=resolution)
    for path in (small, x5):
        with pytest.raises(ConfigError, match="granularity"):
            load(path, resolution=3)
    with pytest.raises(ConfigError, match="muon"):
        load(unknown, resolution=3)
    assert load(unknown, resolution=3, channels=("ecal",)).shape == (1, 1, 375, 375)
    with pytest.raises(ConfigError, match="give the numbers"):
        load(unknown, resolution=3, channels=("ecal",), transforms=(t.ZScore(statistics="all"),))
