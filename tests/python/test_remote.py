"""Datasets on servers: the same samples as at home, whatever the server does, and an end to every wait."""

from __future__ import annotations

import gc
import json
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from e2eio.remote import RemoteUrl, StorageOptions, is_url, public_url
from faulty_server import FAULTS, FaultyServer
from made_dataset import C, make

N = 150
SHUFFLES: list[Any] = [False, True, "window"]


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("remote")
    make(path / "top", N)
    return path


@pytest.fixture
def server(top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    monkeypatch.setenv("E2EIO_REMOTE_BACKOFF", "0.01")
    with FaultyServer(top) as running:
        yield running
    until_no_thread()


def threads() -> list[str]:
    return [each.name for each in threading.enumerate() if each.name.startswith("e2eio")]


def until_no_thread() -> None:
    end = time.monotonic() + 120
    while threads():
        gc.collect()  # errors that a test has caught hold its frame
        assert time.monotonic() < end, threads()
        time.sleep(0.01)


def batches(dataset: Any, **options: Any) -> list[dict[str, Any]]:
    with e2eio.Loader(
        dataset, batch_size=16, framework="numpy", seed=4, rank=0, world_size=1, **options
    ) as loader:
        return [{name: np.array(value) for name, value in batch.items()} for batch in loader]


def same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert list(one) == list(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


def run(text: str, *arguments: str, env: dict[str, str] | None = None) -> str:
    import os

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), *arguments],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(env or {})},
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    return done.stdout


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
    same(batches(f"{server.url}/top", shuffle=shuffle), batches(str(top / "top"), shuffle=shuffle))
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
    same(found, batches(str(top / "top"), shuffle=True))


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


def test_the_thread_ends_with_the_last_dataset(server: FaultyServer) -> None:
    first, second = e2eio.Dataset(f"{server.url}/top"), e2eio.Dataset(f"{server.url}/top")
    assert threads()
    del first
    assert len(second[3]["X"]) == C
    del second
    until_no_thread()
    assert len(e2eio.Dataset(f"{server.url}/top")[0]["X"]) == C


def test_limits_are_numbers(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("E2EIO_REMOTE_TRIES", "many")
    with pytest.raises(
        ConfigError, match="E2EIO_REMOTE_TRIES is 'many'; expected a number above 0"
    ):
        e2eio.Dataset(f"{server.url}/top")


INTERRUPTED = """
    import os, signal, sys, threading, time
    import e2eio

    what, url = sys.argv[1:]
    os.environ["E2EIO_REMOTE_TIMEOUT"] = "1000"

    def interrupt():
        while not os.path.exists(sys.argv[0] + "x") and threading.active_count() and not stalled():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def stalled():
        import urllib.request
        return urllib.request.urlopen(url + "/stalled").read() == b"1"

    def load():
        for batch in e2eio.Loader(dataset, batch_size=16, framework="numpy", rank=0, world_size=1):
            pass

    if what != "open":
        dataset = e2eio.Dataset(url + "/top/shard-00000.e2e")
        urllib = __import__("urllib.request").request
        urllib.urlopen(url + "/stall").read()
    else:
        urllib = __import__("urllib.request").request
        urllib.urlopen(url + "/stall").read()
    threading.Thread(target=interrupt, daemon=True).start()
    try:
        {"load": load, "open": lambda: e2eio.Dataset(url + "/top"), "sample": lambda: dataset[3]}[what]()
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.parametrize("what", ["load", "open", "sample"])
def test_ctrl_c_while_the_server_stalls(server: FaultyServer, top: Path, what: str) -> None:
    state = {"stall": False}

    def fault(number: int, path: str) -> str | None:
        if path == "/stall":
            state["stall"] = True
        return "stall" if state["stall"] and path.startswith("/top") else None

    server.fault = fault
    server.answers = {"/stall": lambda: b"1", "/stalled": lambda: b"%d" % server.stalled.is_set()}
    assert run(INTERRUPTED, what, server.url) == "interrupted\n"


def test_a_program_that_ends_with_a_dataset_in_its_hands(server: FaultyServer) -> None:
    text = """
    import sys
    import e2eio

    dataset = e2eio.Dataset(sys.argv[1])
    loader = e2eio.Loader(dataset, batch_size=16, framework="numpy", rank=0, world_size=1)
    iterator = iter(loader)
    print(len(next(iterator)["y"]))
    """
    assert run(text, f"{server.url}/top") == "16\n"


PROCESSES = """
    import multiprocessing, os, pickle, sys
    import e2eio

    def numbers(batches):
        return [int(y) for batch in batches for y in batch["y"]]

    def look(dataset, loader, queue):
        queue.put((dataset[5]["y"], numbers(loader), numbers(loader)))

    if __name__ == "__main__":
        dataset = e2eio.Dataset(sys.argv[2])
        loader = e2eio.Loader(
            dataset, batch_size=16, shuffle=True, seed=3, framework="numpy", rank=0, world_size=1
        )
        expected = [numbers(loader), numbers(loader)]
        loader.set_epoch(0)
        running = iter(loader)
        next(running)
        loader.set_epoch(0)
        context = multiprocessing.get_context(sys.argv[1])
        queue = context.Queue()
        workers = [context.Process(target=look, args=(dataset, loader, queue)) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            assert queue.get(timeout=60) == (5, *expected)
        for worker in workers:
            worker.join(30)
            assert worker.exitcode == 0
        assert sorted(numbers(running)) == sorted(expected[0][16:])
        print("ok")
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes(server: FaultyServer, tmp_path: Path, method: str) -> None:
    file = tmp_path / "program.py"
    file.write_text(textwrap.dedent(PROCESSES), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            str(file),
            method,
            f"{server.url}/top?sig=1",
        ],
        check=False,
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    assert set(server.queries) == {"sig=1"}  # in the processes too


def test_forks_while_requests_are_under_way(server: FaultyServer) -> None:
    text = """
    import os, signal, sys
    import e2eio

    dataset = e2eio.Dataset(sys.argv[1])
    loader = e2eio.Loader(dataset, batch_size=4, framework="numpy", rank=0, world_size=1)
    for n, batch in enumerate(loader):
        if n % 4:
            continue
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            assert dataset[n]["y"] == n
            assert [int(y) for b in loader for y in b["y"]] == list(range(len(dataset)))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    run(text, f"{server.url}/top")


def test_workers_of_torch(server: FaultyServer) -> None:
    pytest.importorskip("torch", reason="no torch")
    text = """
    import sys
    import e2eio, torch

    dataset = e2eio.Dataset(sys.argv[1])
    loader = torch.utils.data.DataLoader(dataset, batch_size=16, num_workers=2)
    assert [int(y) for batch in loader for y in batch["y"]] == list(range(len(dataset)))
    """
    run(text, f"{server.url}/top")


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
        same(batches(url, shuffle=shuffle), batches(str(top / "top"), shuffle=shuffle))
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
