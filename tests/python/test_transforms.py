from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import e2eio
import reference_transforms as reference
from e2eio import transforms as t
from e2eio.errors import ConfigError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

CHANNELS = ("track_pt", "d0", "dz", "ecal", "hcal")
UNITS = ("GeV", "cm", "cm", "GeV", "GeV")
N, EDGE = 24, 30
CELLS = {"ecal": 1, "hcal": 5}
Image = NDArray[np.float32]


def make_images(rng: np.random.Generator) -> Image:
    """Tracks that share pixels, blocks, dense planes, and every kind of float."""
    x = np.zeros((N, len(CHANNELS), EDGE, EDGE), np.float32)
    tracks = rng.random((N, EDGE, EDGE)) < 0.03
    for c in range(3):
        x[:, c] = np.where(tracks, rng.normal(size=tracks.shape), 0)
    x[:, 0] = np.abs(x[:, 0])
    x[:, 3] = np.where(rng.random(tracks.shape) < 0.1, rng.exponential(size=tracks.shape), 0)
    towers = rng.exponential(size=(N, 6, 6)) * (rng.random((N, 6, 6)) < 0.3)
    x[:, 4] = np.kron(towers, np.ones((5, 5)))
    x[3:6, 3] = rng.normal(size=(3, EDGE, EDGE))  # dense
    x[6, 4] = 1.5  # one block
    x[7] = 0
    odd = np.array(
        [0x7F800000, 0xFF800000, 0x7FC00001, 0xFFC12345, 0x80000000, 1, 0x80000005, 0x7F7FFFFF]
    )
    for sample in range(8, 16):
        places = rng.choice(EDGE * EDGE, len(odd), replace=False)
        x[sample, sample % 4].reshape(-1)[places] = odd.astype(np.uint32).view(np.float32)
    return x


@pytest.fixture(scope="module")
def images() -> Image:
    return make_images(np.random.default_rng(5))


def write(
    out: Path, x: Image, names: Sequence[str] = CHANNELS, units: Sequence[str] = UNITS
) -> Path:
    channels = tuple(Channel(name, unit) for name, unit in zip(names, units, strict=True))
    field = ImageField("X", channels, x.shape[2], x.shape[3])
    with e2eio.write(out, Schema(field, (ScalarField("y", "float32", ""),))) as writer:
        writer.append(x, {"y": np.zeros(len(x), np.float32)})
    return out


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, images: Image) -> Path:
    return write(tmp_path_factory.mktemp("transforms") / "ds", images)


def load(path: Path | e2eio.Dataset, chain: Any = (), epoch: int = 0, **options: Any) -> Image:
    """All samples of one epoch, in order of their numbers."""
    given = {"batch_size": 7, "framework": "numpy", "threads": 2, **options}
    with e2eio.Loader(path, fields=("X", "sample_id"), transforms=chain, **given) as loader:
        loader.set_epoch(epoch)
        found = {int(i): x.copy() for batch, ids in loader for x, i in zip(batch, ids, strict=True)}
    return np.stack([found[i] for i in sorted(found)])


def expected(x: Image, chain: Any, names: Sequence[str] = CHANNELS, **key: Any) -> Image:
    options = {"cells": CELLS, "schema_channels": CHANNELS, **key}
    with np.errstate(all="ignore"):
        rows = [
            reference.apply(each, chain, names, sample=i, **options) for i, each in enumerate(x)
        ]
    return np.stack(rows)


