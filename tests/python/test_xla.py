from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
import made_dataset
from e2eio.errors import ConfigError, CorruptShardError, MissingDependencyError

torch = pytest.importorskip("torch")

N = 300
FIELDS = ("X", "sample_id")


class StandIn:
    """Behaves towards a loader as torch_xla 2.9's ParallelLoader: reads 16 + 8 ahead, and swallows exceptions."""

    made: list[StandIn]

    def __init__(self, cpu_loader: Any, devices: list[Any], **kwargs: Any) -> None:
        StandIn.made.append(self)
        self.cpu_loader = cpu_loader
        self.kwargs = kwargs
        self.host: queue.Queue[Any] = queue.Queue(kwargs.get("loader_prefetch_size", 16))
        self.device: queue.Queue[Any] = queue.Queue(kwargs.get("device_prefetch_size", 8))
        self.done = False
        self.threads = [
            threading.Thread(target=each, daemon=True)
            for each in (self._loader_worker, self._worker)
        ]
        for thread in self.threads:
            thread.start()

    def per_device_loader(self, device: Any) -> Iterator[Any]:
        del device
        return iter(self.device.get, None)

    def close(self) -> None:
        self.done = True
        for thread in self.threads:
            thread.join()

    def _put(self, where: queue.Queue[Any], item: Any) -> None:
        wait_until(lambda: self.done or not where.full())  # nobody else fills it
        if not self.done:
            where.put(item)

    def _loader_worker(self) -> None:
        data_iter = iter(self.cpu_loader)  # an exception here leaves the consumer waiting
        try:
            while not self.done:
                try:
                    data = next(data_iter)
                except StopIteration:
                    break
                self._put(self.host, data)
        finally:
            self._put(self.host, None)

    def _worker(self) -> None:
        data: Any = ()
        while data is not None:
            wait_until(lambda: self.done or not self.host.empty())
            data = None if self.done else self.host.get()
            for tensor in data.values() if isinstance(data, dict) else data or ():
                assert type(tensor) is torch.Tensor
            self._put(self.device, data)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    StandIn.made = []
    module = ModuleType("torch_xla.distributed.parallel_loader")
    module.ParallelLoader = StandIn  # type: ignore[attr-defined]
    for name in ("torch_xla", "torch_xla.distributed"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    path = tmp_path_factory.mktemp("xla") / "ds"
    return path, made_dataset.make(path, N)


@pytest.fixture
def path(made: tuple[Path, NDArray[np.float32]]) -> Path:
    return made[0]


@pytest.fixture
def images(made: tuple[Path, NDArray[np.float32]]) -> NDArray[np.float32]:
    return made[1]


def device_loader(path: Path, *, kwargs: Any = None, **options: Any) -> e2eio.xla.DeviceLoader:
    loader = e2eio.Loader(path, **{"batch_size": 8, "fields": FIELDS, **options})
    return e2eio.xla.device_loader(loader, "xla:0", **(kwargs or {}))


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_batches_read_far_ahead_do_not_change(path: Path, images: NDArray[np.float32]) -> None:
    with device_loader(path, shuffle=True, prefetch=1) as batches:
        assert len(batches) == 38
        epochs = []
        for _ in range(3):
            seen = []
            for k, (x, ids) in enumerate(batches):
                if k == 0:  # let its threads read as far ahead as they like
                    wait_until(StandIn.made[-1].host.full)
                    wait_until(StandIn.made[-1].device.full)
                np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
                seen += ids.tolist()
            assert sorted(seen) == list(range(N))
            epochs.append(tuple(seen))
        assert len(set(epochs)) == 3
        batches.set_epoch(0)
        assert tuple(i for _, ids in batches for i in ids.tolist()) == epochs[0]


def test_tensors_own_their_memory_so_the_ring_stays_small(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=8, fields=FIELDS, prefetch=2)
    held = list(e2eio.xla.device_loader(loader, "xla:0"))
    assert len(held) == 38
    assert loader.stats()["slots_lent"] == 0
    assert loader.stats()["slots"] <= 6
    held[0][0].add_(1)  # theirs to change: no warning, no stale batch
    assert len(list(loader)) == 38


@pytest.mark.parametrize("framework", ["torch", "numpy"])
def test_dicts_and_options_reach_torch_xla(path: Path, framework: Any) -> None:
    kwargs = {"loader_prefetch_size": 3, "device_prefetch_size": 2, "input_sharding": {"X": None}}
    with device_loader(
        path,
        kwargs=kwargs,
        fields=None,
        framework=framework,
        dtype="bfloat16" if framework == "torch" else "float16",
    ) as batches:
        found = list(batches)
    assert StandIn.made[-1].kwargs == kwargs
    assert list(found[0]) == ["X", "y", "run"]
    assert [y for batch in found for y in batch["y"].tolist()] == list(range(N))


def test_the_state_counts_what_the_loop_was_given(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=8, fields=FIELDS, shuffle=True, prefetch=1)
    batches = e2eio.xla.device_loader(loader, "xla:0")
    for used in (1, 5, 38):
        loader.set_epoch(3)
        order = [ids.tolist() for _, ids in loader]
        loader.set_epoch(3)
        for k, _ in enumerate(batches, 1):
            if k == min(used, 10):
                wait_until(StandIn.made[-1].device.full)
            if k == used:
                state = loader.state_dict()
                break
        loader.load_state_dict(state)
        assert [ids.tolist() for _, ids in batches] == order[used:]
        assert loader.state_dict()["epoch"] == 4
    epoch = e2eio.xla.HostEpoch(loader)
    list(epoch)
    assert (loader.state_dict()["epoch"], loader.state_dict()["position"]) == (4, 0)
    epoch.use()
    assert loader.state_dict()["position"] == 8


def test_errors_are_raised_at_the_end_of_the_iteration(path: Path, tmp_path: Path) -> None:
    source = next(path.glob("*.e2e"))
    data = bytearray(source.read_bytes())
    sizes = e2eio.Dataset(path).readers[0].record_sizes()
    data[64 + int(sizes[:37].sum()) + 20] ^= 4
    (tmp_path / "damaged.e2e").write_bytes(bytes(data))
    with device_loader(tmp_path / "damaged.e2e") as batches:
        seen = []
        with pytest.raises(CorruptShardError, match="sample 37"):
            for _, ids in batches:
                seen += ids.tolist()
        assert seen == list(range(32))


def test_a_loader_that_cannot_begin_is_an_error_not_a_hang(path: Path) -> None:
    batches = device_loader(path)
    batches.close()
    with pytest.raises(ConfigError, match="closed"):
        list(batches)


def test_leaving_the_loop_early_joins_all_threads(path: Path, images: NDArray[np.float32]) -> None:
    before = threading.active_count()
    with device_loader(path, shuffle=True) as batches:
        for _ in range(3):
            for x, ids in batches:
                np.testing.assert_array_equal(x.numpy(), images[ids.numpy()])
                break
            assert threading.active_count() == before
        with pytest.raises(ZeroDivisionError):
            for _ in batches:
                raise ZeroDivisionError
        assert threading.active_count() == before
        assert sorted(i for _, ids in batches for i in ids.tolist()) == list(range(N))


def test_leaving_does_not_wait_for_storage_that_stalls(path: Path) -> None:
    shard = e2eio.shards.open_shard(next(path.glob("*.e2e")), throttle=(0, 0.7))
    loader = e2eio.Loader(e2eio.Dataset(shard), batch_size=8, fields=FIELDS, threads=1)
    epoch = e2eio.xla.HostEpoch(loader)
    taken: list[Any] = []
    reader = threading.Thread(target=taken.extend, args=(epoch,))
    reader.start()
    wait_until(lambda: epoch._batches is not None)
    epoch.close()
    reader.join(60)
    assert not reader.is_alive()
    assert taken == []
    loader.close()


def test_what_it_needs_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="dense"):
        device_loader(path, form="coo")
    monkeypatch.setitem(sys.modules, "torch_xla", None)
    monkeypatch.delitem(sys.modules, "torch_xla.distributed")
    monkeypatch.delitem(sys.modules, "torch_xla.distributed.parallel_loader")
    with pytest.raises(MissingDependencyError, match="torch_xla"):
        device_loader(path)
