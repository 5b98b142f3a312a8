"""Foreign files on servers, S3, and XRootD where there is a server."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")

import e2eio
from e2eio.errors import ConfigError, ImporterError, ShardIOError, ShardNotFoundError
from e2eio.importers import recognise_format
from e2eio.importers.files import first_bytes, open_binary
from e2eio.shards import shard_paths
from faulty_server import FAULTS, FaultyServer
from made_dataset import make
from remote_toys import served

N = 150


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("E2EIO_REMOTE_BACKOFF", "0.01")
    (tmp_path / "served").mkdir()
    with served(tmp_path / "served") as running:
        yield running


def test_a_stream_reads_what_a_file_has(server: FaultyServer) -> None:
    content = np.random.default_rng(1).bytes(9_000_000)
    (server.directory / "a.bin").write_bytes(content)
    server.fault = server.first_time(*FAULTS[:5])
    url = f"{server.url}/a.bin"
    assert first_bytes(url, 10) == content[:10]
    with open_binary(url) as stream:
        assert stream.read() == content
        for begin, n in [(5, 7), (8_999_990, 100), (1 << 20, 3 << 20), (0, 1), (9_000_000, 5)]:
            assert stream.seek(begin) == begin
            assert stream.read(n) == content[begin : begin + n]
        assert stream.seek(-3, os.SEEK_END) == len(content) - 3
        assert (stream.read(), stream.tell(), stream.seekable()) == (
            content[-3:],
            len(content),
            True,
        )
    (server.directory / "empty").touch()
    server.clear()
    assert first_bytes(f"{server.url}/empty", 10) == b""
    with pytest.raises(ShardNotFoundError, match="404"):
        open_binary(f"{server.url}/none")


def test_a_stream_of_a_file_that_changes(server: FaultyServer) -> None:
    file = server.directory / "a.bin"
    file.write_bytes(bytes(20_000_000))
    with open_binary(f"{server.url}/a.bin") as stream:
        stream.read(10)
        file.write_bytes(bytes(19_999_999) + b"x")
        with pytest.raises(ImporterError, match="file changed"):
            stream.seek(15_000_000)
            stream.read(10)


@pytest.fixture
def parquet(published: Path) -> Path:
    pytest.importorskip("pyarrow", reason="no pyarrow")
    return sorted(published.glob("*x1*.parquet"))[0]


@pytest.mark.parametrize("processes", [1, 2])
def test_conversion_of_a_url(
    server: FaultyServer, parquet: Path, tmp_path: Path, processes: int
) -> None:
    shutil.copy(parquet, server.directory / parquet.name)
    host = server.url.replace("http://", "http://me:hunter2@")
    url = f"{host}/{parquet.name}?X-Amz-Signature=abcdef99"
    server.fault = server.first_time("drop")
    options: dict[str, Any] = {"shard_samples": 40, "progress": False}
    e2eio.convert(url, tmp_path / "ours", processes=processes, **options)
    e2eio.convert(str(parquet), tmp_path / "theirs", processes=1, **options)
    ours, theirs = shard_paths(tmp_path / "ours"), shard_paths(tmp_path / "theirs")
    assert [each.name for each in ours] == [each.name for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert one.read_bytes() == other.read_bytes()
    said = (tmp_path / "ours" / "dataset.json").read_text()
    assert f"{server.url}/{parquet.name}" in said
    assert "hunter2" not in said
    assert "abcdef99" not in said
    assert set(server.queries) == {"X-Amz-Signature=abcdef99"}


def test_every_published_format_converts_by_url(
    server: FaultyServer, published: Path, tmp_path: Path
) -> None:
    """One file of each format that needs no arguments; it equals the conversion of the local file."""
    done: set[str] = set()
    for path in sorted(published.iterdir(), key=lambda each: each.stat().st_size):
        if not path.is_file() or path.suffix in done:
            continue
        try:
            kind = recognise_format(str(path))
            e2eio.convert(
                str(path), tmp_path / "local", progress=False, processes=1, overwrite=True
            )
        except e2eio.E2eioError:
            continue
        shutil.copy(path, server.directory / path.name)
        url = f"{server.url}/{path.name}"
        assert recognise_format(url) == kind
        e2eio.convert(url, tmp_path / "ours", progress=False, processes=1, overwrite=True)
        assert e2eio.Dataset(tmp_path / "ours").digest == e2eio.Dataset(tmp_path / "local").digest
        done.add(path.suffix)
    assert ".parquet" in done or not any(published.glob("*.parquet"))


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server of S3, and the directory of which its bucket has a copy."""
    pytest.importorskip("s3fs", reason="no s3fs")
    pytest.importorskip("moto.server", reason="no moto[server]")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    path = tmp_path_factory.mktemp("s3")
    make(path / "top", N)
    log = (path / "log").open("wb")
    with log:
        running = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=log, stderr=log
        )
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _fill(endpoint, path, running, path / "log")
            yield endpoint, path
        finally:
            running.terminate()
            running.wait(30)


