"""Loaders with a device, and prefetch_to_device: on the CPU where there is no card."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

import e2eio
from device_toys import DEVICE, on_device, write_toy
from e2eio.device import prefetch_to_device
from e2eio.device.lanes import usable_device


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("feed") / "ds")


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
