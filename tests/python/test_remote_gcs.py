"""Google's storage: an emulator of it on this machine, behind a server that drops, refuses and counts."""

from __future__ import annotations

import json
import pickle
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")
if find_spec("gcsfs") is None or find_spec("gcp_storage_emulator") is None:
    pytest.skip("no gcsfs, or no gcp-storage-emulator", allow_module_level=True)

import e2eio
from e2eio.errors import CorruptShardError, E2eioError, ShardIOError, ShardNotFoundError
from e2eio.importers.files import first_bytes
from faulty_server import FaultyServer
from made_dataset import make
from remote_toys import SHUFFLES, N, assert_same, batches, served

TOP = "gs://bucket/data/top"
SHARD = "/o/data%2Ftop%2Fshard-00000.e2e"


class Bucket:
    """A running emulator."""

    def __init__(self, url: str, directory: Path) -> None:
        self.url = url
        self.directory = directory

    def put(self, key: str, content: bytes) -> None:
        target = f"{self.url}/upload/storage/v1/b/bucket/o?uploadType=media&name={quote(key)}"
        headers = {"Content-Type": "application/octet-stream"}
        with urllib.request.urlopen(
            urllib.request.Request(target, content, headers), timeout=60
        ) as answer:
            assert json.load(answer)["name"] == key


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """An emulator whose bucket holds a dataset in data/top, and where that lies here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path_factory.mktemp("gcs")
    make(path / "top", N)
    command = [sys.executable, "-m", "gcp_storage_emulator", "start", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--default-bucket", "bucket", "--in-memory", "--quiet"]
    with (path / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, cwd=path)
        try:
            found = Bucket(f"http://127.0.0.1:{port}", path / "top")
            for _ in range(900):
                assert running.poll() is None, (path / "log").read_text(errors="replace")
                try:
                    found.put("plain", b"0123456789")
                    break
                except urllib.error.URLError:
                    time.sleep(0.1)
            for each in found.directory.iterdir():
                found.put(f"data/top/{each.name}", each.read_bytes())
            yield found
        finally:
            running.terminate()
            running.wait(30)


@pytest.fixture
def server(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyServer]:
    """What stands before the emulator."""
    monkeypatch.setenv("E2EIO_REMOTE_BACKOFF", "0.01")
    # No gRPC in a process whose other tests fork.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    with served(tmp_path) as running:
        running.upstream = bucket.url
        yield running


def options(server: FaultyServer) -> dict[str, Any]:
    return {"token": "anon", "endpoint_url": server.url}


def open_top(server: FaultyServer, **more: Any) -> Any:
    return e2eio.Dataset(TOP, storage_options=options(server), **more)


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_dataset_of_a_bucket(server: FaultyServer, bucket: Bucket, shuffle: Any) -> None:
    dataset = open_top(server)
    assert dataset.readers[0].io == "remote gs"
    server.clear()
    assert_same(batches(dataset, shuffle=shuffle), batches(bucket.directory, shuffle=shuffle))
    reads = [(begin, end) for path, begin, end in server.requests if path.endswith(SHARD)]
    assert len(reads) == server.n_requests() > 0
    assert all("ifGenerationMatch=" in query for query in server.queries[-len(reads) :])
    assert len(reads) < N / 4  # records that are neighbours come together


def test_ranges_are_asked_for_side_by_side(server: FaultyServer) -> None:
    dataset = open_top(server)
    server.clear()
    server.most_at_once = 0
    met = threading.Barrier(2)

    def fault(number: int, path: str) -> None:
        if number <= 2:
            met.wait(60)  # neither is answered before the other one has come

    server.fault = fault
    stream = dataset.readers[0]
    readers = [threading.Thread(target=stream.column, args=(index,)) for index in (0, 1)]
    for each in readers:
        each.start()
    for each in readers:
        each.join()
    assert server.most_at_once >= 2


@pytest.mark.parametrize("fault", ["drop", "500", "429", "stall"])
def test_faults_that_pass_are_got_over(
    server: FaultyServer, bucket: Bucket, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TIMEOUT", "0.5" if fault == "stall" else "20")
    dataset = open_top(server)
    server.clear()
    server.fault = server.first_time(fault)
    assert_same(batches(dataset, shuffle="window"), batches(bucket.directory, shuffle="window"))
    assert server.n_requests() >= 2


@pytest.mark.parametrize(
    ("fault", "error", "words", "n_tries"),
    [
        ("403", ShardIOError, "403.*give credentials", 1),
        ("500", ShardIOError, "500.*3 tries; check the network", 3),
        ("drop", ShardIOError, "3 tries", 3),
        ("stall", ShardIOError, "no answer in time, 3 tries", 3),
        ("412", CorruptShardError, "file changed.*412", 1),
    ],
)
def test_faults_that_stay_are_told(
    server: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: type[E2eioError],
    words: str,
    n_tries: int,
) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TRIES", "3")
    monkeypatch.setenv("E2EIO_REMOTE_TIMEOUT", "0.3" if fault == "stall" else "20")
    dataset = open_top(server)
    server.clear()
    server.fault = lambda number, path: fault
    with pytest.raises(error, match=words) as caught:
        dataset[5]
    assert server.n_requests() == n_tries  # gcsfs's own tries would come on top
    assert f"{TOP}/shard-00000.e2e" in str(caught.value)


def test_what_is_not_there(server: FaultyServer) -> None:
    given = options(server)
    with pytest.raises(ShardNotFoundError, match=r"gs://bucket/data/none\.e2e: .*check the URL"):
        e2eio.Dataset("gs://bucket/data/none.e2e", storage_options=given)
    with pytest.raises(ShardNotFoundError, match=r"gs://nobucket/top: found neither dataset\.json"):
        e2eio.Dataset("gs://nobucket/top", storage_options=given)


def test_missing_and_wrong_credentials(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fault = lambda number, path: "401"  # what Google answers to who gives none
    with pytest.raises(ShardIOError, match=r"gs://bucket/data/top/dataset\.json: .*401.*give cred"):
        open_top(server)
    token = tmp_path / "token.json"
    token.write_text('{"hunter2": 1}')
    given = {"token": str(token), "endpoint_url": server.url}
    with pytest.raises(
        ShardIOError, match=r"gs://bucket/a\.e2e: token or .*give credentials"
    ) as caught:
        e2eio.Dataset("gs://bucket/a.e2e", storage_options=given)
    assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with pytest.raises(ShardIOError, match=r"gs://bucket/a\.e2e: .*401.*give credentials"):
        e2eio.Dataset("gs://bucket/a.e2e")


def test_shards_without_a_manifest_are_listed(server: FaultyServer, bucket: Bucket) -> None:
    shard = (bucket.directory / "shard-00000.e2e").read_bytes()
    for name in ("a.e2e", "b.e2e", "other", "deeper/c.e2e"):
        bucket.put(f"listed/{name}", shard)
    dataset = e2eio.Dataset("gs://bucket/listed", storage_options=options(server))
    assert len(dataset) == 2 * N


def test_a_copy_is_kept_and_credentials_are_not(
    server: FaultyServer, bucket: Bucket, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    assert_same(batches(open_top(server, cache=cache)), batches(bucket.directory))
    assert [each.suffix for each in cache.iterdir()] == [".e2e"]
    server.clear()
    assert_same(batches(open_top(server, cache=cache)), batches(bucket.directory))
    assert server.n_requests() == 0
    text = pickle.dumps(
        e2eio.Dataset(TOP, storage_options={**options(server), "secret": "hunter2"})
    )
    assert b"hunter2" not in text


def test_an_object_that_is_replaced(server: FaultyServer, bucket: Bucket) -> None:
    content = (bucket.directory / "shard-00000.e2e").read_bytes()
    bucket.put("replaced/a.e2e", content)
    dataset = e2eio.Dataset("gs://bucket/replaced/a.e2e", storage_options=options(server))
    bucket.put("replaced/a.e2e", content + b"x")
    with pytest.raises(
        CorruptShardError,
        match=rf"file changed: gs://bucket/replaced/a\.e2e: found {len(content) + 1}",
    ):
        dataset[5]


def test_foreign_files_of_a_bucket(
    server: FaultyServer, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    images = np.zeros((20, 2, 6, 6), np.float32)
    images[:, 0, 2, 3] = np.arange(1, 21)
    np.save(tmp_path / "a.npy", images)
    bucket.put("a.npy", (tmp_path / "a.npy").read_bytes())
    assert first_bytes("gs://bucket/plain", 4) == b"0123"
    small: dict[str, Any] = {"channels": ["ecal", "time"], "processes": 1, "isolate": False}
    e2eio.convert("gs://bucket/a.npy", tmp_path / "d", progress=False, **small)
    converted = e2eio.Dataset(tmp_path / "d")
    np.testing.assert_array_equal([converted[k]["X"] for k in range(20)], images)
