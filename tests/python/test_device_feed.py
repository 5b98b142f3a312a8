"""Batches on a device, ahead of need: on the CPU where there is no card, by the same code without streams."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from device_toys import DEVICE, dense, wires, write_toy
from e2eio.device import DeviceFeed, Moves, page_lock, scatter_torch
from e2eio.device import feed as feed_module
from e2eio.device.lanes import HostLane

HOST = torch.device("cpu")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("feed") / "ds")


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
