"""States of other loaders and orders, and damaged ones: e2eio.DataLoader refuses them and stays as it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

import e2eio
from e2eio.errors import StateError

torch: Any = pytest.importorskip("torch")


from sampler_toys import (  # noqa: E402
    BatchSampler,
    Foreign,
    Ordered,
    RandomSampler,
    Stately,
    SubsetRandomSampler,
    WeightedRandomSampler,
    made,
    sharing,
)
from torch_toys import N, write_toy  # noqa: E402


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


def test_states_of_others_are_refused(ds: e2eio.Dataset) -> None:
    loader = e2eio.DataLoader(ds, 8)
    state = loader.state_dict()
    for other in (e2eio.DataLoader(ds, 9), e2eio.DataLoader(Foreign(), 8)):
        with pytest.raises(StateError, match="state of another loader"):
            other.load_state_dict(state)
    damaged: Any
    for damaged in ({"version": 99, "begin": {}}, {"a": 1}, [1], "state"):
        with pytest.raises(StateError, match="not a state"):
            loader.load_state_dict(damaged)


def split(ds: Any, seed: int) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.utils.data.random_split(ds, [40, N - 40], generator=generator)[0]


def generator() -> Any:
    return torch.Generator().manual_seed(1)


OTHERS: dict[str, tuple[Ordered, Ordered, str]] = {
    "shuffle": (
        lambda ds: e2eio.DataLoader(ds, 4, shuffle=True),
        lambda ds: e2eio.DataLoader(ds, 4),
        "sampler type is 'RandomSampler' in the state and 'SequentialSampler' here",
    ),
    "split": (
        lambda ds: e2eio.DataLoader(split(ds, 1), 4),
        lambda ds: e2eio.DataLoader(split(ds, 2), 4),
        "samples is",
    ),
    "drop_last": (
        lambda ds: e2eio.DataLoader(ds, 4, drop_last=True),
        lambda ds: e2eio.DataLoader(ds, 4),
        "drop_last is True in the state and False here",
    ),
    "batch_sampler": (
        lambda ds: e2eio.DataLoader(ds, batch_sampler=BatchSampler(RandomSampler(ds), 4, False)),
        lambda ds: e2eio.DataLoader(ds, batch_sampler=BatchSampler(RandomSampler(ds), 5, False)),
        "batch_size is 4 in the state and 5 here",
    ),
    "world": (sharing(2), sharing(3), "sampler.num_replicas is 2 in the state and 3 here"),
    "seed": (sharing(seed=1), sharing(seed=2), "sampler.seed"),
    "order": (sharing(shuffle=False), sharing(), "sampler.shuffle"),
    "padding": (sharing(drop_last=True), sharing(), "sampler.drop_last"),
    "replacement": (
        lambda ds: e2eio.DataLoader(ds, 4, sampler=RandomSampler(ds, True, 61)),
        lambda ds: e2eio.DataLoader(ds, 4, sampler=RandomSampler(ds, True, 60)),
        "sampler.num_samples",
    ),
    "indices": (
        lambda ds: e2eio.DataLoader(ds, 4, sampler=SubsetRandomSampler(range(40))),
        lambda ds: e2eio.DataLoader(ds, 4, sampler=SubsetRandomSampler(range(1, 41))),
        "sampler.indices",
    ),
    "weights": (
        lambda ds: e2eio.DataLoader(ds, 4, sampler=WeightedRandomSampler([1.0, 2.0], 40)),
        lambda ds: e2eio.DataLoader(ds, 4, sampler=WeightedRandomSampler([2.0, 1.0], 40)),
        "sampler.weights",
    ),
    "list": (
        lambda ds: e2eio.DataLoader(ds, batch_sampler=[[1, 2], [3]]),
        lambda ds: e2eio.DataLoader(ds, batch_sampler=[[1, 2], [4]]),
        "sampler content",
    ),
    "generator": (
        lambda ds: e2eio.DataLoader(ds, 4, shuffle=True, generator=generator()),
        lambda ds: e2eio.DataLoader(ds, 4, shuffle=True),
        r"begins with \['generators'\]",
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_states_of_other_orders_are_refused_both_ways(ds: e2eio.Dataset, what: str) -> None:
    one, another, said = OTHERS[what]
    state = one(ds).state_dict()
    one(ds).load_state_dict(json.loads(json.dumps(state)))
    with pytest.raises(StateError, match=said):
        another(ds).load_state_dict(state)
    with pytest.raises(StateError):
        one(ds).load_state_dict(another(ds).state_dict())


VALUES: tuple[Any, ...] = (None, -1, 2**70, 1.5, "x", True, [], {}, [1], {"a": 1}, [{"seed": "x"}])


def damaged_states(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each entry missing, and of other types and values, also inside of `begin`."""
    for keys in ((), ("begin",), ("begin", "generators", 0), ("begin", "global"), ("sampler",)):
        try:
            inner: Any = state
            for key in keys:
                inner = inner[key]
        except KeyError:
            continue
        for name in inner:
            for value in (..., *VALUES):
                damaged = copy.deepcopy(state)
                inside: Any = damaged
                for key in keys:
                    inside = inside[key]
                if value is ...:
                    del inside[name]
                else:
                    inside[name] = value
                yield damaged


@pytest.mark.parametrize("case", ["shuffle", "generator", "distributed", "eager", "stately"])
def test_damaged_states_are_refused(ds: e2eio.Dataset, case: str) -> None:
    def make() -> e2eio.DataLoader:
        return (
            e2eio.DataLoader(ds, 8, sampler=Stately()) if case == "stately" else made(ds, case, 6)
        )

    loader = make()
    iterator = iter(loader)
    next(iterator), next(iterator)
    n_refused = 0
    for damaged in damaged_states(json.loads(json.dumps(loader.state_dict()))):
        again = make()
        try:
            again.load_state_dict(damaged)
            for _ in zip(range(3), again):  # noqa: B905
                pass
        except StateError:
            n_refused += 1
    assert n_refused > 100
    state = loader.state_dict()
    for name, value in (("_num_yielded", -1), ("_num_yielded", "2"), ("base_seed", -1)):
        with pytest.raises(StateError, match=f"damaged state: {name} is"):
            loader.load_state_dict({**state, name: value})
    if case != "stately":  # whoever has a state counts for itself
        with pytest.raises(StateError, match="1000"):
            loader.load_state_dict({**state, "_num_yielded": 1000})
            list(loader)


def test_a_refused_state_leaves_the_loader_as_it_was(ds: e2eio.Dataset) -> None:
    loader = sharing(2)(ds)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    with pytest.raises(StateError):
        loader.load_state_dict({**state, "begin": {"epoch": -3}})
    assert loader.sampler.epoch == 0
    assert loader.state_dict() == state
