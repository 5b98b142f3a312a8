"""Datasets on servers: the same samples as at home."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")

import e2eio
from e2eio.errors import ShardIOError, ShardNotFoundError
from e2eio.remote import RemoteUrl, StorageOptions, is_url, public_url
from faulty_server import FaultyServer
from made_dataset import C
from remote_toys import SHUFFLES, N, assert_same, batches, threads, until_no_thread


def test_a_service_that_is_told_to_end_twice_ends(server: FaultyServer) -> None:
    from e2eio.remote.service import current_service

    service = current_service()
    for _ in range(50):  # each release of the last user plans the end anew
        service.release()
        assert current_service() is service
    service.release()
    service._thread.join(20)
    assert not service._thread.is_alive()
    assert service._loop.is_closed()


def test_what_is_a_url() -> None:
    assert [is_url(p) for p in ("https://a/b", "s3://b/k", Path("a"), "C:\\a", "a:b", "c://d")] == [
        *(True, True, False, False, False, False)
    ]


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_batches_are_those_of_the_local_dataset(
    server: FaultyServer, top: Path, shuffle: Any
) -> None:
    assert_same(
        batches(f"{server.url}/top", shuffle=shuffle), batches(str(top / "top"), shuffle=shuffle)
    )
    # dataset.json; tail, head, the frame; a few stretches of a file of some 100 kB.
    assert server.n_requests("dataset.json") == 1
    if shuffle == "window":
        assert server.n_requests() <= 8


def test_samples_and_columns(server: FaultyServer, top: Path) -> None:
    ours, theirs = e2eio.Dataset(f"{server.url}/top"), e2eio.Dataset(top / "top")
    assert (len(ours), ours.digest, ours.statistics) == (N, theirs.digest, theirs.statistics)
    assert ours.readers[0].io == "remote http"
    np.testing.assert_array_equal(ours.scalars("run"), theirs.scalars("run"))
    for one, other in zip(
        ours.__getitems__([7, 3, 149]), theirs.__getitems__([7, 3, 149]), strict=True
    ):
        np.testing.assert_array_equal(one["X"], other["X"])


def test_a_shard_a_list_and_a_directory_without_a_manifest(
    server: FaultyServer, top: Path, tmp_path: Path
) -> None:
    shard = f"{server.url}/top/shard-00000.e2e"
    assert len(e2eio.Dataset(shard)) == N
    assert len(e2eio.Dataset([shard, str(top / "top"), f"{server.url}/top"])) == 3 * N
    server.directory = tmp_path
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "a.e2e").write_bytes((top / "top" / "shard-00000.e2e").read_bytes())
    assert len(e2eio.Dataset(f"{server.url}/bare")) == N
    server.listing = False
    with pytest.raises(ShardNotFoundError, match=r"no dataset: http.*bare.* check the URL"):
        e2eio.Dataset(f"{server.url}/bare")


def test_the_thread_ends_with_the_last_dataset(server: FaultyServer) -> None:
    first, second = e2eio.Dataset(f"{server.url}/top"), e2eio.Dataset(f"{server.url}/top")
    assert threads()
    del first
    assert len(second[3]["X"]) == C
    del second
    until_no_thread()
    assert len(e2eio.Dataset(f"{server.url}/top")[0]["X"]) == C


def test_state_and_ranks(server: FaultyServer, top: Path) -> None:
    def make_loader(source: Any, rank: int = 0, world_size: int = 1) -> e2eio.Loader:
        return e2eio.Loader(
            source, batch_size=8, shuffle=True, framework="numpy", rank=rank, world_size=world_size
        )

    def numbers(each: Any) -> list[int]:
        return [int(y) for batch in each for y in batch["y"]]

    dataset = e2eio.Dataset(f"{server.url}/top")
    local = make_loader(str(top / "top"))
    whole = numbers(local)
    loader = make_loader(dataset)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    iterator.close()
    resumed = make_loader(dataset)
    resumed.load_state_dict(state)
    assert numbers(resumed) == whole[8:]
    parts = [numbers(make_loader(dataset, rank, 2)) for rank in range(2)]
    assert sorted(set(parts[0]) | set(parts[1])) == list(range(N))


SECRETS = ("hunter2", "X-Amz-Signature", "abcdef99")


def secret_url(server: FaultyServer) -> str:
    return server.url.replace("http://", "http://me:hunter2@") + "/top?X-Amz-Signature=abcdef99"


def test_credentials_are_used_and_not_shown(server: FaultyServer) -> None:
    url = secret_url(server)
    dataset = e2eio.Dataset(url, storage_options={"headers": {"X-Token": "abcdef99"}})
    dataset[3]
    assert set(server.queries) == {"X-Amz-Signature=abcdef99"}
    assert all(each is not None for each in server.authorizations)
    server.fault = lambda number, path: "403"
    shown = [repr(dataset), pickle.dumps(dataset).decode("latin1"), dataset.readers[0].path]
    shown += [str(RemoteUrl(url)), repr(StorageOptions({"key": "hunter2"}))]
    loader = e2eio.Loader(dataset, batch_size=8, rank=0, world_size=1)
    shown += [repr(loader), pickle.dumps(loader).decode("latin1"), json.dumps(RemoteUrl(url))]
    for action in (lambda: dataset[4], lambda: e2eio.Dataset(url), lambda: batches(dataset)):
        with pytest.raises(ShardIOError, match="403") as caught:
            action()
        shown += [
            str(caught.value),
            repr(caught.value),
            pickle.dumps(caught.value).decode("latin1"),
        ]
    for text in shown:
        assert not [secret for secret in SECRETS if secret in text], text
    server.clear()
    assert pickle.loads(pickle.dumps(dataset)).digest == dataset.digest
    assert public_url("s3://key:word@bucket/a/b.e2e?versionId=3#x") == "s3://bucket/a/b.e2e"


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_file_systems_without_coroutines(top: Path, protocol: str) -> None:
    import fsspec

    url = f"file://{top}/top"
    if protocol == "memory":
        url = "memory://some/top"
        for each in (top / "top").iterdir():
            fsspec.filesystem("memory").pipe_file(f"/some/top/{each.name}", each.read_bytes())
    for shuffle in SHUFFLES:
        assert_same(batches(url, shuffle=shuffle), batches(str(top / "top"), shuffle=shuffle))
    with pytest.raises(ShardNotFoundError):
        e2eio.Dataset(f"{protocol}:///none/at/all")
    until_no_thread()


def test_the_command_line(server: FaultyServer) -> None:
    from e2eio.cli.main import main

    assert main(["inspect", f"{server.url}/top"]) == 0
    assert (
        main(["verify", "--quiet", f"{server.url}/top", f"{server.url}/top/shard-00000.e2e"]) == 0
    )
    server.fault = lambda number, path: "404"
    assert main(["verify", "--quiet", f"{server.url}/top"]) == 1
