"""e2eio.DataLoader.state_dict: exact at every batch, and at an epoch's end as torchdata's StatefulDataLoader."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import e2eio
from e2eio.errors import StateError

torch: Any = pytest.importorskip("torch")


from sampler_toys import CASES, DistributedSampler, Foreign, Stately, made, sharing  # noqa: E402
from torch_toys import N, numbers, reseed, write_toy  # noqa: E402

WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


@pytest.mark.parametrize("case", CASES)
@WORKERS
@pytest.mark.parametrize("native", [True, False])
def test_goes_on_exactly(ds: e2eio.Dataset, case: str, num_workers: int, native: bool) -> None:
    dataset = ds if native else Foreign()
    if not native and num_workers and case not in ("shuffle", "generator"):
        return  # processes are slow to start, and what is tested is the same
    for cut, epoch in ((0, 0), (1, 1), (4, 0), (10**6, 0)) if native else ((4, 0), (10**6, 0)):
        reseed(3)
        loader = made(dataset, case, 6 + epoch, num_workers=num_workers)
        for _ in range(epoch):
            list(loader)
        iterator = iter(loader)
        seen = [numbers(batch) for _, batch in zip(range(min(cut, len(loader))), iterator)]  # noqa: B905
        state = json.loads(json.dumps(loader.state_dict()))
        at_cut = torch.get_rng_state()
        rest = [numbers(batch) for batch in iterator]
        assert len(seen + rest) == len(loader)
        following = [numbers(batch) for batch in loader]

        reseed(99)
        again = made(dataset, case, 1234, num_workers=num_workers)
        again.load_state_dict(state)
        torch.set_rng_state(at_cut)  # whoever resumes a training does that
        assert [numbers(batch) for batch in again] == rest
        assert [numbers(batch) for batch in again] == following


@WORKERS
def test_many_cuts(ds: e2eio.Dataset, num_workers: int) -> None:
    cuts = random.Random(1)
    for _ in range(100):
        reseed(cuts.randrange(2**30))
        batch_size = cuts.randrange(1, 20)
        options: dict[str, Any] = {
            "shuffle": True,
            "num_workers": num_workers,
            "drop_last": cuts.random() < 0.5,
        }
        loader = e2eio.DataLoader(ds, batch_size, fields=("sample_id", "X"), **options)
        cut = cuts.randrange(len(loader) + 1)
        iterator = iter(loader)
        for _ in range(cut):
            next(iterator)
        state = json.dumps(loader.state_dict())
        assert len(state) < 1024
        rest = [ids.tolist() for ids, _ in iterator]
        options["num_workers"] = cuts.randrange(3)
        again = e2eio.DataLoader(ds, batch_size, fields=("sample_id", "X"), **options)
        again.load_state_dict(json.loads(state))
        assert [ids.tolist() for ids, _ in again] == rest


def ends(kind: Any, dataset: Any, num_workers: int) -> list[Any]:
    """What a state taken around the end of an epoch resumes to."""
    found = []

    def resumed(state: Any) -> list[int]:
        loader = kind(dataset, 8, num_workers=num_workers)
        loader.load_state_dict(state)
        return [sum(1 for _ in loader) for _ in range(2)]

    loader = kind(dataset, 8, num_workers=num_workers)
    found.append(resumed(loader.state_dict()))  # before anything
    iterator = iter(loader)
    found.append(resumed(loader.state_dict()))
    next(iterator)
    found.append(resumed(loader.state_dict()))
    for _ in range(len(loader) - 1):
        next(iterator)
    found.append(resumed(loader.state_dict()))  # before StopIteration
    assert next(iterator, None) is None
    found.append(resumed(loader.state_dict()))  # after it
    for _ in loader:
        break
    found.append(resumed(loader.state_dict()))
    found.append(resumed({}))
    return found


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@WORKERS
def test_ends_of_epochs_are_torchdatas(ds: e2eio.Dataset, num_workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    n = -(-N // 8)
    ours = ends(e2eio.DataLoader, ds, num_workers)
    assert ours == [[n, n], [n, n], [n - 1, n], [0, n], [n, n], [n - 1, n], [n, n]]
    assert ends(e2eio.DataLoader, Foreign(), 0) == ours
    assert ends(stateful, Foreign(), 0) == ours


@WORKERS
@pytest.mark.parametrize("every", [1, 3])
def test_samplers_with_a_state_are_asked_for_it(
    ds: e2eio.Dataset, num_workers: int, every: int
) -> None:
    sampler = pytest.importorskip("torchdata.stateful_dataloader.sampler")
    makers: tuple[Callable[[], Any], ...] = (
        Stately,
        lambda: sampler.StatefulDistributedSampler(ds, num_replicas=1, rank=0),
    )
    for make in makers:
        options: dict[str, Any] = {"num_workers": num_workers, "snapshot_every_n_steps": every}
        for cut in (0, 1, 5, 8, 9):
            loader = e2eio.DataLoader(ds, 8, sampler=make(), **options)
            list(loader)
            iterator = iter(loader)
            for _ in range(cut):
                next(iterator, None)
            state = json.loads(json.dumps(loader.state_dict()))
            rest = [numbers(batch) for batch in iterator]
            following = [numbers(batch) for batch in loader]
            again = e2eio.DataLoader(ds, 8, sampler=make(), **options)
            again.load_state_dict(state)
            if cut < 9:
                assert [numbers(batch) for batch in again] == rest, (make, cut)
            assert [numbers(batch) for batch in again] == following, (make, cut)


def test_iterators_with_a_state_are_asked_for_it(ds: e2eio.Dataset) -> None:
    sampler = pytest.importorskip("torchdata.stateful_dataloader.sampler")

    def loader(seed: int) -> e2eio.DataLoader:
        inner = sampler.RandomSampler(ds, generator=torch.Generator().manual_seed(seed))
        return e2eio.DataLoader(ds, batch_sampler=sampler.BatchSampler(inner, 8, False))

    first, again = loader(1), loader(2)
    iterator = iter(first)
    for _ in range(3):
        next(iterator)
    state = first.state_dict()
    assert state["sampler"]["iterator"]["samples_yielded"] == 24
    again.load_state_dict(state)
    assert [numbers(batch) for batch in again] == [numbers(batch) for batch in iterator]


def test_persistent_workers_and_random_transforms_go_on(ds: e2eio.Dataset) -> None:
    options: dict[str, Any] = {
        "num_workers": 1,
        "persistent_workers": True,
        "transforms": (e2eio.transforms.RollPhi(5),),
    }

    def images(loader: e2eio.DataLoader) -> Any:
        return torch.cat([batch["X"] for batch in loader])

    loader = e2eio.DataLoader(ds, 8, **options)
    first, second = images(loader), images(loader)
    assert not torch.equal(first, second)
    iterator = iter(loader)
    third = [next(iterator)["X"] for _ in range(3)]
    state = loader.state_dict()
    third += [batch["X"] for batch in iterator]
    ended = loader.state_dict()
    fourth = images(loader)
    again = e2eio.DataLoader(ds, 8, **options)
    again.load_state_dict(state)
    assert torch.equal(images(again), torch.cat(third[3:]))
    assert torch.equal(images(again), fourth)
    again.load_state_dict(ended)
    assert torch.equal(images(again), fourth)


def test_errors_count_as_batches(ds: e2eio.Dataset) -> None:
    order = [[1], [N], [2], [3]]
    loader = e2eio.DataLoader(ds, batch_sampler=order, num_workers=1)
    iterator = iter(loader)
    next(iterator)
    with pytest.raises(IndexError):
        next(iterator)
    again = e2eio.DataLoader(ds, batch_sampler=order)
    again.load_state_dict(loader.state_dict())
    assert [numbers(batch) for batch in again] == [[2], [3]]


def test_all_ranks_go_on_from_the_state_of_one(ds: e2eio.Dataset) -> None:
    loaders = [sharing(2, rank, seed=5)(ds) for rank in range(2)]
    iterators = [iter(loader) for loader in loaders]
    for iterator in iterators:
        next(iterator), next(iterator)
    state = json.loads(json.dumps(loaders[0].state_dict()))
    for rank, iterator in enumerate(iterators):
        again = sharing(2, rank, seed=5)(ds)
        again.load_state_dict(state)
        assert [numbers(batch) for batch in again] == [numbers(batch) for batch in iterator]


def test_datasets_without_length_or_state(ds: e2eio.Dataset) -> None:
    class Endless(torch.utils.data.Dataset):  # type: ignore[misc]
        def __getitem__(self, index: int) -> Any:
            return {"i": index}

    loader = e2eio.DataLoader(Endless(), sampler=[5, 6, 7])
    next(iter(loader))
    again = e2eio.DataLoader(Endless(), sampler=[5, 6, 7])
    again.load_state_dict(loader.state_dict())
    assert [numbers(batch) for batch in again] == [[6], [7]]

    class Stream(torch.utils.data.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Iterator[int]:
            return iter(range(3))

    with pytest.raises(StateError, match="IterableDataset"):
        e2eio.DataLoader(Stream()).load_state_dict(e2eio.DataLoader(ds).state_dict())


def test_a_listed_range_is_the_range(ds: e2eio.Dataset) -> None:
    loader = e2eio.DataLoader(ds, 4)
    iterator = iter(loader)
    next(iterator)
    listed = e2eio.DataLoader(torch.utils.data.Subset(ds, list(range(N))), 4)
    listed.load_state_dict(loader.state_dict())
    assert [numbers(batch) for batch in listed] == [numbers(batch) for batch in iterator]


def drawing(samples: list[Any]) -> Any:
    return [sample["i"] for sample in samples], random.random(), float(torch.rand(()))


def resumed(ds: e2eio.Dataset, collate: Any, n: int, again_with: int) -> list[str]:
    loader = e2eio.DataLoader(ds, 8, num_workers=2, collate_fn=collate)
    iterator = iter(loader)
    for _ in range(n):
        next(iterator, None)
    state = json.loads(json.dumps(loader.state_dict()))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        again = e2eio.DataLoader(ds, 8, num_workers=again_with, collate_fn=collate)
        again.load_state_dict(state)
        list(again)
    return [str(each.message) for each in caught]


def test_what_workers_drew_is_lost_with_a_warning(ds: e2eio.Dataset) -> None:
    (said,) = resumed(ds, drawing, 3, 2)
    assert said.startswith("collate_fn draws random numbers of workers, which begin anew")
    assert len(resumed(ds, drawing, 3, 0)) == 1
    assert resumed(ds, drawing, 0, 2) == []
    assert resumed(ds, drawing, 9, 2) == []  # the next epoch: all its numbers are new
    assert resumed(ds, list, 3, 2) == []  # draws nothing


def test_an_epoch_set_later_wins(ds: e2eio.Dataset) -> None:
    def loader() -> e2eio.DataLoader:
        return e2eio.DataLoader(ds, 8, sampler=DistributedSampler(ds, num_replicas=1, rank=0))

    first, again = loader(), loader()
    first.sampler.set_epoch(4)
    iterator = iter(first)
    next(iterator)
    state = first.state_dict()
    assert state["begin"] == {"epoch": 4}
    again.load_state_dict(state)
    assert again.sampler.epoch == 4
    assert [numbers(batch) for batch in again] == [numbers(batch) for batch in iterator]
    again.load_state_dict(state)
    again.sampler.set_epoch(5)
    list(again)
    assert again.state_dict()["begin"] == {"epoch": 5}
