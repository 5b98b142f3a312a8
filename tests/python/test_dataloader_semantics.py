"""e2eio.DataLoader: torch's guards and messages, and the functions that users give."""

from __future__ import annotations

import pickle
import random
from typing import Any

import numpy as np
import pytest

import e2eio
from e2eio.errors import ConfigError

torch: Any = pytest.importorskip("torch")


from torch_toys import N, assert_done, global_states, numbers, reseed, write_toy  # noqa: E402

Subset: Any = torch.utils.data.Subset
get_worker_info: Any = torch.utils.data.get_worker_info
WORKERS = pytest.mark.parametrize("num_workers", [0, 2])
KINDS = pytest.mark.parametrize("kind", [e2eio.DataLoader, torch.utils.data.DataLoader])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


GUARDS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"num_workers": -1}, ValueError, "num_workers option should be non-negative"),
    ({"timeout": -1}, ValueError, "timeout option should be non-negative"),
    (
        {"shuffle": True, "sampler": [1]},
        ValueError,
        "sampler option is mutually exclusive with shuffle",
    ),
    (
        {"batch_sampler": [[1]], "batch_size": 3},
        ValueError,
        "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last",
    ),
    (
        {"batch_size": None, "drop_last": True},
        ValueError,
        "batch_size=None option disables auto-batching",
    ),
    (
        {"prefetch_factor": 2},
        ValueError,
        "prefetch_factor option could only be specified in multiprocessing",
    ),
    ({"num_workers": 1, "prefetch_factor": -1}, ValueError, "prefetch_factor option should be non"),
    ({"persistent_workers": True}, ValueError, "persistent_workers option needs num_workers > 0"),
    ({"batch_size": 0}, ValueError, "batch_size should be a positive integer value"),
    ({"batch_size": 2.5}, ValueError, "batch_size should be a positive integer value"),
    ({"multiprocessing_context": "spawn"}, ValueError, "can only be used with multi-process"),
    (
        {"num_workers": 1, "multiprocessing_context": "no"},
        ValueError,
        "should specify a valid start method",
    ),
    ({"num_workers": 1, "multiprocessing_context": 3}, TypeError, "should be a valid context"),
]


@KINDS
@pytest.mark.parametrize(("options", "error", "message"), GUARDS)
def test_guards_are_torchs(
    ds: e2eio.Dataset, kind: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        kind(ds, **options)


@KINDS
def test_what_may_not_be_set_later(ds: e2eio.Dataset, kind: Any) -> None:
    loader = kind(ds, 4)
    for name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset"):
        with pytest.raises(
            ValueError, match=f"{name} attribute should not be set after DataLoader is initialized"
        ):
            setattr(loader, name, None)
    with pytest.raises(ValueError, match="persistent_workers attribute should not be set"):
        loader.persistent_workers = True


@KINDS
def test_attributes_and_lengths(ds: e2eio.Dataset, kind: Any) -> None:
    loader = kind(ds, 4, num_workers=1, generator=torch.Generator(), drop_last=True)
    assert isinstance(loader, torch.utils.data.DataLoader)
    assert (loader.prefetch_factor, loader.timeout, loader.pin_memory) == (2, 0, False)
    assert len(loader) == len(iter(loader)) == N // 4
    assert len(kind(ds, batch_size=None)) == N
    with pytest.raises(TypeError, match="has no len"):
        len(kind(ds, batch_sampler=iter([[1]])))


def test_iterable_datasets_keep_torchs_warnings() -> None:
    class Lying(torch.utils.data.IterableDataset):  # type: ignore[misc]
        def __iter__(self) -> Any:
            return iter(range(5))

        def __len__(self) -> int:
            return 2

    loader = e2eio.DataLoader(Lying(), 1)
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="Length of IterableDataset"):
        list(loader)
    assert loader.state_dict() == {}


@pytest.mark.parametrize("options", [{}, {"prefetch_factor": 0}])
def test_misuse_is_noticed_when_torch_notices_it(ds: e2eio.Dataset, options: Any) -> None:
    if options:
        with pytest.raises(AssertionError, match="prefetch_factor must be greater than 0"):
            iter(e2eio.DataLoader(ds, num_workers=1, **options))
    iterator = iter(e2eio.DataLoader(ds, 4))
    with pytest.raises(NotImplementedError, match="cannot be pickled"):
        pickle.dumps(iterator)


@WORKERS
def test_collate_fn_gets_what_torchs_would(ds: e2eio.Dataset, num_workers: int) -> None:
    def collate(samples: list[Any]) -> Any:
        assert type(samples[0]) is dict
        drawn = torch.rand(2).tolist(), np.random.rand(), random.random()
        return [{name: type(value) for name, value in s.items()} for s in samples], drawn, samples

    def batches(kind: Any) -> list[Any]:
        reseed(3)
        seeded = {"worker_init_fn": seed_more} if num_workers else {}
        loader = kind(ds, 9, num_workers=num_workers, shuffle=True, collate_fn=collate, **seeded)
        return [(*batch, global_states()) for _ in range(2) for batch in loader]

    ours, theirs = batches(e2eio.DataLoader), batches(torch.utils.data.DataLoader)
    assert len(ours) == len(theirs) == 14
    for one, other in zip(ours, theirs, strict=True):
        assert one[:2] == other[:2]  # the types, and what was drawn
        assert one[3] == other[3]
        for sample, expected in zip(one[2], other[2], strict=True):
            assert all(np.array_equal(sample[name], expected[name]) for name in expected)
            sample["X"][...] = 1  # they are one's own


