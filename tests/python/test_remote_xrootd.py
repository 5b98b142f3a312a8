"""Datasets of an XRootD server, a real one of this machine."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from made_dataset import make

N = 150
# To import fsspec_xrootd is to have it look at all objects at the end: only children do.
pytestmark = pytest.mark.skipif(find_spec("fsspec_xrootd") is None, reason="no fsspec-xrootd")


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"TIMEOUT": "2", "TRIES": "2", "BACKOFF": "0.01"}
    for name, value in settings.items():
        monkeypatch.setenv(f"E2EIO_REMOTE_{name}", value)
    for name in ("XRD_CONNECTIONRETRY", "XRD_CONNECTIONWINDOW"):
        monkeypatch.setenv(name, "1")


PROGRAM = """
import sys
import numpy as np
import e2eio
from e2eio.errors import ShardIOError, ShardNotFoundError

url, path, cache = sys.argv[1:]

def batches(source, **more):
    loader = e2eio.Loader(source, batch_size=16, framework="numpy", rank=0, world_size=1, **more)
    return [{name: np.array(value) for name, value in batch.items()} for batch in loader]

dataset = e2eio.Dataset(url)
assert dataset.readers[0].io == "remote root"
for shuffle in (False, True, "window"):
    for one, other in zip(batches(dataset, shuffle=shuffle), batches(path, shuffle=shuffle), strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
assert len(batches(e2eio.Dataset(url, cache=cache))) == 10
try:
    e2eio.Dataset(url + "/none.e2e")
except ShardNotFoundError as error:
    assert url in str(error), error
else:
    raise AssertionError
print("ok", flush=True)
sys.stdin.readline()  # the server is gone now
try:
    batches(dataset)
except ShardIOError as error:
    print(error)
"""


def _started(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(600):
        assert server.poll() is None, log.read_text(errors="replace")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text(errors="replace"))


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A server, the URL of a dataset, and where that lies."""
    binary = shutil.which("xrootd")
    if binary is None:
        pytest.skip("no xrootd server on this machine: apt-get install xrootd-server")
    # Not below pytest's own directory, which nobody else may enter; a server never runs as root.
    folder = Path(tempfile.mkdtemp(prefix="e2eio-xrootd-"))
    try:
        make(folder / "data" / "top", N)
        (folder / "admin").mkdir()
        for path in (folder, folder / "admin"):
            path.chmod(0o777)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        settings = folder / "xrootd.cfg"
        settings.write_text(
            f"all.export /data r/o\noss.localroot {folder}\nxrd.port {port}\n"
            f"all.adminpath {folder}/admin\nall.pidpath {folder}/admin\n"
        )
        user = ["-R", "nobody"] if getpass.getuser() == "root" else []
        with (folder / "log").open("wb") as log:
            running = subprocess.Popen([binary, "-c", str(settings), *user], stdout=log, stderr=log)
        try:
            _started(running, port, folder / "log")
            yield running, f"root://127.0.0.1:{port}//data/top", folder / "data" / "top"
        finally:
            running.kill()
            running.wait(30)
    finally:
        shutil.rmtree(folder)


def test_a_dataset_of_a_server_and_after_its_end(
    server: tuple[subprocess.Popen[bytes], str, Path],
    tmp_path: Path,
) -> None:
    running, url, path = server
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, url, str(path), str(tmp_path / "cache")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    first = child.stdout.readline()
    running.kill()
    running.wait(30)
    out, err = child.communicate("\n", timeout=200)
    assert first == "ok\n", err
    assert child.returncode == 0, err
    assert out.startswith("cannot read ")
    assert "top/shard-00000.e2e: " in out
    assert "check the network and the server" in out


def test_without_a_server() -> None:
    program = (
        "import e2eio\n"
        "from e2eio.errors import ShardIOError\n"
        "try:\n    e2eio.Dataset('root://127.0.0.1:1//data/a.e2e')\n"
        "except ShardIOError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, timeout=100, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("cannot open: root://127.0.0.1:1//data/a.e2e: "), done.stdout
