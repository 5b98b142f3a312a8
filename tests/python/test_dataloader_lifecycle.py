"""e2eio.DataLoader: waiting, interrupts, threads and forks."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import e2eio
from e2eio.shards import open_shard

torch: Any = pytest.importorskip("torch")


from torch_toys import N, assert_done, numbers, outcome_of, write_toy  # noqa: E402

WORKERS = pytest.mark.parametrize("num_workers", [0, 2])


@pytest.fixture(scope="module")
def ds(tmp_path_factory: pytest.TempPathFactory) -> e2eio.Dataset:
    return write_toy(tmp_path_factory.mktemp("dataloader") / "ds")


def n_threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def slow(ds: e2eio.Dataset, seek_s: float) -> e2eio.Dataset:
    return e2eio.Dataset(open_shard(ds.readers[0].path, throttle=(0, seek_s)))


@WORKERS
def test_timeout_is_torchs_error_and_loses_nothing(ds: e2eio.Dataset, num_workers: int) -> None:
    options: dict[str, Any] = {"num_workers": num_workers, "timeout": 0.05}
    loader = e2eio.DataLoader(slow(ds, 0.3), 2, sampler=[5, 50, 6], **options)
    iterator = iter(loader)
    with pytest.raises(RuntimeError, match=r"DataLoader timed out after 0.05 seconds"):
        next(iterator)
    outcomes: list[Any] = []
    while not (outcomes and isinstance(outcomes[-1], StopIteration)):
        outcomes.append(outcome_of(iterator))
    assert [each for each in outcomes if isinstance(each, list)] == [[5, 50], [6]]


def test_a_batch_that_takes_very_long_is_warned_about_once(
    ds: e2eio.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("e2eio.batches.delivery.SLOW_BATCH_S", 0.01)
    with pytest.warns(UserWarning, match="timeout= to e2eio.DataLoader") as caught:
        for _ in e2eio.DataLoader(slow(ds, 0.3), 31):
            pass
    (warned,) = caught
    assert warned.filename == __file__


def test_interrupted_waits_lose_nothing(ds: e2eio.Dataset) -> None:
    iterator = iter(e2eio.DataLoader(slow(ds, 0.7), 1, sampler=[3, 4], num_workers=1))
    with pytest.raises(KeyboardInterrupt):
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        next(iterator)
    assert [numbers(batch) for batch in iterator] == [[3], [4]]


@WORKERS
def test_several_iterators_and_breaks(ds: e2eio.Dataset, num_workers: int) -> None:
    loader = e2eio.DataLoader(ds, 8, num_workers=num_workers)
    for left, right in zip(loader, loader, strict=True):
        assert numbers(left) == numbers(right)
    for batch in loader:
        assert numbers(batch)[0] == 0
        break
    assert sum(len(batch["i"]) for batch in loader) == N


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
@WORKERS
def test_threads_end_with_the_iterator(ds: e2eio.Dataset, num_workers: int) -> None:
    gc.collect()
    before = n_threads()
    loader = e2eio.DataLoader(ds, 4, num_workers=num_workers)
    assert n_threads() == before
    for end in ("drop", "finish"):
        iterator = iter(loader)
        next(iterator)
        assert n_threads() > before
        if end == "finish":
            assert len(list(iterator)) == len(loader) - 1
            assert n_threads() <= before
        del iterator
        assert n_threads() <= before, end
    kept = e2eio.DataLoader(ds, 4, num_workers=2, persistent_workers=True)
    list(kept)
    assert n_threads() > before
    list(kept)
    del kept
    assert n_threads() <= before


FORKED = """
    import os, sys, tempfile, warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    import e2eio, torch
    from e2eio.errors import ForkError

    ds = e2eio.Dataset(sys.argv[1])
    for options in ({}, {"num_workers": 2, "persistent_workers": True}):
        loader = e2eio.DataLoader(ds, 8, **options)
        iterator = iter(loader)
        next(iterator)
        child = os.fork()
        if child == 0:
            try:
                next(iterator)
            except ForkError as error:
                assert "call iter() on the DataLoader in the child" in str(error)
            else:
                os._exit(1)
            assert sum(len(batch["i"]) for batch in loader) == len(ds)
            del iterator, loader
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert len(list(iterator)) == len(loader) - 1

    class Outer(torch.utils.data.Dataset):
        def __init__(self, loader):
            self.loader = loader
        def __len__(self):
            return 4
        def __getitem__(self, index):
            return sum(int(batch["i"].sum()) for batch in self.loader)

    total = sum(range(len(ds)))
    inner = e2eio.DataLoader(ds, 8)
    list(inner)
    outer = torch.utils.data.DataLoader(
        Outer(inner), num_workers=1, multiprocessing_context="fork"
    )
    assert [int(each) for each in outer] == [total] * 4
    print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_children_begin_anew(ds: e2eio.Dataset) -> None:
    assert_done(FORKED, ds)
