"""Datasets on servers in processes that are interrupted, end, fork or are spawned."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("fsspec", reason="no fsspec")
pytest.importorskip("aiohttp", reason="no aiohttp")

from faulty_server import FaultyServer
from remote_toys import run

INTERRUPTED = """
    import os, signal, sys, threading, time, urllib.request
    import e2eio

    what, url = sys.argv[1:]
    os.environ["E2EIO_REMOTE_TIMEOUT"] = "1000"

    def ask(path):
        return urllib.request.urlopen(url + path).read()

    def interrupt():
        while ask("/stalled") != b"1":
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    def load():
        for batch in e2eio.Loader(dataset, batch_size=16, framework="numpy", rank=0, world_size=1):
            pass

    if what != "open":
        dataset = e2eio.Dataset(url + "/top/shard-00000.e2e")
    ask("/stall")
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
