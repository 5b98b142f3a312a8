"""Servers that refuse, stall, drop, lie or change: faults are got over or told, and every wait ends."""

from __future__ import annotations

import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")

import e2eio
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    E2eioError,
    ShardIOError,
    ShardNotFoundError,
)
from faulty_server import FAULTS, FaultyServer
from remote_toys import assert_same, batches


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_are_got_over(
    server: FaultyServer, top: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TIMEOUT", "0.3" if fault == "stall" else "20")
    server.fault = server.first_time(fault)
    dataset = e2eio.Dataset(f"{server.url}/top")
    with e2eio.Loader(
        dataset, batch_size=16, framework="numpy", shuffle=True, seed=4, rank=0, world_size=1
    ) as loader:
        found = [{name: np.array(value) for name, value in batch.items()} for batch in loader]
        if fault != "refuse":  # aiohttp itself tries once more on a connection that was kept
            assert loader.stats()["io"]["retries"] > 0
    assert_same(found, batches(str(top / "top"), shuffle=True))


@pytest.mark.parametrize(
    ("fault", "error", "words", "n_tries"),
    [
        ("404", ShardNotFoundError, "404.*check the URL", 1),
        ("403", ShardIOError, "403.*give credentials", 1),
        ("400", ShardIOError, "400", 1),
        ("whole", None, "", 1),
        ("500", ShardIOError, "500.*3 tries; check the network", 3),
        ("drop", ShardIOError, "3 tries", 3),
        ("stall", ShardIOError, "no answer in time, 3 tries", 3),
        ("416", CorruptShardError, "file changed.*416", 1),
    ],
)
def test_faults_that_stay_are_told(
    server: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[E2eioError] | None,
    words: str,
    n_tries: int,
) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TRIES", "3")
    monkeypatch.setenv("E2EIO_REMOTE_TIMEOUT", "0.2" if fault == "stall" else "20")
    dataset = e2eio.Dataset(f"{server.url}/top")
    server.clear()
    server.fault = lambda number, path: fault
    if error is None:  # a small file may be sent whole
        dataset[5]
        return
    with pytest.raises(error, match=words) as caught:
        dataset[5]
    assert server.n_requests() == n_tries
    assert f"{server.url}/top/shard-00000.e2e" in str(caught.value)
    if fault not in ("416", "404"):
        assert "bytes at byte" in str(caught.value)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)


def test_nothing_there(server: FaultyServer) -> None:
    with pytest.raises(ShardNotFoundError, match=r"404.*check the URL"):
        e2eio.Dataset(f"{server.url}/none.e2e")
    with pytest.raises(ShardNotFoundError, match=r"found neither dataset\.json nor"):
        e2eio.Dataset(f"{server.url}/none")
    with pytest.raises(CorruptShardError, match="corrupt shard"):
        e2eio.Dataset([f"{server.url}/top/dataset.json"])
    with pytest.raises(ConfigError, match=r"unknown protocol.*nope"):
        e2eio.Dataset("nope://host/a")
    with pytest.raises(ConfigError, match="chained URL"):
        e2eio.Dataset("simplecache::https://host/a")
    with pytest.raises(ShardIOError, match=r"127.0.0.1:9.*tries"):
        e2eio.Dataset("http://127.0.0.1:9/top")


def test_a_file_that_changes_is_noticed(server: FaultyServer, top: Path, tmp_path: Path) -> None:
    server.directory = tmp_path
    shard = tmp_path / "a.e2e"
    content = (top / "top" / "shard-00000.e2e").read_bytes()
    shard.write_bytes(content)
    dataset = e2eio.Dataset(f"{server.url}/a.e2e")
    shard.write_bytes(content[:-1] + b"x")
    with pytest.raises(
        CorruptShardError, match=r"file changed: .*a.e2e.* expected .*open it again"
    ):
        dataset[5]
    shard.write_bytes(content + b"x")
    with pytest.raises(CorruptShardError, match=f"found {len(content) + 1} bytes, expected"):
        batches(dataset)


def test_a_server_that_sends_other_bytes(server: FaultyServer, top: Path, tmp_path: Path) -> None:
    server.directory = tmp_path
    (tmp_path / "top").mkdir()
    for each in (top / "top").iterdir():
        data = bytearray(each.read_bytes())
        if each.suffix == ".e2e":
            data[2000] ^= 1
        (tmp_path / "top" / each.name).write_bytes(data)
    with pytest.raises(CorruptShardError, match=r"http.*crc32c"):
        batches(f"{server.url}/top")


def test_dropping_an_iterator_while_the_server_stalls(server: FaultyServer) -> None:
    dataset = e2eio.Dataset(f"{server.url}/top")
    server.fault = lambda number, path: "stall"
    loader = e2eio.Loader(dataset, batch_size=16, framework="numpy", rank=0, world_size=1)
    iterator = iter(loader)
    reader = threading.Thread(target=lambda: list(iterator))
    reader.start()
    assert server.stalled.wait(60)
    iterator.close()
    reader.join(60)
    assert not reader.is_alive()
    loader.close()
    assert not server.released.is_set()
    server.clear()
    assert len(batches(dataset)) == 10


def test_limits_are_numbers(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TRIES", "many")
    with pytest.raises(
        ConfigError, match="E2EIO_REMOTE_TRIES is 'many'; expected a number above 0"
    ):
        e2eio.Dataset(f"{server.url}/top")
