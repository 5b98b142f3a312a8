from __future__ import annotations

import contextlib
import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import e2eio
from e2eio import transforms as t
from e2eio.errors import ConfigError, CorruptShardError, MissingDependencyError
from e2eio.schema import Channel, ImageField, ScalarField, Schema

pytest.importorskip("nvidia.dali", reason="DALI is not installed")

from e2eio import dali
from e2eio.dali.binding import check_version, fn, pipeline_def

Images = NDArray[np.float32]

ROOT = Path(__file__).resolve().parents[2]

NAMES = ("track_pt", "d0", "dz", "ecal", "hcal")
N, C, H, W = 50, 5, 40, 40
SHAPE = (C, H, W)
BATCH = 8
N_BATCHES = 7


@pytest.fixture(scope="module")
def truth() -> Images:
    rng = np.random.default_rng(3)
    x = np.where(rng.random((N, C, H, W)) < 0.1, 20 * rng.exponential(size=(N, C, H, W)), 0.0)
    x[:, 1:3] *= np.where(rng.random((N, 2, H, W)) < 0.5, -0.05, 0.05)
    towers = rng.exponential(size=(N, 8, 8)) * (rng.random((N, 8, 8)) < 0.3)
    x[:, 4] = np.kron(towers, np.ones((5, 5)))
    return (x + 0.0).astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, truth: Images) -> Path:
    out = tmp_path_factory.mktemp("dali") / "ds"
    units = ("GeV", "cm", "cm", "GeV", "GeV")
    channels = tuple(Channel(*pair) for pair in zip(NAMES, units, strict=True))
    schema = Schema(ImageField("X", channels, H, W), (ScalarField("y", "float32", ""),))
    with e2eio.write(out, schema) as writer:
        writer.append(truth, {"y": np.arange(N, dtype=np.float32)})
    return out


def graphs(
    images: Images, define: Callable[[Any], Any], *, n: int, seed: int
) -> list[list[NDArray[Any]]]:
    """The outputs of the first n runs of a graph over images [n, C, H, W]."""

    def feed(_: int) -> Images:
        return images

    @pipeline_def(batch_size=len(images), num_threads=2, device_id=None, seed=seed)  # type: ignore[untyped-decorator]
    def make() -> Any:
        return define(fn.external_source(feed, layout="CHW"))

    pipe = make()
    return [[np.array(output.as_tensor()) for output in pipe.run()] for _ in range(n)]


def graph(
    images: Images, define: Callable[[Any], Any], *, n: int = 1, seed: int = 5
) -> list[NDArray[Any]]:
    """The outputs of the n-th run."""
    return graphs(images, define, n=n, seed=seed)[-1]


def apply(images: Images, function: Callable[..., Any], **options: Any) -> Images:
    (result,) = graph(images, lambda x: function(x, images.shape[1:], **options))
    return result


def bits(x: NDArray[Any]) -> NDArray[np.uint32]:
    return np.ascontiguousarray(x).view(np.uint32)


def batches_of(batches: Any) -> list[Any]:
    """Batches as they were when they came."""
    return [
        {k: v.clone() for k, v in b.items()} if isinstance(b, dict) else [v.clone() for v in b]
        for b in batches
    ]


def same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    return len(found) == len(expected) and all(
        torch.equal(a[k], b[k])
        for a, b in zip(found, expected, strict=True)
        for k in (a if isinstance(a, dict) else range(len(a)))
    )


# --- what the graph delivers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pass_by", [True, False])
@pytest.mark.parametrize("fields", [None, ("X", "y"), ("sample_id", "X"), ("X",)])
def test_without_augmentation_batches_are_the_loaders_bit_for_bit(
    path: Path, fields: Any, pass_by: bool
) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "seed": 7, "fields": fields}
    batches = dali.iterator(path, pass_by=pass_by, **options)
    loader = e2eio.Loader(path, **options)
    assert len(batches) == len(loader) == N_BATCHES
    for _ in range(3):  # epochs
        found, expected = batches_of(batches), batches_of(loader)
        assert type(found[0]) is type(expected[0])
        assert same(found, expected)


def test_a_graph_that_does_nothing_takes_one_thread(path: Path) -> None:
    assert dali.pipeline(path, batch_size=BATCH).num_threads == 1
    assert dali.pipeline(path, batch_size=BATCH, augment=(t.FlipEta(0.5),)).num_threads == 2
    assert dali.pipeline(path, batch_size=BATCH, num_threads=3).num_threads == 3
    with pytest.raises(ConfigError, match="num_threads"):
        dali.pipeline(path, batch_size=BATCH, num_threads=0)


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_dtype_and_layout_without_a_graph_are_decodes(path: Path, layout: Any) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "dtype": "float16", "fields": ("X",)}
    batches = dali.iterator(path, layout=layout, **options)
    options["layout"] = f"N{layout}"
    assert same(batches_of(batches), batches_of(e2eio.Loader(path, **options)))