def seed_more(worker: int) -> None:
    info = get_worker_info()
    assert info is not None
    assert (info.id, info.num_workers) == (worker, 2)
    assert isinstance(info.dataset, e2eio.Dataset)
    assert info.seed == torch.initial_seed()
    np.random.seed(worker + int(torch.randint(1000, ())))


def test_worker_init_fn_leaves_this_process_alone(ds: e2eio.Dataset) -> None:
    called: list[int] = []
    reseed(1)
    loader = e2eio.DataLoader(ds, 9, num_workers=2, worker_init_fn=called.append)
    iter(loader)
    assert called == [0, 1]
    assert get_worker_info() is None

    def fail(worker: int) -> None:
        raise KeyError(worker)

    with pytest.raises(KeyError) as caught:
        iter(e2eio.DataLoader(ds, 9, num_workers=2, worker_init_fn=fail))
    assert vars(caught.value)["__notes__"] == ["in worker_init_fn of worker 0 of 2"]
    assert get_worker_info() is None


def test_pickles_as_it_was_made(ds: e2eio.Dataset) -> None:
    loader = e2eio.DataLoader(
        Subset(ds, range(0, N, 2)), 8, sampler=[3, 1], num_workers=1, channels=("b",)
    )
    first = next(iter(loader))
    twin = pickle.loads(pickle.dumps(loader))
    assert torch.equal(next(iter(twin))["X"], first["X"])
    assert twin.channels == ("b",)
    with pytest.raises(ValueError, match="should not be set"):
        twin.batch_size = 3


def test_pin_memory_without_an_accelerator(ds: e2eio.Dataset) -> None:
    if torch.accelerator.is_available():
        batch = next(iter(e2eio.DataLoader(ds, 4, pin_memory=True)))
        assert batch["X"].is_pinned()
        return
    with pytest.warns(UserWarning, match="no accelerator is found"):
        batch = next(iter(e2eio.DataLoader(ds, 4, pin_memory=True)))
    assert numbers(batch) == [0, 1, 2, 3]


def test_bad_options_are_said_at_once(ds: e2eio.Dataset) -> None:
    for options, message in (
        ({"channels": ("z",)}, "unknown channel"),
        ({"fields": ("z",)}, "unknown field"),
        ({"snapshot_every_n_steps": 0}, "snapshot_every_n_steps"),
    ):
        with pytest.raises(ConfigError, match=message):
            e2eio.DataLoader(ds, 4, **options)
    loader = e2eio.DataLoader(ds, 4, dtype="bfloat16", collate_fn=len)
    with pytest.raises(ConfigError, match="bfloat16"):
        next(iter(loader))
    assert next(iter(e2eio.DataLoader(ds, 4, dtype="bfloat16")))["X"].dtype == torch.bfloat16


@WORKERS
def test_plain_torch_loaders_gain_as_well(ds: e2eio.Dataset, num_workers: int) -> None:
    options: dict[str, Any] = {"batch_size": 8, "num_workers": num_workers}
    ours = torch.utils.data.DataLoader(ds, collate_fn=e2eio.default_collate, **options)
    for one, other in zip(ours, torch.utils.data.DataLoader(ds, **options), strict=True):
        assert list(one) == list(other)
        assert all(torch.equal(one[name], other[name]) for name in one)
    samples = ds.__getitems__([3, 4])
    assert numbers(e2eio.default_collate(samples)) == [3, 4]
    shared = e2eio.default_collate(samples)["X"]
    assert np.shares_memory(shared.numpy(), samples[0]["X"])
    samples[1]["i"] = np.int64(9)
    assert numbers(e2eio.default_collate(samples)) == [3, 9]
    assert numbers(e2eio.default_collate(samples[::-1])) == [9, 3]
    assert e2eio.default_collate([1, 2]).tolist() == [1, 2]


LIGHTNING = """
    import sys, warnings
    warnings.simplefilter("ignore")
    import e2eio, torch
    from lightning.fabric.utilities.data import _update_dataloader
    from lightning.fabric.utilities.data import _set_sampler_epoch
    from torch.utils.data.distributed import DistributedSampler

    ds = e2eio.Dataset(sys.argv[1])
    class Named(e2eio.DataLoader):
        pass
    for kind in (e2eio.DataLoader, Named):
        loader = kind(ds, 4, shuffle=True, num_workers=1, channels=("a", "c"), drop_last=True)
        sampler = DistributedSampler(ds, num_replicas=2, rank=1, shuffle=True)
        again = _update_dataloader(loader, sampler)
        assert type(again) is kind
        assert again.sampler is sampler and again.drop_last and again.channels == ("a", "c")
        _set_sampler_epoch(again, 3)
        batches = list(again)
        assert batches[0]["X"].shape == (4, 2, 12, 12)
        expected = list(sampler)
        assert sum([batch["i"].tolist() for batch in batches], []) == expected[: len(batches) * 4]
        assert again.stats()["samples"] == len(batches) * 4
    print("done")
"""


def test_lightning_makes_it_again(ds: e2eio.Dataset) -> None:
    pytest.importorskip("lightning")
    assert_done(LIGHTNING, ds)
