"""Ways of reading, a storage that is slow, and what the statistics say about it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from numpy.typing import NDArray

import e2eio
from e2eio import _core
from e2eio.errors import ConfigError, CorruptShardError
from e2eio.schema import Channel, ImageField, ScalarField, Schema
from e2eio.shards import open_shard

N, C, H, W = 300, 2, 24, 24


@pytest.fixture(scope="module")
def images() -> NDArray[np.float32]:
    rng = np.random.default_rng(5)
    dense = np.where(rng.random((N, C, H, W)) < 0.1, rng.normal(size=(N, C, H, W)), 0.0)
    return dense.astype(np.float32)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory, images: NDArray[np.float32]) -> Path:
    out = tmp_path_factory.mktemp("reading") / "ds"
    schema = Schema(
        ImageField("X", tuple(Channel(name, "GeV") for name in ("a", "b")), H, W),
        (ScalarField("y", "float32", ""),),
    )
    with e2eio.write(out, schema) as writer:
        writer.append(images, {"y": np.arange(N, dtype=np.float32)})
    return next(out.glob("*.e2e"))


def check_epoch(loader: e2eio.Loader, images: NDArray[np.float32]) -> None:
    seen = []
    for x, ids in loader:
        np.testing.assert_array_equal(x, images[ids])
        seen.extend(ids.tolist())
    assert sorted(seen) == list(range(N))


def make_loader(reader: _core.ShardReader, threads: int = 2) -> e2eio.Loader:
    return e2eio.Loader(
        e2eio.Dataset(reader),
        batch_size=16,
        shuffle=True,
        fields=("X", "sample_id"),
        framework="numpy",
        threads=threads,
    )


@pytest.mark.parametrize("io", ["auto", "pread", "uring"])
@pytest.mark.parametrize("throttle", [None, (50e6, 0.0005)])
def test_every_way_of_reading_delivers_the_same(
    shard: Path,
    images: NDArray[np.float32],
    io: Literal["auto", "pread", "uring"],
    throttle: tuple[float, float] | None,
) -> None:
    reader = open_shard(shard, io=io, throttle=throttle)
    if io == "uring" and not reader.io.endswith("uring"):
        pytest.skip("the kernel refuses io_uring, or the build has none")
    with make_loader(reader) as loader:
        for _ in range(3):
            check_epoch(loader, images)
            reader.advise("dont_need")
        stats = loader.stats()["io"]
    assert stats["kind"] == reader.io
    assert stats["records"] == 3 * N
    assert stats["records_per_read"] == stats["records"] / stats["reads"]
    assert stats["bytes"] >= 3 * reader.record_sizes().sum()
    assert stats["wait_s"] > 0
    assert (stats["records_ahead"] > 0) >= (throttle is not None)


def test_neighbours_are_read_together(shard: Path) -> None:
    with e2eio.Loader(shard, batch_size=100, framework="numpy", threads=1) as loader:
        for _ in loader:
            pass
        assert loader.stats()["io"]["records_per_read"] > 4


def test_the_environment_chooses_the_way_of_reading(
    shard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("E2EIO_IO", "uring")
    assert _core.ShardReader(str(shard)).io == open_shard(shard, io="uring").io
    assert open_shard(shard, io="pread").io == "pread"
    monkeypatch.setenv("E2EIO_IO", "mmap")
    with pytest.raises(ConfigError, match=r"E2EIO_IO: .*'mmap', expected auto, pread or uring"):
        e2eio.Dataset(shard)


def test_wrong_arguments_are_refused(shard: Path) -> None:
    with pytest.raises(ConfigError, match="expected auto, pread or uring"):
        open_shard(shard, io="mmap")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="throttle"):
        open_shard(shard, throttle=(-1.0, 0.0))
    with pytest.raises(ConfigError, match="expected will_need, random or dont_need"):
        open_shard(shard).advise("maybe")


@pytest.mark.parametrize("io", ["pread", "uring"])
@pytest.mark.parametrize("throttle", [None, (0.0, 0.001)])
def test_a_file_cut_short_is_an_error_and_not_the_end_of_the_process(
    tmp_path: Path,
    shard: Path,
    io: Literal["pread", "uring"],
    throttle: tuple[float, float] | None,
) -> None:
    copy = tmp_path / "cut.e2e"
    copy.write_bytes(shard.read_bytes())
    reader = open_shard(copy, io=io, throttle=throttle)
    os.truncate(copy, 4096)
    with make_loader(reader) as loader, pytest.raises(CorruptShardError, match="truncated shard"):
        list(loader)


def test_close_ends_the_waiting_for_a_slow_storage(shard: Path) -> None:
    loader = make_loader(open_shard(shard, throttle=(1000.0, 0.0)))  # minutes for an epoch
    iterator = iter(loader)
    time.sleep(0.05)
    begin = time.monotonic()
    iterator.close()
    loader.close()
    assert time.monotonic() - begin < 10


def test_readers_are_gone_with_the_loader(shard: Path) -> None:
    tasks = Path("/proc/self/task")
    before = len(list(tasks.iterdir()))
    with make_loader(open_shard(shard, throttle=(0.0, 0.001))) as loader:
        for _ in loader:
            pass
        assert loader.stats()["io"]["readers"] > 0
    assert len(list(tasks.iterdir())) == before


PROGRAM = """
import os, sys
import e2eio
from e2eio.shards import open_shard
reader = open_shard(sys.argv[1], throttle=(60000.0, 0.0))
loader = e2eio.Loader(e2eio.Dataset(reader), batch_size=16, framework="numpy")
iterator = iter(loader)
next(iterator)
"""


def run_program(shard: Path, text: str) -> subprocess.Popen[str]:
    program = textwrap.dedent(PROGRAM) + textwrap.dedent(text)
    return subprocess.Popen(
        [sys.executable, "-c", program, str(shard)], stdout=subprocess.PIPE, text=True
    )


def test_ctrl_c_ends_a_program_that_waits_for_the_storage(shard: Path) -> None:
    process = run_program(shard, "print('waits', flush=True)\nlist(iterator)\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "waits\n"
    guard = threading.Timer(60, process.kill)
    guard.start()
    process.send_signal(signal.SIGINT)
    assert process.wait() not in (0, -signal.SIGKILL)
    guard.cancel()
    process.stdout.close()


def test_a_forked_child_can_read_on_its_own_and_end(shard: Path) -> None:
    text = """
    child = os.fork()
    if child == 0:
        fast = e2eio.Loader(sys.argv[1], batch_size=50, framework="numpy")
        n = sum(len(batch["X"]) for batch in fast)
        fast.close()
        sys.exit(0 if n == 300 else 1)
    _, status = os.waitpid(child, 0)
    loader.close()
    print(os.waitstatus_to_exitcode(status), flush=True)
    """
    process = run_program(shard, text)
    out, _ = process.communicate(timeout=120)
    assert out == "0\n"
    assert process.returncode == 0