@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_dtype_and_layout_of_a_graph(path: Path, truth: Images, layout: Any) -> None:
    """On the CPU DALI rounds ties away from zero: half a unit in the last place, but not always to even."""
    batches = dali.iterator(
        path, batch_size=N, dtype="float16", layout=layout, fields=("X",), augment=(lambda x, _: x,)
    )
    ((found,),) = batches
    assert found.dtype == torch.float16
    images = found.numpy() if layout == "CHW" else found.numpy().transpose(0, 3, 1, 2)
    nearest = truth.astype(np.float16)
    error = np.abs(images.astype(np.float32) - truth)
    assert (error == np.abs(nearest.astype(np.float32) - truth)).all()
    assert (images != nearest).mean() < 1e-3


@pytest.mark.parametrize("name", t.PRESETS)
def test_presets_are_those_of_decode(path: Path, name: str) -> None:
    batches = dali.iterator(path, batch_size=N, fields=("X",), normalise=name)
    loader = e2eio.Loader(path, batch_size=N, fields=("X",), transforms=t.preset(name))
    ((found,),), ((expected,),) = list(batches), list(loader)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize(
    "transform",
    [
        t.Scale({"ecal": -2.0}),
        t.Offset(0.5),
        t.Divide({"hcal": 3.0, "dz": -1.0}),
        t.Clip(-0.5, 1.0),
        t.Log1p(channels=("ecal", "hcal")),
        t.Sqrt(channels=("track_pt",)),
        t.Asinh({"d0": 0.1, "dz": 0.2}),
        t.MinMax(statistics="all"),
        t.ZeroSuppress({"ecal": 5.0}, "above_to_value", 2.0),
        t.DivideBySample("sum", 3.0, channels=("hcal",)),
        t.Pad(50, 44),
        t.Crop(31, 20),
        t.RollPhi(amount=7),
        t.RollPhi(amount=-15),
        t.Rot90(1),
        t.Rot90(2),
        t.Rot90(3),
        t.FlipEta(1.0),
        t.FlipEta(1.0, negate=("d0", "ecal")),
        t.DeadCells(
            cells={"hcal": [(0, 0), (7, 3)], "ecal": [(39, 1)]}, cell={"hcal": 5, "ecal": 1}
        ),
    ],
    ids=repr,
)
def test_fixed_transforms_are_those_of_decode(path: Path, transform: t.Transform) -> None:
    batches = dali.iterator(path, batch_size=N, fields=("X",), augment=(transform,))
    loader = e2eio.Loader(path, batch_size=N, fields=("X",), transforms=(transform,))
    ((found,),), ((expected,),) = list(batches), list(loader)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=5e-7, atol=0)


def test_values_that_are_no_numbers_are_treated_as_in_decode(tmp_path: Path) -> None:
    x = np.array([[np.nan, np.inf, -np.inf, -0.0, 1e-40, -3.0, 0.5, 2.0]], np.float32)
    images = np.broadcast_to(x, (4, 2, 1, 8)).copy()
    schema = Schema(ImageField("X", (Channel("a", "GeV"), Channel("b", "GeV")), 1, 8))
    with e2eio.write(tmp_path / "ds", schema) as writer:
        writer.append(images)
    for chain in (
        (t.ZeroSuppress(1.0),),
        (t.ZeroSuppress(1.0, "abs_below"), t.Clip(-2.0, 5.0)),
        (t.ZeroSuppress(1.0, "above_to_value", 7.0), t.RollPhi(amount=3)),
        (t.EnergySmear(constant=1e-10), t.ChannelDropout(1.0, channels=("b",))),
    ):
        ((found,),) = dali.iterator(tmp_path / "ds", batch_size=4, fields=("X",), augment=chain)
        ((expected,),) = e2eio.Loader(
            tmp_path / "ds", batch_size=4, fields=("X",), transforms=chain
        )
        np.testing.assert_array_equal(found.numpy(), expected.numpy())


# --- augmentations against numpy ---------------------------------------------------------------------------------


def test_flip_eta_mirrors_some_samples_and_turns_the_sign_of_odd_channels(truth: Images) -> None:
    found = apply(truth, dali.flip_eta, p=0.5, odd=[2])
    mirrored = truth[:, :, ::-1].copy()
    mirrored[:, 2] = np.where(mirrored[:, 2] == 0, 0, -mirrored[:, 2])
    flipped = [np.array_equal(bits(found[i]), bits(mirrored[i])) for i in range(N)]
    kept = [np.array_equal(bits(found[i]), bits(truth[i])) for i in range(N)]
    assert all(a != b for a, b in zip(flipped, kept, strict=True))
    assert 10 < sum(flipped) < 40


