"""e2eio.DataLoader and torch's own, side by side: the same batches, and the same random numbers at every step."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import e2eio

torch: Any = pytest.importorskip("torch")


from sampler_toys import (  # noqa: E402
    BatchSampler,
    DistributedSampler,
    Eager,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from torch_toys import N, epochs_of, numbers, reseed, write_toy  # noqa: E402

ConcatDataset: Any = torch.utils.data.ConcatDataset
SequentialSampler: Any = torch.utils.data.SequentialSampler
Subset: Any = torch.utils.data.Subset
random_split: Any = torch.utils.data.random_split

WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "other", n=20, begin=100)


def assert_same(ours: Any, theirs: Any) -> None:
    assert type(ours) is type(theirs)
    if isinstance(ours, torch.Tensor):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert ours.is_contiguous()
        assert torch.equal(ours, theirs)
    elif isinstance(ours, dict):
        assert list(ours) == list(theirs)
        for name in ours:
            assert_same(ours[name], theirs[name])
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for one, another in zip(ours, theirs, strict=True):
            assert_same(one, another)
    else:
        assert ours == theirs


class OnDemand(Sampler):  # type: ignore[misc]
    """Draws from the global random numbers whenever it is asked, of torch, numpy and Python."""

    def __len__(self) -> int:
        return N

    def __iter__(self) -> Iterator[int]:
        for _ in range(N):
            yield int(torch.randint(N, ()) + np.random.randint(N) + random.randrange(N)) % N


class Growing:
    """A batch sampler of batches of all kinds and sizes, larger and larger."""

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        yield [3]
        yield (1, 2)
        yield np.arange(5)
        yield torch.randperm(20)
        yield [torch.tensor(4), np.int32(7), -1]
        yield range(40)


class Endless:
    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield torch.randint(N, (7,)).tolist()


def arguments_of(case: str, ds: Any, generator: Any) -> dict[str, Any]:
    n = len(ds)
    cases: dict[str, Callable[[], dict[str, Any]]] = {
        "sequential": lambda: {"batch_size": 8},
        "drop_last": lambda: {"batch_size": 8, "drop_last": True},
        "shuffle": lambda: {"batch_size": 8, "shuffle": True},
        "one_batch": lambda: {"batch_size": 1000, "shuffle": True},
        "shuffle_generator": lambda: {"batch_size": 8, "shuffle": True, "generator": generator},
        "generator_of_sampler": lambda: {
            "batch_size": 8,
            "sampler": RandomSampler(ds, generator=generator),
        },
        "replacement": lambda: {
            "batch_size": 8,
            "sampler": RandomSampler(ds, replacement=True, num_samples=90, generator=generator),
        },
        "replacement_global": lambda: {
            "batch_size": 8,
            "sampler": RandomSampler(ds, replacement=True, num_samples=90),
        },
        "more_than_all": lambda: {
            "batch_size": 8,
            "sampler": RandomSampler(ds, num_samples=150, generator=generator),
        },
        "subset": lambda: {"batch_size": 8, "sampler": SubsetRandomSampler(range(0, n, 2))},
        "subset_generator": lambda: {
            "batch_size": 8,
            "sampler": SubsetRandomSampler(list(range(5, 30)), generator=generator),
            "generator": generator,
        },
        "weighted": lambda: {
            "batch_size": 8,
            "sampler": WeightedRandomSampler(np.arange(1, n + 1).tolist(), 50),
        },
        "distributed": lambda: {
            "batch_size": 4,
            "sampler": DistributedSampler(ds, num_replicas=3, rank=1, seed=5),
        },
        "list": lambda: {"batch_size": 3, "sampler": [5, 3, 3, -1, 0]},
        "on_demand": lambda: {"batch_size": 8, "sampler": OnDemand()},
        "eager": lambda: {"batch_size": 8, "sampler": Eager()},
        "eager_no_batches": lambda: {"batch_size": None, "sampler": Eager()},
        "batch_sampler": lambda: {
            "batch_sampler": BatchSampler(RandomSampler(ds, generator=generator), 9, True)
        },
        "growing": lambda: {"batch_sampler": Growing()},
        "endless": lambda: {"batch_sampler": Endless()},
        "no_batches": lambda: {"batch_size": None, "shuffle": True},
        "no_batches_sequential": lambda: {"batch_size": None, "sampler": SequentialSampler(ds)},
    }
    return cases[case]()


CASES = (
    *("sequential", "drop_last", "shuffle", "one_batch", "shuffle_generator"),
    *("generator_of_sampler", "replacement", "replacement_global", "more_than_all", "subset"),
    *("subset_generator", "weighted", "distributed", "list", "on_demand", "eager"),
    "eager_no_batches",
    *("batch_sampler", "growing", "endless", "no_batches", "no_batches_sequential"),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_every_step_is_torchs(ds: e2eio.Dataset, case: str, num_workers: int) -> None:
    def steps(kind: Any, dataset: Any) -> list[Any]:
        generator = torch.Generator().manual_seed(11)
        reseed(5)
        return list(
            epochs_of(
                lambda: kind(
                    dataset, num_workers=num_workers, **arguments_of(case, dataset, generator)
                ),
                at_each=lambda: generator.get_state().numpy().tobytes(),
            )
        )

    theirs = steps(torch.utils.data.DataLoader, ThreadedTwin(ds) if num_workers else ds)
    ours = steps(e2eio.DataLoader, ds)
    assert len(ours) > 3
    assert_same(ours, theirs)


class ThreadedTwin(torch.utils.data.Dataset):  # type: ignore[misc]
    """The same samples, one by one, as a dataset that has nothing to do with e2eio."""

    def __init__(self, ds: e2eio.Dataset) -> None:
        self.samples = ds.__getitems__(range(len(ds)))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        return self.samples[index]


def test_persistent_workers_draw_as_torchs(ds: e2eio.Dataset) -> None:
    def steps(kind: Any) -> list[Any]:
        reseed(5)
        options: dict[str, Any] = {"persistent_workers": True, "num_workers": 2}
        return list(epochs_of(lambda: kind(ds, 8, shuffle=True, **options), n_epochs=3))

    assert_same(steps(e2eio.DataLoader), steps(torch.utils.data.DataLoader))


@WORKERS
def test_batches_are_ones_own(ds: e2eio.Dataset, num_workers: int) -> None:
    truth = torch.stack([torch.as_tensor(ds[i]["X"]) for i in range(N)])
    loader = e2eio.DataLoader(ds, 8, num_workers=num_workers, persistent_workers=num_workers > 0)
    kept = []
    for _ in range(3):
        for batch in loader:
            assert torch.equal(batch["X"], truth[batch["i"]])
            kept.append(batch["X"].clone())
            batch["X"].numpy()[...] = 7
            batch["y"] += 1
    assert len(kept) == 3 * len(loader)


def nests(ds: e2eio.Dataset, other: e2eio.Dataset) -> dict[str, Any]:
    part, rest = random_split(ds, [40, N - 40], generator=torch.Generator().manual_seed(2))
    return {
        "subset": Subset(ds, range(60, 2, -3)),
        "array": Subset(ds, np.array([5, -1, 5], dtype=np.int16)),
        "tensor": Subset(ds, torch.randperm(N)[:20]),
        "tensors": Subset(ds, list(torch.arange(9))),
        "split": part,
        "rest": rest,
        "both": ConcatDataset([ds, other]),
        "reversed": ConcatDataset([other, ds, other]),
        "deep": Subset(ConcatDataset([Subset(ds, [9, 8, 7]), rest, other]), [0, -1, 5, 2, 20]),
        "empty": Subset(ds, []),
    }


NESTS = (
    *("subset", "array", "tensor", "tensors", "split", "rest", "both", "reversed", "deep"),
    "empty",
)


@pytest.mark.parametrize("case", NESTS)
def test_nests_of_datasets_are_read_natively(
    ds: e2eio.Dataset, other: e2eio.Dataset, case: str
) -> None:
    reseed(1)
    dataset = nests(ds, other)[case]

    def batches(kind: Any) -> list[Any]:
        reseed(2)
        loader = kind(dataset, 7, sampler=list(range(len(dataset))) + [-1] * bool(len(dataset)))
        return list(loader)

    ours, theirs = batches(e2eio.DataLoader), batches(torch.utils.data.DataLoader)
    assert_same(ours, theirs)
    loader = e2eio.DataLoader(dataset, 7)
    list(loader)
    assert loader.stats().get("samples", 0) == len(dataset)


def test_own_classes_are_left_to_torch(ds: e2eio.Dataset, other: e2eio.Dataset) -> None:
    class Marked(Subset):  # type: ignore[misc]
        def __getitem__(self, index: Any) -> Any:
            return {**self.dataset[self.indices[index]], "i": -5}

        def __getitems__(self, indices: Any) -> Any:
            return [self[index] for index in indices]

    class Doubled(e2eio.Dataset):
        def __getitems__(self, indices: Any) -> Any:
            return [{"i": 2 * int(index)} for index in indices]

    doubled = Doubled(ds.readers)
    for dataset, expected in (
        (Marked(ds, [1, 2]), [-5, -5]),
        (Subset(Marked(ds, [1, 2]), [0]), [-5]),
        (Subset(doubled, [3, 4]), [6, 8]),
        (ConcatDataset([Subset(ds, [1]), Marked(ds, [1])]), [1, -5]),
    ):
        loader = e2eio.DataLoader(dataset, 4)
        assert numbers(next(iter(loader))) == expected
        assert loader.stats() == {}
    stream = e2eio.DataLoader(Stream(), 4)
    assert [batch.tolist() for batch in stream] == [[0, 1, 2, 3], [4]]


class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]
    def __iter__(self) -> Iterator[int]:
        return iter(range(5))


def test_indices_are_those_of_the_moment(ds: e2eio.Dataset) -> None:
    subset = Subset(ds, [1, 2, 3])
    loader = e2eio.DataLoader(subset, 8)
    assert numbers(next(iter(loader))) == [1, 2, 3]
    subset.indices[1] = 9
    assert numbers(next(iter(loader))) == [1, 9, 3]


def test_options_of_our_own(ds: e2eio.Dataset, other: e2eio.Dataset) -> None:
    options: dict[str, Any] = {
        "fields": ("sample_id", "X"),
        "channels": ("c", "a"),
        "dtype": "float16",
        "layout": "NHWC",
        "transforms": (e2eio.transforms.Scale(2.0),),
    }
    loader = e2eio.DataLoader(ConcatDataset([ds, other]), 8, shuffle=True, **options)
    seen = []
    for ids, images in loader:
        for sample_id, image in zip(ids.tolist(), images, strict=True):
            part, at = (ds, sample_id) if sample_id < N else (other, sample_id - N)
            expected = torch.as_tensor(part[at]["X"][[2, 0]] * 2).half().permute(1, 2, 0)
            assert torch.equal(image, expected)
        seen += ids.tolist()
    assert sorted(seen) == list(range(N + 20))
    assert {name: getattr(loader, name) for name in options} == options
    plain = torch.utils.data.DataLoader(ds, 8, collate_fn=loader.collate_fn)
    with pytest.raises(e2eio.errors.ConfigError, match="a DataLoader with fields, channels"):
        next(iter(plain))
    with pytest.raises(e2eio.errors.ConfigError, match="channels given for a list"):
        e2eio.DataLoader([1, 2], 2, channels=("a",))


def test_random_transforms_follow_from_the_seed(ds: e2eio.Dataset) -> None:
    def epochs(num_workers: int) -> list[Any]:
        torch.manual_seed(8)
        flip = (e2eio.transforms.RollPhi(4),)
        loader = e2eio.DataLoader(ds, 8, num_workers=num_workers, transforms=flip)
        return [torch.cat([batch["X"] for batch in loader]) for _ in range(2)]

    first, second = epochs(0)
    assert not torch.equal(first, second)
    assert_same(epochs(2), [first, second])
