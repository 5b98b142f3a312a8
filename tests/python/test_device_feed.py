"""Batches on a device, ahead of need: on the CPU where there is no card, by the same code without streams."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

os.environ.setdefault("TRITON_INTERPRET", "1" if not torch.cuda.is_available() else "0")

import e2eio
from e2eio.device import DeviceFeed, Moves, page_lock, prefetch_to_device, scatter_torch
from e2eio.device import feed as feed_module
from e2eio.device.lanes import HostLane, usable_device
from e2eio.sim import ToyJets, toy_jets

HOST = torch.device("cpu")
DEVICE = usable_device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("feed") / "ds"
    with e2eio.write(out, ToyJets().schema) as writer:
        for images, scalars in toy_jets(40, seed=4):
            writer.append(images, scalars)
    return out


def wires(path: Path, **options: Any) -> Iterator[Any]:
    return dense(path, form="wire", **options)


def dense(path: Path, **options: Any) -> Iterator[Any]:
    options.update(fields=("X_jets", "y", "sample_id"), channels=("track_pt", "dz", "hcal"))
    return iter(e2eio.Loader(path, batch_size=8, shuffle=True, **options))


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("recycle", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_delivers_the_batches_of_the_loader(
    path: Path, recycle: bool, dtype: Any, channels_last: bool
) -> None:
    for _ in range(2):
        feed = DeviceFeed(
            wires(path, dtype=dtype), DEVICE, recycle=recycle, channels_last=channels_last
        )
        n = 0
        for (x, y, ids), (want, labels, numbers) in zip(
            feed, dense(path, dtype=dtype), strict=True
        ):
            assert x.dtype == want.dtype
            assert x.device == DEVICE
            assert x.is_contiguous(
                memory_format=torch.channels_last if channels_last else torch.contiguous_format
            )
            assert torch.equal(x.cpu(), want)
            assert torch.equal(y.cpu(), labels)
            assert torch.equal(ids.cpu(), numbers)
            n += 1
        assert n == 5


def test_recycled_batches_that_are_held_stay_as_they_are(path: Path) -> None:
    feed = DeviceFeed(wires(path), DEVICE, recycle=True, depth=1)
    held = [(x[:, ::2], x.cpu().clone()) for x, _, _ in feed]
    gc.collect()
    for view, copy in held:
        assert torch.equal(view.cpu(), copy[:, ::2])


def test_recycled_buffers_are_used_again_and_cleared_where_they_were_written(path: Path) -> None:
    addresses = set()
    want = dense(path)
    for x, _, _ in DeviceFeed(wires(path), DEVICE, recycle=True, depth=0):
        addresses.add(x.data_ptr())
        assert torch.equal(x.cpu(), next(want)[0])
        del x
    assert len(addresses) <= 2


def test_a_recycled_batch_that_was_changed_in_place_is_cleared_in_full(path: Path) -> None:
    feed = DeviceFeed(wires(path), DEVICE, recycle=True, depth=0)
    want = dense(path)
    x = next(feed)[0]
    next(want)
    x[0].add_(1)
    held = [x]
    del x
    with pytest.warns(UserWarning, match="changed in place"):
        held.clear()
    for x, _, _ in feed:
        assert torch.equal(x.cpu(), next(want)[0])
        del x


def test_moves_are_made_from_the_batch(path: Path) -> None:
    def moves(batch: Any) -> Moves:
        shift = (batch[2] % 7).to(torch.int32).to(DEVICE)
        return Moves(roll_phi=shift, scale=torch.full((3,), 2.0, device=DEVICE))

    for recycle in (False, True):
        feed = DeviceFeed(wires(path), DEVICE, moves=moves, dtype=torch.float16, recycle=recycle)
        for (x, _, ids), (want, _, _) in zip(feed, dense(path), strict=True):
            rolled = [
                np.roll(image * 2, int(i) % 7, -1)
                for image, i in zip(want.numpy(), ids, strict=True)
            ]
            np.testing.assert_array_equal(x.cpu().numpy(), np.stack(rolled).astype(np.float16))


def test_takes_ahead_only_what_is_ready(path: Path) -> None:
    taken = []

    def batches() -> Iterator[Any]:
        for i, batch in enumerate(wires(path)):
            taken.append(i)
            yield batch

    feed = DeviceFeed(batches(), DEVICE, ready=lambda: len(taken) < 3, depth=4)
    next(feed)
    assert taken == [0, 1, 2]
    assert len(list(feed)) == 4


def test_an_error_comes_in_its_place(path: Path) -> None:
    def batches() -> Iterator[Any]:
        yield torch.zeros(1)
        yield torch.ones(1)
        raise KeyError("sample 7")

    feed = DeviceFeed(batches(), DEVICE, depth=3)
    assert [float(next(feed)), float(next(feed))] == [0, 1]
    with pytest.raises(KeyError, match="sample 7"):
        next(feed)
    with pytest.raises(StopIteration):
        next(feed)


def test_an_error_of_the_device_comes_in_its_place_and_is_the_last(path: Path) -> None:
    taken: list[int] = []

    def moves(batch: Any) -> Moves:
        taken.append(len(taken))
        if len(taken) == 3:
            raise torch.OutOfMemoryError("the card is full")
        return Moves()

    feed = DeviceFeed(wires(path), HOST, moves=moves)
    for _, want in zip(range(2), dense(path), strict=False):
        assert torch.equal(next(feed)[0].cpu(), want[0])
    with pytest.raises(torch.OutOfMemoryError):
        next(feed)
    with pytest.raises(StopIteration):
        next(feed)  # and not the batch after the one that is missing


def test_a_feed_that_knows_of_its_end_is_freed_without_the_collector(path: Path) -> None:
    feed = DeviceFeed(wires(path), HOST)
    for _ in range(4):  # of five: the end was found ahead
        next(feed)
    assert feed._error is not None
    gone = weakref.ref(feed)
    gc.disable()
    try:
        del feed
        assert gone() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("batches", [2, 3])
def test_prefetch_needs_no_more_memory_than_the_loader(path: Path, batches: int) -> None:
    limit = batches * 8 * 4 * int(np.prod(e2eio.Dataset(path).schema.image.shape))
    limited = e2eio.Loader(path, batch_size=8, memory_limit=limit)
    n = sum(1 for _ in limited)
    assert sum(1 for _ in prefetch_to_device(limited, device=DEVICE)) == n == 5


class Pair(NamedTuple):
    x: torch.Tensor
    name: str


class Source:
    """A loader of any make."""

    epoch = -1

    def __len__(self) -> int:
        return 3

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        for i in range(3):
            yield {"pair": Pair(torch.full((2,), i), str(i)), "list": [torch.tensor(i), None]}


def test_prefetch_keeps_structure_length_and_attributes() -> None:
    source = Source()
    assert e2eio.prefetch_to_device is prefetch_to_device
    batches = prefetch_to_device(source, depth=1, device=DEVICE)
    batches.set_epoch(5)
    assert source.epoch == 5
    assert len(batches) == 3
    for _ in range(2):
        for i, batch in enumerate(batches):
            assert isinstance(batch["pair"], Pair)
            assert batch["pair"].name == str(i)
            assert batch["pair"].x.tolist() == [i, i]
            assert batch["pair"].x.device == DEVICE
            assert batch["list"][0].item() == i
            assert batch["list"][1] is None


def test_prefetch_stops_in_the_middle(path: Path) -> None:
    loader = e2eio.Loader(path, batch_size=8)
    for _ in prefetch_to_device(loader, device=DEVICE):
        break
    assert len(list(prefetch_to_device(loader, device=DEVICE))) == 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "tpu", "meta", 7.5])
def test_names_what_is_missing_for_a_device(device: Any) -> None:
    with pytest.raises(
        e2eio.errors.ConfigError, match=r"device is .*(built without CUDA|expected)"
    ):
        prefetch_to_device([], device=device)


def test_refuses_a_negative_depth() -> None:
    with pytest.raises(e2eio.errors.ConfigError, match="depth is -1"):
        prefetch_to_device([], depth=-1)


def on_device(path: Path, **options: Any) -> e2eio.Loader:
    """A loader with a device; where there is no card, one that takes the host for one."""
    if DEVICE.type == "cuda":
        return e2eio.Loader(path, batch_size=8, shuffle=True, device=DEVICE, **options)
    layout = options.pop("layout", "NCHW")
    loader = e2eio.Loader(path, batch_size=8, shuffle=True, form="wire", **options)
    loader._device = DEVICE
    loader._arguments["layout"] = layout
    return loader


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("fields", [None, ("y", "X_jets")])
def test_a_loader_with_a_device_delivers_what_it_would_on_the_host(
    path: Path, layout: Any, fields: Any
) -> None:
    options = {"layout": layout, "fields": fields, "channels": ("track_pt", "hcal")}
    loader = on_device(path, **options)
    host = e2eio.Loader(path, batch_size=8, shuffle=True, **options)
    for _ in range(2):
        batches = iter(loader)
        assert len(batches) == 5
        for got, want in zip(batches, host, strict=True):
            assert type(got) is type(want)
            pairs = (
                zip(got.values(), want.values(), strict=True)
                if fields is None
                else zip(got, want, strict=True)
            )
            for moved, kept in pairs:
                assert moved.device == DEVICE
                assert moved.is_contiguous()
                assert torch.equal(moved.cpu(), kept)


def test_its_state_counts_what_was_delivered_not_what_is_on_its_way(path: Path) -> None:
    loader = on_device(path, fields=("X_jets", "sample_id"))
    batches = iter(loader)
    first = [next(batches)[1].cpu() for _ in range(2)]
    state = loader.state_dict()
    assert state["position"] == 16
    rest = [ids.cpu() for _, ids in batches]
    assert loader.state_dict()["epoch"] == 1
    other = on_device(path, fields=("X_jets", "sample_id"))
    other.load_state_dict(state)
    assert torch.equal(torch.cat([ids.cpu() for _, ids in other]), torch.cat(rest))
    assert len(torch.cat(first + rest).unique()) == 40


def test_dropping_its_iterator_ends_the_threads(path: Path) -> None:
    def n_threads() -> int:
        return len(list(Path("/proc/self/task").iterdir()))

    loader = on_device(path, threads=2)
    next(iter(loader))
    before = n_threads()
    for _ in range(5):
        batches = iter(loader)
        next(batches)
        del batches
        gc.collect()
    assert n_threads() <= before


class NotingLane(HostLane):
    """Notes what a card would be asked: its events are over when somebody waited for them."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.open: set[int] = set()
        self.handed_over: list[torch.Tensor] = []
        self.kept: list[torch.Tensor] = []
        self.n_marks = 0

    def mark(self) -> Any:
        self.n_marks += 1
        self.open.add(self.n_marks)
        return self.n_marks

    def is_over(self, event: Any) -> bool:
        return event not in self.open

    def finish(self, event: Any) -> None:
        self.open.remove(event)

    def keep(self, tensors: list[torch.Tensor]) -> None:
        self.kept += tensors

    def hand_over(self, event: Any, tensors: list[torch.Tensor]) -> None:
        self.handed_over += tensors