def shifts_of(found: Images, truth: Images) -> list[int]:
    return [
        next(s for s in range(-W // 2, W // 2 + 1) if np.array_equal(np.roll(x, s, axis=2), y))
        for x, y in zip(truth, found, strict=True)
    ]


def test_roll_phi_is_periodic(truth: Images) -> None:
    shifts = shifts_of(apply(truth, dali.roll_phi), truth)
    assert len(set(shifts)) > 15
    assert min(shifts) < -10 < 10 < max(shifts)


def test_roll_phi_keeps_to_its_bounds_and_steps(truth: Images) -> None:
    shifts = shifts_of(apply(truth, dali.roll_phi, max_shift=12, step=5, p=0.8), truth)
    assert set(shifts) == {-10, -5, 0, 5, 10}


def test_rot90_turns_as_numpy_does(truth: Images) -> None:
    found = apply(truth, dali.rot90)
    turns = [
        next(k for k in range(4) if np.array_equal(np.rot90(x, k, axes=(1, 2)), y))
        for x, y in zip(truth, found, strict=True)
    ]
    assert set(turns) == {0, 1, 2, 3}


def test_translate_moves_and_lets_zeros_in(truth: Images) -> None:
    found = apply(truth, dali.translate, max_shift=(3, 5))
    places = []
    for x, y in zip(truth, found, strict=True):
        padded = np.pad(x, ((0, 0), (3, 3), (5, 5)))
        places.append(
            next(
                (a, b)
                for a in range(7)
                for b in range(11)
                if np.array_equal(padded[:, a : a + H, b : b + W], y)
            )
        )
    assert {a for a, _ in places} == set(range(7))
    assert len({b for _, b in places}) > 8
    assert len({a - b for a, b in places}) > 8  # one does not follow from the other


def test_translate_with_a_seed_draws_rows_and_columns_independently() -> None:
    ramp = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(N, 0)
    found = apply(ramp, dali.translate, max_shift=4, seed=11)
    middle = found[:, 0, 20, 20].astype(int) - 1
    assert len({(m // W - 20, m % W - 20) for m in middle}) > 25


@pytest.mark.parametrize("seed", [None, 11])
def test_whether_a_sample_moves_does_not_tell_where_to(seed: int | None) -> None:
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(400, 0)
    rolled = apply(images, dali.roll_phi, max_shift=10, p=0.5, seed=seed)
    columns = (rolled[:, 0, 20, 20].astype(int) - 1) % W - 20
    assert set(columns) == set(range(-10, 11))  # moved samples go everywhere
    turned = apply(images, dali.rot90, p=0.5, seed=seed)
    assert len({tuple(x[0, 0, :2]) for x in turned}) == 4
    erased = apply(images, dali.random_erase, p=0.5, scale=(0.1, 0.5), ratio=(1, 1), seed=seed)
    areas = (erased == 0).sum(axis=(1, 2, 3)) / (H * W)
    assert abs((areas > 0.3).mean() - (areas > 0).mean() / 2) < 0.1


def test_operations_with_neighbouring_seeds_draw_apart() -> None:
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(400, 0)
    flipped = apply(images, dali.flip_eta, p=0.5, seed=12)[:, 0, 0, 0] != 1
    rolled = apply(images, dali.roll_phi, p=0.5, seed=11)[:, 0, 0, 0] != 1
    assert 0.3 < (flipped == rolled).mean() < 0.7


@pytest.mark.parametrize("seed", [None, 11])
def test_draws_are_independent_of_each_other(seed: int | None) -> None:
    """Operations with one seed, samples, and runs: 3,200 draws of each, correlated by less than five errors."""
    n = 64
    images = np.arange(1, H * W + 1, dtype=np.float32).reshape(1, 1, H, W).repeat(n, 0)
    shape = (1, H, W)

    def define(x: Any) -> Any:
        return (
            dali.flip_eta(x, shape, seed=seed),
            dali.roll_phi(x, shape, max_shift=9, seed=seed),
            dali.translate(x, shape, max_shift=9, seed=seed),
            dali.channel_dropout(x, shape, p=0.5, seed=seed),
        )

    runs = graphs(images, define, n=50, seed=5)
    at = [np.stack([run[k][:, 0, 20, 20] for run in runs]).astype(int) - 1 for k in range(4)]
    draws = [at[0] // W != 20, at[1] % W, at[2] // W, at[2] % W, at[3] < 0]
    vectors = [(d - d.mean()) / d.std() for d in draws]
    least = 5 / np.sqrt(vectors[0].size)
    for a, first in enumerate(vectors):
        for second in vectors[:a]:
            assert abs((first * second).mean()) < least
        assert abs((first[:, 1:] * first[:, :-1]).mean()) < least  # neighbours in a batch
        assert abs((first[1:] * first[:-1]).mean()) < least  # the same place of the next batch


def test_energies_of_channels_samples_and_runs_are_smeared_independently() -> None:
    images = np.full((8, 4, H, W), 10.0, np.float32)
    terms = {c: dali.Resolution(noise=1.0) for c in (0, 1, 3)}
    for seed in (None, 3):
        smear = partial(dali.energy_smear, shape=(4, H, W), resolution=terms, seed=seed)
        runs = graphs(images, smear, n=4, seed=5)
        drawn = np.stack([run[0] for run in runs])[:, :, [0, 1, 3]].reshape(96, -1)
        correlations = np.corrcoef(drawn)[np.triu_indices(96, 1)]
        assert abs(correlations).max() < 6 / np.sqrt(H * W)


def test_channel_dropout_drops_whole_channels_of_those_named(truth: Images) -> None:
    images = truth.copy()
    images[0, 0, 0] = [np.nan, np.inf, -np.inf, -0.0] * 10
    found = apply(images, dali.channel_dropout, p=0.4, channels=[0, 3])
    zero = [[not bits(channel).any() for channel in sample] for sample in found]
    dropped = np.array(zero)
    assert not dropped[:, [1, 2, 4]].any()
    assert 0.2 < dropped[:, [0, 3]].mean() < 0.6
    assert (dropped[:, 0] != dropped[:, 3]).any()
    np.testing.assert_array_equal(bits(found)[~dropped], bits(images)[~dropped])


def test_dead_cells_are_whole_towers(truth: Images) -> None:
    full = np.full_like(truth, 2.5)
    found = apply(full, dali.dead_cells, p=0.2, cell={3: 1, 4: 5})
    np.testing.assert_array_equal(found[:, :3], full[:, :3])
    towers = found[:, 4].reshape(N, 8, 5, 8, 5)
    assert (towers == towers[:, :, :1, :, :1]).all()
    assert abs((towers[:, :, 0, :, 0] == 0).mean() - 0.2) < 5 * np.sqrt(0.16 / (N * 64))
    assert abs((found[:, 3] == 0).mean() - 0.2) < 5 * np.sqrt(0.16 / (N * H * W))
    assert set(np.unique(found)) == {0.0, 2.5}


def test_cells_at_the_border_may_be_cut() -> None:
    full = np.full((6, 1, 12, 7), 1.0, np.float32)
    found = apply(full, dali.dead_cells, p=0.5, cell={0: 5})
    rows, columns = np.arange(12) // 5, np.arange(7) // 5
    for sample in found[:, 0]:
        for r, c in np.ndindex(3, 2):
            assert len(np.unique(sample[rows == r][:, columns == c])) == 1


@pytest.mark.parametrize(
    ("energy", "terms"),
    [
        (4.0, dali.Resolution(stochastic=0.5, cell=5)),
        (100.0, dali.Resolution(constant=0.03)),
        (10.0, dali.Resolution(noise=0.8, cell=5)),
        (25.0, dali.Resolution(0.1, 0.02, 0.2, 5)),
    ],
)
def test_energy_smear_has_the_mean_and_width_of_the_formula(
    energy: float, terms: dali.Resolution
) -> None:
    """E is the energy of a cell: with cell=5 each of its 25 pixels has a 25th of it."""
    area = terms.cell**2
    full = np.full((32, 2, H, W), energy / area, np.float32)
    full[:, :, :, :5] = 0.0
    found = apply(full, dali.energy_smear, resolution={1: terms}, clip_at_zero=False)
    np.testing.assert_array_equal(bits(found[:, 0]), bits(full[:, 0]))
    np.testing.assert_array_equal(bits(found[:, 1, :, :5]), 0)  # empty pixels stay empty
    k = terms.cell
    cells = found[:, 1, :, 5:].reshape(32, H // k, k, (W - 5) // k, k)
    assert (cells == cells[:, :, :1, :, :1]).all()
    drawn = cells[:, :, 0, :, 0].ravel().astype(float) * area
    expected = np.sqrt(
        terms.stochastic**2 * energy + (terms.constant * energy) ** 2 + terms.noise**2
    )
    assert abs(drawn.mean() - energy) < 5 * expected / np.sqrt(drawn.size)
    assert abs(drawn.std() / expected - 1) < 5 / np.sqrt(2 * drawn.size)


def test_energy_smear_clips_what_it_smears_and_nothing_else() -> None:
    images = np.full((8, 1, H, W), 0.1, np.float32)
    images[:, :, 0] = -3.0
    found = apply(images, dali.energy_smear, resolution={0: dali.Resolution(noise=1.0)})
    assert (found[:, :, 0] == -3.0).all()
    assert found[:, :, 1:].min() == 0.0
    assert 0.4 < (found[:, :, 1:] == 0).mean() < 0.52


def test_random_erase_clears_one_rectangle_of_the_right_size() -> None:
    full = np.full((200, 2, H, W), 1.0, np.float32)
    found = apply(full, dali.random_erase, p=0.5, scale=(0.1, 0.2), ratio=(0.5, 2.0))
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    areas = []
    for sample in found[:, 0]:
        rows, columns = np.nonzero(sample == 0)
        if rows.size:
            extent = (np.ptp(rows) + 1, np.ptp(columns) + 1)
            assert rows.size == extent[0] * extent[1]
            assert 0.4 < extent[0] / extent[1] < 2.5
            areas.append(rows.size / (H * W))
    assert 60 < len(areas) < 140
    assert 0.08 < min(areas) < 0.13 < 0.17 < max(areas) < 0.22


def test_draws_differ_between_runs_and_follow_the_seed(truth: Images) -> None:
    def once(n: int, seed: int) -> Images:
        return graph(truth, lambda x: dali.roll_phi(x, SHAPE), n=n, seed=seed)[0]

    assert np.array_equal(once(1, 3), once(1, 3))
    assert not np.array_equal(once(1, 3), once(2, 3))
    assert not np.array_equal(once(1, 3), once(1, 4))


# --- order, epochs, ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "last"), [("partial", 2), ("fill", 8), ("drop", 8)])
def test_last_batch_policies(path: Path, policy: Any, last: int) -> None:
    batches = dali.iterator(
        path, batch_size=BATCH, last_batch_policy=policy, fields=("X", "sample_id")
    )
    found = batches_of(batches)
    assert len(found) == len(batches) == (6 if policy == "drop" else 7)
    assert [len(b[1]) for b in found] == [8] * (len(found) - 1) + [last]
    if policy == "fill":
        assert found[-1][1].tolist() == [48, *[49] * 7]
        assert torch.equal(found[-1][0][1], found[-1][0][7])


def test_dalis_own_policies_are_understood(path: Path) -> None:
    from nvidia.dali.plugin.base_iterator import LastBatchPolicy

    batches = dali.iterator(path, batch_size=BATCH, last_batch_policy=LastBatchPolicy.DROP)
    assert len(batches) == 6


def test_ranks_share_the_dataset_and_draw_differently(path: Path) -> None:
    ids, rolled = [], []
    for rank in range(3):
        batches = dali.iterator(
            path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id"),
            augment=(t.FlipEta(0.5, negate=()),),
        )  # fmt: skip
        loader = e2eio.Loader(
            path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id")
        )
        found = batches_of(batches)
        assert [b[1].tolist() for b in found] == [b[1].tolist() for b in loader]
        plain = batches_of(
            loader.__class__(
                path, batch_size=4, shuffle=True, rank=rank, world_size=3, fields=("X", "sample_id")
            )
        )
        rolled.append([torch.equal(a[0][0], b[0][0]) for a, b in zip(found, plain, strict=True)])
        ids += [i for b in found for i in b[1].tolist()]
    assert set(ids) == set(range(N))
    assert rolled[0] != rolled[1] or rolled[1] != rolled[2]


def test_a_seed_of_the_graph_is_another_one_on_each_rank_and_the_loaders_counts(path: Path) -> None:
    def drawn(given: Any, **options: Any) -> list[bool]:
        drop = partial(dali.channel_dropout, p=0.5)
        batches = dali.iterator(given, augment=(lambda x, _: x * 0.0 + 1.0, drop), **options)
        return [bool(x) for batch in batches for x in batch["X"][:, :, 0, 0].flatten()]

    ranks = [drawn(path, batch_size=4, augment_seed=4, rank=r, world_size=2) for r in (0, 1, 0)]
    assert ranks[0] == ranks[2] != ranks[1]
    seeds = [drawn(e2eio.Loader(path, batch_size=4, seed=seed)) for seed in (1, 2, 1)]
    assert seeds[0] == seeds[2] != seeds[1]


@pytest.mark.parametrize("pass_by", [True, False])
def test_leaving_a_loop_early_begins_the_next_epoch(path: Path, pass_by: bool) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    batches = dali.iterator(path, pass_by=pass_by, **options)
    loader = e2eio.Loader(path, **options)
    for stop in (1, 3, 6):
        for i, (a, b) in enumerate(zip(batches, loader, strict=True)):
            assert torch.equal(a[0], b[0])
            if i == stop:
                break
    assert same(batches_of(batches), batches_of(loader))


def test_a_generator_that_is_closed_early_leaves_the_loader_open(path: Path) -> None:
    """``yield from`` closes what it goes over, if that can be closed."""
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    batches, loader = dali.iterator(path, **options), e2eio.Loader(path, **options)

    def delegating() -> Any:
        yield from batches

    for _ in range(2):
        generator = delegating()
        assert torch.equal(next(generator)[1], next(iter(loader))[1])
        generator.close()
    assert same(batches_of(batches), batches_of(loader))


def test_an_epoch_that_is_over_stays_so_and_there_is_one_at_a_time(path: Path) -> None:
    batches = dali.iterator(path, batch_size=BATCH)
    epoch = iter(batches)
    assert len(list(epoch)) == len(list(batches)) == N_BATCHES
    assert list(epoch) == []
    first = iter(batches)
    next(first)
    assert len(list(iter(first))) == N_BATCHES - 1  # the same epoch
    first = iter(batches)
    next(first)
    assert next(iter(batches))["y"][0] == 0
    with pytest.raises(ConfigError, match="one at a time"):
        next(first)


def test_the_source_gives_any_batch_that_is_asked_for(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=BATCH, shuffle=True, fields=("X", "y"))
    expected = [[b[1].tolist() for b in loader] for _ in range(2)]
    source = dali.source(
        e2eio.Loader(path, batch_size=BATCH, shuffle=True, fields=("X", "y"), framework="numpy")
    )

    class At:
        def __init__(self, epoch: int, iteration: int) -> None:
            self.epoch_idx, self.iteration = epoch, iteration

    for epoch, index in [(0, 0), (0, 1), (0, 5), (1, 2), (1, 3), (0, 6), (1, 6), (0, 0)]:
        assert source(At(epoch, index))[1].tolist() == expected[epoch][index]
    for _ in range(3):
        with pytest.raises(StopIteration):
            source(At(0, N_BATCHES))
    assert source(At(0, 4))[1].tolist() == expected[0][4]


def test_a_source_of_plain_indices_counts_epochs_by_their_ends(path: Path) -> None:
    options: dict[str, Any] = {"batch_size": BATCH, "shuffle": True, "fields": ("X", "y")}
    source = dali.source(e2eio.Loader(path, framework="numpy", **options))

    @pipeline_def(batch_size=BATCH, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def make() -> Any:
        return tuple(fn.external_source(source, num_outputs=2, no_copy=True))

    pipe = make()
    found: list[list[list[float]]] = []
    for _ in range(2):
        found.append([np.array(pipe.run()[1].as_tensor()).tolist() for _ in range(N_BATCHES)])
        with pytest.raises(StopIteration):
            pipe.run()
        pipe.reset()
    loader = e2eio.Loader(path, **options)
    assert found == [[b[1].tolist() for b in loader] for _ in range(2)]


# --- checkpoints -------------------------------------------------------------------------------------------------

AUGMENT = (
    t.EnergySmear(stochastic={"ecal": 0.1, "hcal": 1.0}, cell={"ecal": 1, "hcal": 5}),
    t.DeadCells(0.1, channels=("hcal",), cell=5),
    t.FlipEta(0.5),
    t.RollPhi(),
    t.Rot90(),
    t.ChannelDropout(0.1),
    partial(dali.translate, max_shift=3),
    partial(dali.random_erase, p=0.5),
)


def augmented(path: Path, **options: Any) -> dali.Batches:
    return dali.iterator(
        path, batch_size=BATCH, shuffle=True, seed=9, fields=("X", "y"), augment=AUGMENT, **options
    )


@pytest.fixture(scope="module")
def recorded(path: Path) -> tuple[list[list[Any]], list[list[bytes]]]:
    """Three epochs of batches, and the state before the first and after each batch."""
    batches = augmented(path)
    epochs: list[list[Any]] = []
    states = [batches.checkpoints()]
    for _ in range(3):
        epochs.append([])
        for batch in batches:
            epochs[-1].append([v.clone() for v in batch])
            states.append(batches.checkpoints())
    return epochs, states


@pytest.mark.parametrize("cut", [0, 1, 5, 6, 7, 9, 13])
def test_a_restored_pipeline_goes_on_exactly(path: Path, recorded: Any, cut: int) -> None:
    """Cut before the first batch, in the middle, where DALI works on the next epoch's end, and at the ends."""
    epochs, states = recorded
    restored = augmented(path, checkpoint=states[cut])
    epoch, index = (0, 0) if cut == 0 else divmod(cut - 1, N_BATCHES)
    assert same(batches_of(restored), epochs[epoch][index + (cut > 0) :])
    assert same(batches_of(restored), epochs[epoch + 1])


def test_augmentations_differ_from_epoch_to_epoch(recorded: Any) -> None:
    by_sample = [
        {int(y): x for b in epoch for x, y in zip(*b, strict=True)} for epoch in recorded[0]
    ]
    assert all(not torch.equal(by_sample[0][i], by_sample[1][i]) for i in range(N))


def test_images_that_pass_by_are_restored_as_well(path: Path) -> None:
    make = partial(dali.iterator, path, batch_size=BATCH, shuffle=True)
    batches = make()
    states, found = [], []
    for batch in batches:
        states.append(batches.checkpoints())
        found.append({k: v.clone() for k, v in batch.items()})
    assert same(batches_of(make(checkpoint=states[3])), found[4:])


def test_a_state_of_another_graph_is_refused(path: Path, recorded: Any) -> None:
    with pytest.raises(ConfigError, match="all other arguments have to be those"):
        dali.iterator(path, batch_size=BATCH, checkpoint=recorded[1][3])


def test_images_that_pass_by_are_the_rings_memory(path: Path) -> None:
    batches = dali.iterator(path, batch_size=BATCH)
    first = next(iter(batches))
    first["X"] += 1
    with pytest.warns(UserWarning, match="changed in place"):
        del first
    list(batches)


def test_images_of_a_given_torch_loader_pass_by(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=BATCH, shuffle=True, threads=1)
    batches = dali.iterator(loader)
    expected = batches_of(e2eio.Loader(path, batch_size=BATCH, shuffle=True))
    assert same(batches_of(batches), expected)
    first = next(iter(batches))
    first["X"] += 1
    with pytest.warns(UserWarning, match="changed in place"):
        del first
    list(batches)


@pytest.mark.parametrize(
    ("framework", "dtype", "layout"),
    [("numpy", "float32", "CHW"), ("torch", "float16", "CHW"), ("torch", "float32", "HWC")],
)
def test_images_of_a_given_loader_go_through_the_graph_for_what_it_has_to_do(
    path: Path, framework: Any, dtype: Any, layout: Any
) -> None:
    batches = dali.iterator(
        e2eio.Loader(path, batch_size=BATCH, framework=framework), dtype=dtype, layout=layout
    )
    options: dict[str, Any] = {"dtype": dtype, "layout": f"N{layout}"}
    expected = e2eio.Loader(path, batch_size=BATCH, **options)
    for found, wanted in zip(batches, expected, strict=True):
        assert isinstance(found["X"], torch.Tensor)
        assert found["X"].dtype == wanted["X"].dtype
        assert torch.allclose(found["X"].float(), wanted["X"].float(), rtol=1e-3, atol=1e-6)


def test_a_state_after_the_end_of_an_epoch_begins_the_next(path: Path) -> None:
    batches = augmented(path)
    batches_of(batches)
    state = batches.checkpoints()
    assert same(batches_of(augmented(path, checkpoint=state)), batches_of(batches))


def test_restoring_reads_nothing_before_the_cut(path: Path) -> None:
    batches = dali.iterator(e2eio.Loader(path, batch_size=BATCH))
    states = [batches.checkpoints() for _ in batches]
    loader = e2eio.Loader(path, batch_size=BATCH)
    rest = dali.iterator(loader, checkpoint=states[4])
    assert len(list(rest)) == 2
    assert loader.stats()["samples"] == 10


# --- memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_batches_are_held_for_as_long_as_dali_may_read_them(path: Path, depth: int) -> None:
    loader = e2eio.Loader(path, batch_size=2, framework="numpy", prefetch=1)
    pipe = dali.pipeline(loader, prefetch_queue_depth=depth)
    pipe.build()
    pipe.schedule_run()  # DALI asks for as many as its queue is deep
    assert loader.stats()["slots_lent"] >= depth
    for _ in range(10):
        pipe.outputs()
        pipe.schedule_run()
        assert loader.stats()["slots_lent"] >= depth


def test_no_stale_pixels_while_dali_is_behind(path: Path) -> None:
    """The graph reads the ring's memory again after a long detour, while the ring fills what it got back."""

    def late(images: Any, shape: Any) -> Any:
        detour = images
        for _ in range(20):
            detour = dali.rot90(detour, shape, turns=1)
        return images + detour * 0.0

    loader = e2eio.Loader(path, batch_size=4, framework="numpy", prefetch=1)
    plain = e2eio.Loader(path, batch_size=4)
    batches = dali.iterator(loader, augment=(late,), prefetch_queue_depth=4)
    for _ in range(3):
        assert same(batches_of(batches), batches_of(plain))


@pytest.mark.parametrize("pass_by", [True, False])
def test_delivered_batches_stay_what_they_are(path: Path, pass_by: bool) -> None:
    batches = dali.iterator(path, batch_size=BATCH, fields=("X", "y"), pass_by=pass_by)
    held = list(batches)  # the ring's memory or DALI's, not copied
    for _ in range(3):
        list(batches)
    assert same(held, batches_of(e2eio.Loader(path, batch_size=BATCH, fields=("X", "y"))))


# --- a graph of one's own ----------------------------------------------------------------------------------------


def test_the_graph_of_the_documentation_runs(path: Path, capsys: Any) -> None:
    text = (ROOT / "docs" / "dali.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"## A graph of your own\n\n```python\n(.*?)```", text, re.DOTALL)
    for shown, here in (
        ("data/top", str(path)),
        ("batch_size=64", f"batch_size={BATCH}"),
        ("X_jets", "X"),
    ):
        assert shown in code
        code = code.replace(shown, here)
    found: dict[str, Any] = {}
    exec(compile(code, "docs/dali.md", "exec"), found)
    assert capsys.readouterr().out.count("tensor(") == N_BATCHES
    batches = found["batches"]
    for batch in batches:
        np.testing.assert_allclose(
            batch["energy"].numpy(), batch["X"].sum((2, 3)).numpy(), rtol=1e-4, atol=1e-3
        )
    assert batches.checkpoints()


# --- bad input ---------------------------------------------------------------------------------------------------


def test_a_corrupt_record_is_named_after_the_batches_before_it(path: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "ds"
    damaged.mkdir()
    for file in path.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    shard = next(damaged.glob("*.e2e"))
    data = bytearray(shard.read_bytes())
    data[64 + int(e2eio.Dataset(path).readers[0].record_sizes()[:29].sum()) + 20] ^= 4
    shard.write_bytes(data)
    batches = dali.iterator(damaged, batch_size=BATCH, fields=("X", "y"))
    found = []
    with pytest.raises(CorruptShardError, match=shard.name) as caught:
        for batch in batches:
            found.append(batch[1].tolist())  # noqa: PERF401
    assert found == [list(map(float, range(i, i + 8))) for i in (0, 8, 16)]
    assert caught.value.sample == 29
    # The pipeline has ended the epoch and can begin another, which fails in the same way.
    with pytest.raises(CorruptShardError):
        list(batches)
    batches.close()


def test_an_interrupt_loses_no_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take, interrupts = dali.Source._take, [0, 3, 5]

    def interrupted(self: dali.Source, epoch: int, index: int) -> Any:
        if interrupts and index == interrupts[0]:
            interrupts.pop(0)
            raise KeyboardInterrupt
        return take(self, epoch, index)

    monkeypatch.setattr(dali.Source, "_take", interrupted)
    batches = dali.iterator(path, batch_size=BATCH, fields=("X", "y"), augment=(lambda x, _: x,))
    found: list[Any] = []
    for _ in range(N_BATCHES + 3):
        with contextlib.suppress(KeyboardInterrupt):
            found.append(next(batches))
    assert interrupts == []
    assert same(found, batches_of(e2eio.Loader(path, batch_size=BATCH, fields=("X", "y"))))


def test_the_process_ends_in_the_middle_of_an_epoch(path: Path) -> None:
    program = (
        "import sys; from e2eio import dali\n"
        "batches = dali.iterator(sys.argv[1], batch_size=2, augment=(lambda x, _: x * 2.0,))\n"
        "print(len(next(iter(batches))['y']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        check=True, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["2"]


def test_without_a_gpu_the_message_says_what_to_do(path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"device is 'gpu'.*pass device='cpu'"):
        dali.pipeline(path, batch_size=BATCH, device="gpu")


def test_the_gpu_is_torchs_current_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torchrun's ranks choose it: not the first one for all of them."""
    asked: list[Any] = []

    def noting(pipe: Any) -> Any:
        asked.append(pipe.device_id)
        return pipe

    monkeypatch.setattr("e2eio.dali.graph.build", noting)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    dali.pipeline(path, batch_size=BATCH, device="gpu")
    dali.pipeline(path, batch_size=BATCH, device="gpu", device_id=1)
    assert asked == [3, 1]


@pytest.mark.parametrize("version", ["1.51.2", "0.30", "nonsense"])
def test_an_old_dali_is_refused(version: str) -> None:
    with pytest.raises(MissingDependencyError, match="too old"):
        check_version(version)


@pytest.mark.parametrize(
    ("raised", "text"),
    [
        (ModuleNotFoundError("No module named 'nvidia.dali'"), "pip install"),
        (ImportError("libcudart.so.13: cannot open"), "has to fit the CUDA"),
    ],
)
def test_without_dali_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, raised: ImportError, text: str
) -> None:
    for name in [name for name in sys.modules if name.startswith("e2eio.dali.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "nvidia.dali")

    class Refuse:
        def find_spec(self, name: str, *_: Any) -> None:
            if name == "nvidia.dali":
                raise raised

    monkeypatch.setattr(sys, "meta_path", [Refuse(), *sys.meta_path])
    with pytest.raises(MissingDependencyError, match=text):
        importlib.import_module("e2eio.dali.binding")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16'"),
        ({"layout": "NCHW"}, "layout is 'NCHW'"),
        ({"device": "cuda"}, "device is 'cuda'"),
        ({"last_batch_policy": "wrap"}, "last_batch_policy"),
        ({"batch_size": None}, "batch_size is None"),
        ({"normalise": "nothing"}, "unknown preset"),
        ({"augment": (3,)}, "augment holds 3"),
        ({"augment": (t.Crop(50, 50),)}, "50"),
        ({"augment": (t.RollPhi(), t.DeadCells(0.1, channels=("hcal",), cell=5))}, "cell"),
        ({"checkpoint": [b"", b""]}, "2 parts"),
        ({"prefetch_queue_depth": 0}, "prefetch_queue_depth is 0"),
    ],
    ids=str,
)
def test_bad_arguments(path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        dali.pipeline(path, **{"batch_size": BATCH, **options})


def test_bad_sources_and_pipelines(path: Path) -> None:
    with pytest.raises(ConfigError, match="form is 'coo'"):
        dali.source(e2eio.Loader(path, batch_size=2, form="coo"))
    with pytest.raises(ConfigError, match="dtype is 'bfloat16'"):
        dali.source(e2eio.Loader(path, batch_size=2, dtype="bfloat16"))
    with pytest.raises(ConfigError, match=r"expected an e2eio\.Loader"):
        dali.source([1, 2])  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="leave it out"):
        dali.pipeline(e2eio.Loader(path, batch_size=2), batch_size=3)
    with pytest.raises(ConfigError, match="float32 in NCHW"):
        dali.pipeline(e2eio.Loader(path, batch_size=2, layout="NHWC"))
    for said in ({"shuffle": True}, {"seed": 3}, {"rank": 0, "world_size": 2}, {"fields": ("X",)}):
        with pytest.raises(ConfigError, match=f"{', '.join(said)} given with a Loader"):
            dali.iterator(e2eio.Loader(path, batch_size=2), **said)
    with pytest.raises(ConfigError, match="drop_last=True"):
        dali.pipeline(e2eio.Loader(path, batch_size=2), last_batch_policy="drop")
    with pytest.raises(ConfigError, match="max_shift is 41"):
        apply(np.zeros((1, 1, H, W), np.float32), dali.roll_phi, max_shift=41)
    with pytest.raises(ConfigError, match="no pipeline here"):
        dali.inputs(dali.source(e2eio.Loader(path, batch_size=2)))
    pipe = dali.pipeline(path, batch_size=2, enable_checkpointing=False)
    with pytest.raises(ConfigError, match="given with a pipeline"):
        dali.iterator(pipe, dtype="float16")
    with pytest.raises(ConfigError, match="no checkpoints"):
        dali.iterator(pipe).checkpoints()

    @pipeline_def(batch_size=2, num_threads=1, device_id=None)  # type: ignore[untyped-decorator]
    def foreign() -> Any:
        return fn.random.uniform()

    with pytest.raises(ConfigError, match="does not begin with a loader"):
        dali.iterator(foreign())


def test_importing_the_package_does_not_import_dali() -> None:
    program = "import sys, e2eio.dali; print('nvidia' in sys.modules, callable(e2eio.dali.source))"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["False", "True"]