def ordered(x: Image) -> NDArray[np.int64]:
    """Integers in the order of the floats, neighbours one apart."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def check(got: Image, want: Image, ulp: int = 0) -> None:
    assert got.shape == want.shape
    assert got.dtype == np.float32
    nan = np.isnan(want)
    np.testing.assert_array_equal(np.isnan(got), nan)
    got, want = got[~nan], want[~nan]
    if ulp == 0:
        np.testing.assert_array_equal(got.view(np.uint32), want.view(np.uint32))
    else:
        assert np.abs(ordered(got) - ordered(want)).max(initial=0) <= ulp


SMEAR = t.EnergySmear(
    {"ecal": 0.3, "hcal": 1.0}, {"ecal": 0.1, "hcal": 0.05}, {"ecal": 0.04, "hcal": 0.2}, cell=CELLS
)

EXACT: list[tuple[t.Transform, ...]] = [
    (t.Scale(0.1),),
    (t.Scale({"d0": -2.5, "hcal": 25.0}),),
    (t.Divide(100.0),),
    (t.Offset({"ecal": -0.25}),),
    (t.Offset(1.0), t.Offset(-1.0)),
    (t.ZeroSuppress(0.3),),
    (t.ZeroSuppress({"d0": 0.3}, "abs_below"),),
    (t.ZeroSuppress(0.5, "above_to_zero"),),
    (t.ZeroSuppress(0.5, "abs_above_to_zero"),),
    (t.ZeroSuppress({"ecal": 0.5, "dz": -0.5}, "above_to_value", 2.0),),
    (t.ZeroSuppress(-1.0, "above_to_value", -3.0), t.Scale(0.1)),
    (t.Clip(-0.5, {"ecal": 0.5, "hcal": 1.0}),),
    (t.Clip(low=0.25),),
    (t.Sqrt(),),
    (t.MinMax(-1.0, 3.0),),
    (t.ZScore({"ecal": 0.3, "hcal": 1.0}, {"ecal": 1.7, "hcal": 0.3}),),
    (t.DivideBySample("max", 255.0),),
    (t.FlipEta(1.0),),
    (t.FlipEta(1.0, negate=("d0",)), t.Offset(0.5), t.FlipEta(1.0, negate=("d0", "ecal"))),
    (t.FlipEta(0.5),),
    (t.RollPhi(amount=7),),
    (t.RollPhi(amount=-10),),
    (t.RollPhi(8),),
    (t.RollPhi(step=5, p=0.7),),
    (t.Rot90(1),),
    (t.Rot90(2),),
    (t.Rot90(3), t.FlipEta(1.0)),
    (t.Rot90(),),
    (t.Crop(20, 25),),
    (t.Crop(11, 30, "random"),),
    (t.Pad(37, 40),),
    (t.Pad(40, 30, "random"), t.Crop(30, 30, "random")),
    (t.Offset(2.0), t.Pad(33, 34), t.Scale(0.5), t.RollPhi(amount=3)),
    (t.Crop(20, 20), t.Rot90(1), t.Pad(21, 40), t.Rot90(3)),
    (t.ChannelDropout(0.4),),
    (t.ChannelDropout(1.0, ("ecal",)), t.Offset(1.0)),
    (t.DeadCells(0.3, cell=CELLS),),
    (t.DeadCells(cells={"hcal": [(0, 1), (5, 5)], "ecal": [(29, 0), (3, 4)]}, cell=CELLS),),
    (t.Offset(0.5), t.DeadCells(0.3, cell=CELLS), t.Scale(2.0)),
    (*t.preset("quark-gluon"), t.FlipEta()),
    (*t.preset("top-mass"), t.RollPhi(3), t.Crop(25, 25)),
    (*t.preset("tau-min-max"),),
    (*t.preset("mass-capped"),),
]  # fmt: skip
CLOSE: list[tuple[tuple[t.Transform, ...], int]] = [
    ((t.Log1p(),), 2),
    ((t.Log1p(("ecal",)),), 2),
    ((t.Asinh({"d0": 0.1, "dz": 3.0}),), 2),
    ((t.DivideBySample("sum", channels=("track_pt", "hcal")),), 1),
    ((SMEAR,), 1),
    ((t.Offset(0.5), SMEAR), 1),
    ((t.FlipEta(0.5), SMEAR, t.RollPhi(4)), 1),
]


def name_of(value: object) -> str:
    return repr(value)[:60]


@pytest.mark.parametrize("chain", EXACT, ids=name_of)
def test_equals_numpy_on_dense_images_bit_for_bit(
    path: Path, images: Image, chain: tuple[t.Transform, ...]
) -> None:
    check(load(path, chain), expected(images, chain))


@pytest.mark.parametrize(("chain", "ulp"), CLOSE, ids=name_of)
def test_equals_numpy_within_ulp(
    path: Path, images: Image, chain: tuple[t.Transform, ...], ulp: int
) -> None:
    check(load(path, chain), expected(images, chain), ulp)


def test_floats_of_every_kind_pass_untouched(path: Path, images: Image) -> None:
    chain = (
        t.ZeroSuppress(0.0),
        t.Clip(high={"ecal": 1e38}),
        t.RollPhi(amount=4),
        t.FlipEta(1.0, ()),
    )
    got = load(path, (t.RollPhi(amount=4), t.FlipEta(1.0, ())))
    want = np.roll(images, 4, axis=3)[:, :, ::-1]
    np.testing.assert_array_equal(got.view(np.uint32), want.copy().view(np.uint32))
    nan = np.isnan(images)
    kept = load(path, chain)
    np.testing.assert_array_equal(np.isnan(kept), np.roll(nan, 4, axis=3)[:, :, ::-1])


RANDOM = (SMEAR, t.DeadCells(0.1, cell=CELLS), t.ChannelDropout(0.2), t.FlipEta(), t.RollPhi(9),
          t.Rot90(), t.Pad(36, 36), t.Crop(30, 30, "random"))  # fmt: skip


def test_random_transforms_are_functions_of_seed_epoch_and_sample(
    path: Path, images: Image
) -> None:
    first = load(path, RANDOM, threads=1)
    for options in (
        {"threads": 3},
        {"batch_size": 5, "shuffle": True},
        {"writable": True},
        {"channels_last": True},
    ):
        if options.pop("channels_last", False):
            again = load(path, RANDOM, layout="NHWC").transpose(0, 3, 1, 2)
        else:
            again = load(path, RANDOM, **options)
        np.testing.assert_array_equal(again.view(np.uint32), first.view(np.uint32))
    check(first, expected(images, RANDOM), 1)
    check(load(path, RANDOM, epoch=3), expected(images, RANDOM, epoch=3), 1)
    check(load(path, RANDOM, seed=4), expected(images, RANDOM, seed=4), 1)
    assert not np.array_equal(load(path, RANDOM, epoch=1), first)
    assert not np.array_equal(load(path, RANDOM, seed=1), first)


def test_ranks_and_selected_channels_see_the_same_draws(path: Path) -> None:
    whole = load(path, RANDOM)
    for rank in range(3):
        with e2eio.Loader(path, batch_size=2, fields=("X", "sample_id"), transforms=RANDOM,
                          framework="numpy", rank=rank, world_size=3) as loader:  # fmt: skip
            for x, ids in loader:
                np.testing.assert_array_equal(x.view(np.uint32), whole[ids].view(np.uint32))
    some = load(path, RANDOM, channels=("hcal", "d0"))
    np.testing.assert_array_equal(some.view(np.uint32), whole[:, [4, 1]].view(np.uint32))


def test_the_dataset_stays_raw_and_recycled_slots_are_clean(path: Path, images: Image) -> None:
    dataset = e2eio.Dataset(path)
    chain = (t.Offset({"ecal": 1.0}), t.ChannelDropout(0.5), t.RollPhi(10))
    with e2eio.Loader(dataset, batch_size=4, fields=("X", "sample_id"), transforms=chain, framework="numpy",
                      shuffle=True) as loader:  # fmt: skip
        for epoch in range(6):
            want = expected(images, chain, epoch=epoch)
            for x, ids in loader:
                check(x, want[ids])
    np.testing.assert_array_equal(dataset[4]["X"].view(np.uint32), images[4].view(np.uint32))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_types_round_the_result(path: Path, images: Image, dtype: Any) -> None:
    torch = pytest.importorskip("torch")
    chain = (t.Scale(0.3), t.FlipEta(1.0), t.Offset({"ecal": 0.7}))
    want = torch.from_numpy(expected(images, chain)).to(getattr(torch, dtype))
    with e2eio.Loader(path, batch_size=N, transforms=chain, dtype=dtype) as loader:
        got = next(iter(loader))["X"]
    assert torch.equal(got[~torch.isnan(got)], want[~torch.isnan(want)])


@pytest.mark.parametrize("step", [1, 5])
def test_rolls_go_as_far_as_the_image_is_wide_where_they_stand(
    path: Path, images: Image, step: int
) -> None:
    chain = (t.Crop(25, 25, "centre"), t.RollPhi(step=step))
    for epoch in range(4):
        check(load(path, chain, epoch=epoch), expected(images, chain, epoch=epoch))


chains = st.lists(st.sampled_from([each for chain in EXACT for each in chain]), max_size=5)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chain=chains, seed=st.integers(0, 2**40), epoch=st.integers(0, 2**40))
def test_any_chain_equals_numpy(
    path: Path, images: Image, chain: list[t.Transform], seed: int, epoch: int
) -> None:
    try:
        got = load(path, chain, epoch=epoch, seed=seed)
    except ConfigError:
        return  # edges that do not fit, cells that are no longer aligned
    check(got, expected(images, chain, seed=seed, epoch=epoch))


def test_statistics_come_from_the_dataset(tmp_path: Path) -> None:
    x = make_images(np.random.default_rng(6))[:6]
    names = [str(i) for i in range(5)]
    path = write(tmp_path / "ds", x, names)
    planes = x.astype(np.float64).transpose(1, 0, 2, 3).reshape(5, -1)
    for what in ("all", "nonzero"):
        rows = [p if what == "all" else p[p != 0] for p in planes]
        z = t.ZScore({n: r.mean() for n, r in zip(names, rows, strict=True)},
                     {n: r.std() for n, r in zip(names, rows, strict=True)})  # fmt: skip
        got = load(path, (t.ZScore(statistics=what),))
        np.testing.assert_allclose(got, load(path, (z,)), rtol=1e-5, atol=1e-6)
        bounds = t.MinMax({n: r.min() for n, r in zip(names, rows, strict=True)},
                          {n: r.max() for n, r in zip(names, rows, strict=True)})  # fmt: skip
        np.testing.assert_array_equal(
            load(path, (t.MinMax(statistics=what),)), load(path, (bounds,))
        )
    shard = next(path.glob("*.e2e"))
    with pytest.raises(ConfigError, match=r"dataset\.json"):
        load(shard, (t.ZScore(statistics="all"),))
    again = pickle.loads(pickle.dumps(e2eio.Dataset(path)))
    load(again, t.preset("vision-transformer"))


def test_channels_without_spread_or_pixels_are_divided_by_one(tmp_path: Path) -> None:
    x = np.zeros((3, 2, 4, 4), np.float32)
    x[:, 1] = 5.0
    path = write(tmp_path / "ds", x, ("a", "b"), ("", ""))
    got = load(path, (t.ZScore(statistics="nonzero"),))
    np.testing.assert_array_equal(got, np.zeros_like(x))
    np.testing.assert_array_equal(load(path, (t.MinMax(statistics="nonzero"),)), np.zeros_like(x))


EVERY = [*{type(each): each for chain in EXACT for each in chain}.values(), t.Log1p(("ecal",)), t.Asinh(2.0),
         SMEAR, t.ZScore(statistics="all"), t.DivideBySample("sum", 2.0, ("hcal",))]  # fmt: skip


@pytest.mark.parametrize("transform", EVERY, ids=name_of)
def test_repr_and_pickle_round_trip(transform: t.Transform) -> None:
    assert eval(repr(transform), vars(t)) == transform
    assert pickle.loads(pickle.dumps(transform)) == transform
    with pytest.raises(AttributeError):
        transform.p = 1  # type: ignore[attr-defined]


def test_presets_have_names_and_reprs() -> None:
    assert set(t.PRESETS) >= {"raw", "quark-gluon", "top-mass", "tau-mass", "tau-min-max", "tau-z-score",
                              "mass-capped", "vision-transformer", "log-z-score"}  # fmt: skip
    assert t.preset("raw") == ()
    assert all(name in (t.preset.__doc__ or "") for name in t.PRESETS)
    with pytest.raises(ConfigError, match="quark-gluon"):
        t.preset("top")


BAD: list[tuple[Any, dict[str, Any], str]] = [
    (t.Scale, {"factor": "2"}, "factor"),
    (t.Scale, {"factor": True}, "factor"),
    (t.Scale, {"factor": float("nan")}, "finite"),
    (t.Scale, {"factor": 1e39}, "float32"),
    (t.Scale, {"factor": {}}, "empty"),
    (t.Scale, {"factor": {3: 1.0}}, "name of a channel"),
    (t.Scale, {"factor": {"ecal": float("inf")}}, r"factor\['ecal'\]"),
    (t.Divide, {"divisor": 0}, "not zero"),
    (t.Divide, {"divisor": {"ecal": 1e-60}}, "not zero"),
    (t.ZeroSuppress, {"threshold": 1, "mode": "above"}, "mode"),
    (t.ZeroSuppress, {"threshold": 1, "value": 2.0}, "value"),
    (t.Clip, {}, "bound"),
    (t.Clip, {"low": 2, "high": 1}, "low below high"),
    (t.Clip, {"low": {"a": 0}, "high": {"b": 1}}, "different channels"),
    (t.Log1p, {"channels": "ecal"}, "channels"),
    (t.Sqrt, {"channels": ("ecal", "ecal")}, "once"),
    (t.Asinh, {"scale": 0}, "above 0"),
    (t.Asinh, {"scale": 1e-50}, "above 0"),
    (t.MinMax, {"minimum": 0}, "both"),
    (t.MinMax, {"minimum": 1, "maximum": 1}, "minimum below maximum"),
    (t.MinMax, {"minimum": 0, "statistics": "all"}, "one or the other"),
    (t.ZScore, {"mean": 0, "std": 0}, "std"),
    (t.ZScore, {"statistics": "some"}, "statistics"),
    (t.DivideBySample, {"by": "mean"}, "by"),
    (t.FlipEta, {"p": 1.5}, "p is 1.5"),
    (t.FlipEta, {"p": float("nan")}, "p is nan"),
    (t.RollPhi, {"max_shift": -1}, "max_shift"),
    (t.RollPhi, {"amount": 3, "max_shift": 1}, "amount"),
    (t.RollPhi, {"step": 0}, "step"),
    (t.Rot90, {"turns": 4}, "turns"),
    (t.Crop, {"height": 0, "width": 3}, "height"),
    (t.Crop, {"height": 3, "width": 3, "place": "left"}, "place"),
    (t.Pad, {"height": 3, "width": 70_000}, "width"),
    (t.ChannelDropout, {"p": -0.1}, "p is -0.1"),
    (t.EnergySmear, {"stochastic": -1}, "stochastic"),
    (t.EnergySmear, {"stochastic": {"ecal": 1}, "noise": {"hcal": 1}}, "different channels"),
    (t.EnergySmear, {"cell": 0}, "cell"),
    (t.EnergySmear, {"clip_at_zero": 1}, "clip_at_zero"),
    (t.DeadCells, {}, "one of them"),
    (t.DeadCells, {"cells": {"ecal": [(1,)]}}, "row, column"),
    (t.DeadCells, {"cells": {"ecal": [(1, -1)]}}, "cells"),
    (t.DeadCells, {"cells": {"ecal": [(1, 1)]}, "channels": ("ecal",)}, "channels"),
]


@pytest.mark.parametrize(("make", "arguments", "message"), BAD)
def test_bad_arguments_are_refused_when_made(
    make: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        (t.Scale(1), "sequence"),
        (3, "sequence"),
        ((t.preset("top-mass"),), "unpack"),
        ((t.Scale({"muon": 1}),), "muon"),
        ((t.Crop(31, 5),), "crop"),
        ((t.Pad(29, 40),), "pad"),
        ((t.Pad(20_000, 20_000),), "crop first"),
        ((t.RollPhi(31),), "roll_phi"),
        ((t.Crop(10, 20), t.Rot90()), "square"),
        ((t.RollPhi(3), SMEAR), "put it before"),
        ((t.Crop(25, 25, "random"), t.DeadCells(0.1, cell=CELLS)), "put it before"),
        ((t.DeadCells(0.1, cell=7),), "do not tile"),
        ((t.EnergySmear(1.0),), "give cell"),
        ((t.DeadCells(0.1, cell={"muon": 1}),), "muon"),
        ((t.DeadCells(cells={"ecal": [(30, 0)]}, cell=1),), "outside"),
    ],
)
def test_what_does_not_fit_the_dataset_is_refused(path: Path, chain: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        e2eio.Loader(path, batch_size=2, transforms=chain)
