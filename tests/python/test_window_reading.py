"""shuffle="window" is there for few and long reads; what is read is what is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio import shards
from e2eio.plan import order
from e2eio.schema import Channel, ImageField, ScalarField, Schema

N = 3000


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(2)
    dense = rng.exponential(size=(N, 1, 20, 20)) * (rng.random((N, 1, 20, 20)) < 0.1)
    return dense.astype(np.float32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.float32]) -> Path:
    out = tmp_path_factory.mktemp("window") / "ds"
    schema = Schema(
        ImageField("X", (Channel("a", "GeV"),), 20, 20), (ScalarField("y", "int64", ""),)
    )
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N)})
    (path,) = out.glob("*.e2e")
    return path


def load(path: Path, images: NDArray[np.float32], **options: Any) -> tuple[list[int], Any]:
    reader = shards.open_shard(path, throttle=(2e9, 1e-5))  # it always waits, as remote storage
    options = {"batch_size": 32, "fields": ("X", "sample_id"), "framework": "numpy", **options}
    seen: list[int] = []
    with e2eio.Loader(e2eio.Dataset(reader), threads=2, **options) as loader:
        for _ in range(2):
            for x, ids in loader:
                np.testing.assert_array_equal(x, images[ids])
                seen += ids.tolist()
        return seen, loader.stats()["io"]


@pytest.mark.parametrize("extent_bytes", [5_000, 20_000, 10**9])
def test_windows_take_long_reads(
    path: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch, extent_bytes: int
) -> None:
    monkeypatch.setattr(order, "_EXTENT_BYTES", extent_bytes)
    seen, io = load(path, images, shuffle="window")
    assert sorted(seen[:N]) == sorted(seen[N:]) == list(range(N))
    assert io["records"] == 2 * N
    assert io["records_ahead"] == 2 * N
    extent = max(16, min(extent_bytes * N // path.stat().st_size, N // 16))
    _, exact = load(path, images, shuffle=True)
    # Batches that begin in one window and end in the next one take some short reads.
    assert io["records_per_read"] > max(2.5 * exact["records_per_read"], extent / 4)


def test_windows_that_do_not_fit_into_memory_are_read_in_pieces(
    path: Path, images: NDArray[np.float32]
) -> None:
    batch_bytes = 32 * 20 * 20 * 4
    for spare in (0, 40_000, 400_000):
        seen, io = load(
            path, images, shuffle="window", prefetch=2, memory_limit=4 * batch_bytes + spare
        )
        assert sorted(seen[:N]) == list(range(N))
        assert io["ahead_limit_bytes"] == spare


def test_windows_are_read_by_ranks_and_after_a_cut(
    path: Path, images: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "_EXTENT_BYTES", 10_000)
    ranks = [load(path, images, shuffle="window", rank=r, world_size=3)[0] for r in range(3)]
    assert sorted(i for rank in ranks for i in rank) == sorted([*range(N), *range(N)])
    reader = shards.open_shard(path, throttle=(2e9, 1e-5))
    options: dict[str, Any] = {"fields": ("X", "sample_id"), "framework": "numpy"}
    whole = [i for _, ids in e2eio.Loader(path, batch_size=32, shuffle="window", **options)
             for i in ids.tolist()]  # fmt: skip
    for position in (0, 1, 31, 500, 1777, N - 1, N):
        with e2eio.Loader(
            e2eio.Dataset(reader), batch_size=50, shuffle="window", **options
        ) as loader:
            loader.load_state_dict({**loader.state_dict(), "position": position})
            rest = []
            for x, ids in loader:
                np.testing.assert_array_equal(x, images[ids])
                rest += ids.tolist()
        assert rest == whole[position:]


def test_an_iterator_that_is_dropped_stops_waiting_for_a_window(
    path: Path, images: NDArray[np.float32]
) -> None:
    slow = e2eio.Dataset(shards.open_shard(path, throttle=(1e4, 0.01)))  # a minute for a window
    loader = e2eio.Loader(slow, batch_size=32, shuffle="window", timeout=0.3)
    with loader, pytest.raises(TimeoutError):
        next(iter(loader))