FILL = """
import sys, time
import s3fs
from pathlib import Path

for attempt in range(900):
    try:
        fs = s3fs.S3FileSystem(key="k", secret="hunter2", endpoint_url=sys.argv[1], skip_instance_cache=True)
        fs.mkdir("bucket")
        break
    except Exception as error:
        last = error
        time.sleep(0.1)
else:
    raise last
for path in Path(sys.argv[2], "top").iterdir():
    fs.pipe_file(f"bucket/data/top/{path.name}", path.read_bytes())
fs.pipe_file("bucket/plain", b"0123456789")
"""


def _environment() -> dict[str, str]:
    """The environment without what a machine sets for its own object store and proxies."""
    foreign = re.compile("aws_|.*_proxy$", re.IGNORECASE)
    own = {name: value for name, value in os.environ.items() if not foreign.match(name)}
    return {**own, "OMP_NUM_THREADS": "1", "AWS_DEFAULT_REGION": "us-east-1"}


def _fill(endpoint: str, path: Path, running: subprocess.Popen[bytes], log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILL, endpoint, str(path)],
        check=False,
        timeout=100,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr + log.read_text(errors="replace")
    assert running.poll() is None


S3_PROGRAM = """
import pickle, sys
import numpy as np
import e2eio
from e2eio.errors import CorruptShardError, ShardIOError, ShardNotFoundError
from e2eio.importers import recognise_format
from e2eio.importers.files import first_bytes

endpoint, path, cache = sys.argv[1:]
options = {"key": "k", "secret": "hunter2", "endpoint_url": endpoint}

def batches(source, **more):
    loader = e2eio.Loader(source, batch_size=16, framework="numpy", rank=0, world_size=1, **more)
    return [{name: np.array(value) for name, value in batch.items()} for batch in loader]

dataset = e2eio.Dataset("s3://bucket/data/top", storage_options=options)
for shuffle in (False, True, "window"):
    for one, other in zip(batches(dataset, shuffle=shuffle), batches(path, shuffle=shuffle), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
assert dataset.readers[0].io == "remote s3"
kept = e2eio.Dataset("s3://bucket/data/top", storage_options=options, cache=cache)
assert len(batches(kept)) == 10
text = pickle.dumps(dataset)
assert b"hunter2" not in text and endpoint.encode() in text
assert "hunter2" not in repr(dataset)
try:
    e2eio.Dataset("s3://bucket/data/none.e2e", storage_options=options)
except ShardNotFoundError as error:
    assert "s3://bucket/data/none.e2e" in str(error), error
else:
    raise AssertionError
try:
    e2eio.Dataset("s3://nobucket/data/none.e2e", storage_options=options)
except ShardIOError as error:
    assert "hunter2" not in str(error), error
else:
    raise AssertionError

import fsspec
fs = fsspec.filesystem("s3", **options)
fs.pipe_file("bucket/data/top/shard-00000.e2e", b"other")
try:
    dataset[3]
except CorruptShardError as error:
    assert "file changed: s3://bucket/data/top/shard-00000.e2e" in str(error), error
else:
    raise AssertionError
import os
os.environ |= {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ENDPOINT_URL": endpoint}
assert first_bytes("s3://bucket/plain", 4) == b"0123"
print("ok")
"""


def test_s3(s3: tuple[str, Path], tmp_path: Path) -> None:
    endpoint, path = s3
    done = subprocess.run(
        [sys.executable, "-c", S3_PROGRAM, endpoint, str(path / "top"), str(tmp_path / "cache")],
        check=False,
        timeout=200,
        capture_output=True,
        text=True,
        env=_environment(),
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_errors_of_streams_are_of_this_package(server: FaultyServer, tmp_path: Path) -> None:
    (server.directory / "a.parquet").write_bytes(b"PAR1" + bytes(100))
    with pytest.raises(ImporterError, match=r"truncated Parquet file: http.*a.parquet"):
        e2eio.convert(f"{server.url}/a.parquet", tmp_path / "out", progress=False)
    server.fault = lambda number, path: "403"
    with pytest.raises(ShardIOError, match="403"):
        e2eio.convert(f"{server.url}/a.parquet", tmp_path / "out", progress=False)


@pytest.mark.parametrize("url", ["s3://bucket/top", "https://host/top"])
def test_targets_are_local(parquet: Path, url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"remote target.*copy"):
        e2eio.convert(str(parquet), url, progress=False)
    schema = e2eio.Dataset(_small(tmp_path)).schema
    with pytest.raises(ConfigError, match=r"remote target.*copy"):
        e2eio.write(url, schema)


def _small(path: Path) -> Path:
    make(path / "small", 3)
    return path / "small"


def test_a_foreign_file_is_a_dataset(server: FaultyServer, parquet: Path, tmp_path: Path) -> None:
    shutil.copy(parquet, server.directory / "jets.parquet")
    url = (
        server.url.replace("http://", "http://me:hunter2@")
        + "/jets.parquet?X-Amz-Signature=abcdef99"
    )
    ours, theirs = e2eio.Dataset(url, cache=tmp_path / "cache"), e2eio.Dataset(str(parquet))
    assert len(ours) == len(theirs)
    name = theirs.schema.image.name
    np.testing.assert_array_equal(ours[3][name], theirs[3][name])
    assert set(server.queries) == {"X-Amz-Signature=abcdef99"}
    kept = b"".join(each.read_bytes() for each in (tmp_path / "cache").rglob("*") if each.is_file())
    assert b"hunter2" not in kept
    assert b"abcdef99" not in kept