@pytest.fixture
def lane(monkeypatch: pytest.MonkeyPatch) -> NotingLane:
    noting = NotingLane(torch.device("cpu"))
    monkeypatch.setattr(feed_module, "lane_for", lambda device: noting)
    return noting


def test_a_feed_that_is_dropped_waits_for_copies_out_of_lent_memory(
    path: Path, lane: NotingLane
) -> None:
    feed = DeviceFeed(wires(path), HOST, depth=2)
    next(feed)
    assert lane.open == {1, 2, 3}  # also that of the batch which the consumer has
    del feed
    assert not lane.open


def test_a_card_that_lags_behind_does_not_pile_up_batches(path: Path, lane: NotingLane) -> None:
    feed = DeviceFeed(iter(list(wires(path)) * 4), HOST, depth=2)
    for _ in feed:
        assert len(lane.open) <= 6


def test_memory_that_was_copied_is_given_back_before_the_feed_waits(
    path: Path, lane: NotingLane
) -> None:
    feed = DeviceFeed(wires(path), HOST, ready=lambda: False)
    for i in range(3):
        next(feed)
        assert lane.open == {i + 1}


def test_memory_is_kept_for_the_consumer_and_for_the_feed(path: Path, lane: NotingLane) -> None:
    scale = torch.ones(3)
    feed = DeviceFeed(wires(path), HOST, recycle=True, moves=lambda batch: Moves(scale=scale))
    x, y, ids = next(feed)
    # The buffer and not the tensor that is lent over it, of which torch's allocator knows nothing.
    assert [each.data_ptr() for each in lane.handed_over] == [
        each.data_ptr() for each in (x, y, ids)
    ]
    assert lane.handed_over[0].shape == (x.numel(),)
    assert all(each is scale for each in lane.kept)
    assert len(lane.kept) == 3


