"""Copies of remote shards: fetched once, shared, checked, and mended."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")

import e2eio
from e2eio.errors import ConfigError, ShardIOError
from e2eio.remote import cache as cache_module
from faulty_server import FaultyServer
from made_dataset import make
from remote_toys import served

N = 3000


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cached")
    make(path / "top", N)
    size = next((path / "top").glob("*.e2e")).stat().st_size
    assert size > 6 * cache_module.BLOCK_BYTES
    return path


@pytest.fixture
def server(top: Path) -> Iterator[FaultyServer]:
    with served(top) as running:
        yield running


def numbers(dataset: Any, **options: Any) -> list[int]:
    with e2eio.Loader(
        dataset, batch_size=50, framework="numpy", rank=0, world_size=1, **options
    ) as loader:
        return [int(y) for batch in loader for y in batch["y"]]


def until_whole(directory: Path) -> Path:
    end = time.monotonic() + 60
    while not list(directory.glob("*.e2e")) or list(directory.glob("*.part")):
        assert time.monotonic() < end, list(directory.iterdir())
        time.sleep(0.01)
    return next(directory.glob("*.e2e"))


@pytest.mark.parametrize("shuffle", [False, True, "window"])
def test_bytes_are_fetched_once(
    server: FaultyServer, top: Path, tmp_path: Path, shuffle: Any
) -> None:
    dataset = e2eio.Dataset(f"{server.url}/top", cache=tmp_path / "cache")
    expected = numbers(str(top / "top"), shuffle=shuffle)
    assert numbers(dataset, shuffle=shuffle) == expected
    copy = until_whole(tmp_path / "cache")
    assert copy.name == f"{dataset.readers[0].digest}.e2e"
    assert copy.read_bytes() == next((top / "top").glob("*.e2e")).read_bytes()
    fetched = [each for each in server.requests if each[1] is not None and each[1] >= 0]
    blocks = [
        block
        for _, begin, end in fetched
        if begin is not None
        and end is not None
        and begin % cache_module.BLOCK_BYTES == 0
        and end > 64
        for block in range(begin, end, cache_module.BLOCK_BYTES)
    ]
    assert len(blocks) == len(set(blocks))
    server.clear()
    assert numbers(dataset, shuffle=shuffle) == expected  # from the copy, at once
    assert server.n_requests() == 0
    assert numbers(f"{server.url}/top", shuffle=shuffle, cache=tmp_path / "cache") == expected
    assert server.n_requests() == 0
    assert server.n_requests("dataset.json") == 1
    again = e2eio.Dataset(f"{server.url}/top", cache=tmp_path / "cache")
    assert again.readers[0].io == "cached remote http"


def test_neighbours_are_read_together(server: FaultyServer) -> None:
    with e2eio.Loader(
        f"{server.url}/top", batch_size=50, framework="numpy", shuffle=True, rank=0, world_size=1
    ) as loader:
        assert sum(len(batch["y"]) for batch in loader) == N
        assert loader.stats()["io"]["records_per_read"] > 8  # some 40 kB lie between two of a batch


def test_without_a_cache_nothing_is_kept(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert numbers(f"{server.url}/top") == list(range(N))
    assert list(tmp_path.iterdir()) == []


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("place", [5000, 700_000, 1_000_000])
def test_a_damaged_copy_is_mended(
    server: FaultyServer, top: Path, tmp_path: Path, place: int
) -> None:
    source = f"{server.url}/top"
    e2eio.Dataset(source, cache=tmp_path)
    numbers(source, cache=tmp_path)
    copy = until_whole(tmp_path)
    good = copy.read_bytes()
    damage(copy, place)
    server.clear()
    dataset = e2eio.Dataset(source, cache=tmp_path)
    assert numbers(dataset, shuffle=True) == numbers(str(top / "top"), shuffle=True)
    assert server.n_requests() == 1
    assert copy.read_bytes() == good


def test_a_damaged_block_is_fetched_again(server: FaultyServer, top: Path, tmp_path: Path) -> None:
    dataset = e2eio.Dataset(f"{server.url}/top", cache=tmp_path)
    dataset[0]
    part = next(tmp_path.glob("*.part"))
    damage(part, 3000)
    dataset.__getitems__(range(N // 3, N))  # not what is damaged; the rest is fetched then
    assert until_whole(tmp_path).read_bytes() == next((top / "top").glob("*.e2e")).read_bytes()


@pytest.mark.parametrize("damaged", ["end", "short", "empty"])
def test_a_copy_that_is_no_shard_is_fetched_again(
    server: FaultyServer, tmp_path: Path, damaged: str
) -> None:
    source = f"{server.url}/top"
    numbers(source, cache=tmp_path)
    copy = until_whole(tmp_path)
    good = copy.read_bytes()
    if damaged == "end":
        damage(copy, len(good) - 20)
    else:
        copy.write_bytes(good[:-7] if damaged == "short" else b"")
    assert numbers(source, cache=tmp_path) == list(range(N))


def test_the_cache_may_be_cleared_at_any_time(server: FaultyServer, tmp_path: Path) -> None:
    dataset = e2eio.Dataset(f"{server.url}/top", cache=tmp_path)
    with e2eio.Loader(
        dataset, batch_size=50, framework="numpy", shuffle=True, rank=0, world_size=1
    ) as loader:
        found = []
        for batch in loader:
            for each in tmp_path.iterdir():
                each.unlink(missing_ok=True)
            found += [int(y) for y in batch["y"]]
    assert sorted(found) == list(range(N))


def test_processes_share_a_cache(server: FaultyServer, tmp_path: Path) -> None:
    text = """
    import sys
    import e2eio

    loader = e2eio.Loader(
        sys.argv[1], cache=sys.argv[2], batch_size=50, framework="numpy", rank=int(sys.argv[3]), world_size=2
    )
    print(sum(len(batch["y"]) for batch in loader))
    """
    program = [sys.executable, "-c", textwrap.dedent(text), f"{server.url}/top", str(tmp_path)]
    running = [
        subprocess.Popen([*program, str(rank)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    for each in running:
        out, err = each.communicate(timeout=100)
        assert (each.returncode, err) == (0, b"")
        assert int(out) == N // 2
    assert numbers(f"{server.url}/top", cache=tmp_path) == list(range(N))
    until_whole(tmp_path)


def test_a_cache_that_cannot_be(server: FaultyServer, top: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ShardIOError, match=r"cannot write: cache .*file.*choose another"):
        e2eio.Dataset(f"{server.url}/top", cache=tmp_path / "file")
    with pytest.raises(ConfigError, match=r"cache is .* expected URLs"):
        e2eio.Dataset(top / "top", cache=tmp_path)
    dataset = e2eio.Dataset(f"{server.url}/top")
    with pytest.raises(ConfigError, match="as an argument of that"):
        e2eio.Loader(dataset, batch_size=8, cache=tmp_path)


def test_a_copy_of_a_pickled_dataset_has_the_cache(server: FaultyServer, tmp_path: Path) -> None:
    import pickle

    numbers(f"{server.url}/top", cache=tmp_path)
    until_whole(tmp_path)
    dataset = e2eio.Dataset(f"{server.url}/top", cache=tmp_path)
    copy = pickle.loads(pickle.dumps(dataset))
    server.clear()
    np.testing.assert_array_equal(copy[7]["X"], dataset[7]["X"])
    assert server.n_requests() == 0


def test_a_copy_that_gets_its_name_while_a_block_is_looked_for(
    top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = next((top / "top").glob("*.e2e"))
    data = shard.read_bytes()
    digest = e2eio.Dataset(top / "top").readers[0].digest
    copy = cache_module.CachedBlocks(tmp_path, digest, len(data), lambda: None)  # type: ignore[arg-type]
    copy._put(range(-(-len(data) // cache_module.BLOCK_BYTES)), data)
    look = copy._found_in_part

    def finish_first(blocks: Any) -> dict[int, bytes]:
        monkeypatch.undo()  # to finish is to look, too
        copy._finish()
        assert not list(tmp_path.glob("*.part"))
        return look(blocks)

    monkeypatch.setattr(copy, "_found_in_part", finish_first)
    assert copy._found([1]) == {1: data[cache_module.BLOCK_BYTES : 2 * cache_module.BLOCK_BYTES]}
