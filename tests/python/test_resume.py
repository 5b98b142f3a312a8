"""State: a few integers, taken at any batch, from which any number of ranks goes on exactly."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio import _core
from e2eio.errors import ConfigError, StateError
from e2eio.plan import SampleOrder
from e2eio.plan.resume import Resumable
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 157


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resume") / "ds"
    schema = Schema(ImageField("X", (Channel("a", "GeV"),), 6, 6), (ScalarField("y", "int64", ""),))
    images = np.random.default_rng(1).exponential(size=(N, 1, 6, 6)).astype(np.float32)
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N) % 3})
    return out


def make(path: Path, **options: Any) -> e2eio.Loader:
    defaults: dict[str, Any] = {"batch_size": 8, "shuffle": True, "threads": 2}
    options = {"fields": ("X", "sample_id"), "framework": "numpy", **defaults, **options}
    return e2eio.Loader(path, **options)


def ids_of(batches: Any) -> list[list[int]]:
    return [ids.tolist() for _, ids in batches]


def test_state_counts_delivered_batches_and_is_small_json(path: Path) -> None:
    with make(path, prefetch=8) as loader:
        assert loader.state_dict()["position"] == 0
        iterator = iter(loader)
        assert (len(iterator), len(loader)) == (20, 20)
        for n in range(1, 4):
            next(iterator)
            time.sleep(0.02)  # more is made ahead meanwhile
            state = loader.state_dict()
            assert (state["epoch"], state["position"]) == (0, 8 * n)
            assert len(iterator) == 20 - n
        text = json.dumps(state)
        assert len(text) < 1024
        assert all(isinstance(value, int | str) for value in state.values())
        rest = ids_of(iterator)
    with make(path) as other:
        other.load_state_dict(json.loads(text))
        assert other.state_dict() == state
        iterator = iter(other)
        assert (len(iterator), len(other)) == (17, 20)
        assert ids_of(iterator) == rest
        assert len(next(iter(other))[1]) == 8  # the next epoch is a whole one


def test_the_end_of_an_epoch_has_two_states(path: Path) -> None:
    with make(path) as loader, make(path) as other:
        loader.set_epoch(5)
        iterator = iter(loader)
        for _ in range(len(loader)):
            next(iterator)
        before = loader.state_dict()
        assert (before["epoch"], before["position"]) == (5, N)
        with pytest.raises(StopIteration):
            next(iterator)
        after = loader.state_dict()
        assert (after["epoch"], after["position"]) == (6, 0)
        sixth = ids_of(loader)
        other.load_state_dict(before)
        assert ids_of(other) == []
        assert ids_of(other) == sixth
        other.load_state_dict(after)
        assert ids_of(other) == sixth


def test_state_outlives_a_break_and_set_epoch_keeps_the_place(path: Path) -> None:
    with make(path) as loader:
        for number, _ in enumerate(loader):
            if number == 4:
                break
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (0, 40)
        loader.load_state_dict(state)
        loader.set_epoch(0)  # as scripts do at the top of every epoch
        assert len(ids_of(loader)) == 15
        loader.load_state_dict(state)
        loader.set_epoch(2)
        assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (2, 0)
        assert len(ids_of(loader)) == 20
        loader.set_epoch(0)
        assert len(ids_of(loader)) == 20
        loader.set_epoch(7)
        assert loader.state_dict()["epoch"] == 7


def test_of_several_iterators_the_latest_counts(path: Path) -> None:
    with make(path) as loader:
        first, second = iter(loader), iter(loader)
        next(first)
        next(second)
        next(first)
        state = loader.state_dict()
        assert (state["epoch"], state["position"]) == (1, 8)


def test_an_iterator_that_nobody_asks_for_a_batch_takes_nothing(path: Path) -> None:
    with make(path, shuffle=True) as loader:
        epochs = [ids_of(loader) for _ in range(3)]
        loader.set_epoch(0)
        iter(loader)  # as Lightning does to see whether it can
        for epoch in range(2):
            iterator = iter(loader)
            loader.sampler.set_epoch(epoch)  # Lightning calls it after iter(), too
            assert len(iterator) == len(loader)
            assert ids_of(iterator) == epochs[epoch]
        iterator = iter(loader)
        next(iterator)
        state = loader.state_dict()
        iter(loader)
        assert loader.state_dict() == state
    with make(path, shuffle=True) as resumed:
        resumed.load_state_dict(state)
        iter(resumed)
        iterator = iter(resumed)
        resumed.set_epoch(2)
        assert len(iterator) == len(loader) - 1
        assert ids_of(iterator) == epochs[2][1:]


def test_30_cuts_go_on_with_other_worlds_threads_and_batches(path: Path) -> None:
    draw = random.Random(3)
    orders: list[dict[str, Any]] = [
        {"shuffle": True},
        {"shuffle": False},
        {"shuffle": "window", "select": "y != 1"},
        {"shuffle": True, "weights": e2eio.sampling.balanced("y"), "samples_per_epoch": 200},
        {"shuffle": True, "weights": e2eio.sampling.mix({"y == 0": 2, "y != 0": 1})},
    ]
    for cut in range(30):
        order = orders[cut % len(orders)]
        epoch = draw.randrange(4)
        with make(path, seed=cut, **order) as loader:
            loader.set_epoch(epoch)
            whole = [i for ids in ids_of(loader) for i in ids]
        state: dict[str, Any] | None = None
        begin = 0
        for run in range(3):
            shares = {
                "world_size": draw.randrange(1, 4),
                "batch_size": draw.randrange(1, 20),
                "threads": draw.randrange(1, 3),
                "drop_last": draw.random() < 0.3,
            }
            ranks, states, n_steps = [], [], None
            for rank in range(shares["world_size"]):
                with make(path, seed=cut, rank=rank, **order, **shares) as loader:
                    loader.set_epoch(epoch)
                    if state is not None:
                        loader.load_state_dict(state)
                    iterator = iter(loader)
                    if n_steps is None:
                        n_steps = len(iterator) if run == 2 else draw.randrange(len(iterator) + 1)
                    ranks.append([next(iterator)[1].tolist() for _ in range(n_steps)])
                    states.append(loader.state_dict())
            assert all(each == states[0] for each in states)
            state = states[0]
            got = [i for step in zip(*ranks, strict=True) for ids in step for i in ids]
            after = int(state["position"])
            expected = [whole[(begin + i) % len(whole)] for i in range(len(got))]
            assert got == expected, (cut, run)
            assert 0 <= len(got) - (after - begin) < shares["world_size"]
            begin = after
        assert shares["drop_last"] or begin == len(whole)


def test_random_transforms_are_those_without_the_cut(path: Path) -> None:
    flip = [e2eio.transforms.FlipEta(0.5), e2eio.transforms.EnergySmear(0.1)]

    def images(loader: e2eio.Loader) -> dict[int, bytes]:
        return {
            int(i): x.tobytes() for batch, ids in loader for x, i in zip(batch, ids, strict=True)
        }

    with make(path, transforms=flip, seed=4) as loader:
        loader.set_epoch(3)
        whole = images(loader)
    with make(path, transforms=flip, seed=4) as loader:
        loader.set_epoch(3)
        iterator = iter(loader)
        for _ in range(7):
            next(iterator)
        state = loader.state_dict()
    with make(path, transforms=flip, seed=4, batch_size=5, threads=1) as loader:
        loader.load_state_dict(state)
        rest = images(loader)
    assert len(rest) == N - 56
    assert all(whole[i] == rest[i] for i in rest)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"seed": 1}, "seed is 1 here and 0 in the state"),
        ({"shuffle": False}, "shuffle is False here and True in the state"),
        ({"exclude": [3]}, "length is 156 here and 157 in the state; selection is 156 samples"),
        ({"weights": np.arange(N)}, "weights is .* here and None in the state"),
    ],
)
def test_a_state_of_another_order_is_refused(
    path: Path, options: dict[str, Any], what: str
) -> None:
    with make(path) as loader:
        state = loader.state_dict()
    with make(path, **options) as loader:
        with pytest.raises(StateError, match=what):
            loader.load_state_dict(state)
        assert issubclass(StateError, ConfigError)
        assert len(ids_of(loader)) == len(loader)


def test_a_state_of_another_dataset_is_refused(path: Path, tmp_path: Path) -> None:
    schema = Schema(ImageField("X", (Channel("a", "GeV"),), 6, 6), (ScalarField("y", "int64", ""),))
    with e2eio.write(tmp_path / "other", schema) as writer:
        writer.append(np.zeros((N, 1, 6, 6), dtype=np.float32), {"y": np.arange(N)})
    with (
        make(path) as loader,
        make(tmp_path / "other") as other,
        pytest.raises(StateError, match="dataset is "),
    ):
        other.load_state_dict(loader.state_dict())


def test_what_is_no_state_is_refused(path: Path) -> None:
    with make(path) as loader:
        state = loader.state_dict()
        wrong: list[Any] = [
            None,
            {},
            {"epoch": 1},
            {**state, "format": 2},
            {**state, "position": N + 1},
            {**state, "position": -1},
            {**state, "position": True},
            {**state, "epoch": "1"},
            {**state, "order": "0"},
        ]
        for each in wrong:
            with pytest.raises(StateError):
                loader.load_state_dict(each)
        assert len(ids_of(loader)) == 20


def test_plan_digests_are_equal_on_ranks_that_agree(path: Path) -> None:
    digests = []
    for rank in range(3):
        with make(path, rank=rank, world_size=3) as loader:
            assert "rank" not in loader.plan_description()
            assert len(loader.plan_digest()) == 16
            digests.append(loader.plan_digest())
    assert len(set(digests)) == 1
    for options in ({"seed": 2}, {"batch_size": 4}, {"drop_last": True}, {"exclude": [0]}):
        with make(path, rank=0, world_size=3, **options) as loader:
            assert loader.plan_digest() != digests[0]
            with make(path, rank=0, world_size=3) as other:
                own, known = loader.plan_description(), other.plan_description()
            assert {k for k in own if own[k] != known[k]} >= set(options) - {"exclude"}
    with make(path, rank=0, world_size=3) as loader:
        loader.set_epoch(1)
        assert loader.plan_digest() != digests[0]
        json.dumps(loader.plan_description())


@pytest.mark.parametrize(
    "options",
    [
        {"transforms": [e2eio.transforms.Log1p()]},
        {"dtype": "float16"},
        {"fields": ("sample_id", "X")},
        {"layout": "NHWC"},
        {"form": "coo"},
    ],
)
def test_what_is_made_of_samples_is_of_the_plan_but_not_of_the_state(
    path: Path, options: dict[str, Any]
) -> None:
    with make(path) as loader, make(path, **options) as other:
        own, known = loader.plan_description(), other.plan_description()
        assert [name for name in own if own[name] != known[name]] == list(options)
        assert loader.plan_digest() != other.plan_digest()
        other.load_state_dict(loader.state_dict())


def test_restoring_does_no_work_per_sample() -> None:
    # A hundred million million samples: anything done for each of them would never end.
    n = 10**14
    order = SampleOrder(_core.Order.shuffled(n, 5), {"length": n})
    loader = Resumable(order, 64, 0, 8, False)
    state = loader.state_dict()
    state["position"] = n // 2 + 17
    loader.load_state_dict(state)
    assert loader.state_dict() == state
    assert loader.n_next == -(-(n - n // 2 - 17) // 512)