def test_a_forked_child_leaves_the_copies_to_the_parent(path: Path, lane: NotingLane) -> None:
    feed = DeviceFeed(wires(path), HOST, depth=0)
    next(feed)
    feed._pid += 1
    feed.close()
    assert lane.open == {1}
    feed._pid -= 1
    feed.close()
    assert not lane.open


def test_memory_that_is_known_to_be_pageable_is_not_warned_about(path: Path) -> None:
    loader = on_device(path)
    loader._arguments["pin_memory"] = False
    assert iter(loader)._warned
    assert not iter(on_device(path))._warned


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a card")
def test_a_loader_says_what_is_missing(path: Path) -> None:
    with pytest.raises(e2eio.errors.ConfigError, match="built without CUDA"):
        e2eio.Loader(path, batch_size=8, device="cuda")
    with pytest.warns(UserWarning, match="no CUDA runtime"):
        e2eio.Loader(path, batch_size=8, pin_memory=True)


def test_a_driver_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise RuntimeError("Unexpected error from cudaGetDeviceCount()")

    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", refuse)
    for device in ("cuda", "cuda:1"):
        with pytest.raises(e2eio.errors.ConfigError, match=r"cudaGetDeviceCount.*nvidia-smi"):
            usable_device(device)


def test_what_triton_compiles_with_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: name)
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path))
    with pytest.warns(UserWarning, match=r"Python\.h is missing"):
        assert feed_module.scatter_for(torch.device("cuda")) is scatter_torch.scatter
    (tmp_path / "Python.h").touch()
    assert feed_module._missing_for_triton() == ""


def test_the_cuda_runtime_is_found_where_names_have_spaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, other = f"{tmp_path}/my env/libcudart.so.12", f"{tmp_path}/libcudart/libother.so"
    lines = [
        f"7f00-7f01 r-xp 00000000 08:01 11                         {runtime}",
        f"7f01-7f02 r-xp 00000000 08:01 11                         {runtime}",
        f"7f02-7f03 r-xp 00000000 08:01 12                         {other}",
        "7f03-7f04 rw-p 00000000 00:00 0 ",
    ]
    maps = tmp_path / "maps"
    maps.write_text("\n".join(lines))
    monkeypatch.setattr(page_lock, "Path", lambda _: maps)
    assert page_lock._loaded_runtimes() == [runtime]


def test_the_host_by_any_name_is_the_host(path: Path) -> None:
    for device in ("cpu", "cpu:0", torch.device("cpu")):
        loader = e2eio.Loader(path, batch_size=8, device=device, framework="numpy")
        assert isinstance(next(iter(loader))["X_jets"], np.ndarray)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pin_memory": 1}, "pin_memory is 1"),
        ({"device": "cuda", "framework": "numpy"}, "framework='numpy'"),
        ({"device": "cuda", "form": "wire"}, "form='wire'"),
        ({"pin_memory": "yes"}, "pin_memory is 'yes'"),
    ],
)
def test_refuses_what_does_not_go_with_a_device(path: Path, options: Any, text: str) -> None:
    with pytest.raises(e2eio.errors.ConfigError, match=text):
        e2eio.Loader(path, batch_size=8, **options)
