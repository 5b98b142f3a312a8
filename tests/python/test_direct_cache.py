"""Shards made of other formats when touched: kept in a cache, by several processes, over kills."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import e2eio
from direct_toys import SECONDS, N, assert_settles, by_id, direct, load, write, write_sources
from e2eio.errors import ShardNotFoundError


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    return write_sources(tmp_path)


def test_another_source_has_another_cache(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    before = direct(sources[:1], cache)[0]["pt"]
    write(sources[0], seed=7)
    after = direct(sources[:1], cache)
    assert (before, after[0]["pt"]) == (0, 7000)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_shard_of_the_cache_is_made_again(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    truth = by_id(load(direct(sources, cache)))
    shard = next(cache.glob("*/shard-00001.e2e"))
    shard.write_bytes(shard.read_bytes()[:-100])
    assert by_id(load(direct(sources, cache))) == truth
    assert "to be made" not in repr(direct(sources, cache))


def test_a_complete_cache_outlives_its_sources(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    dataset = direct(sources, cache)
    truth = by_id(load(dataset))
    assert_settles()
    assert direct(sources, cache).statistics is not None
    sources[0].unlink()
    with pytest.warns(UserWarning, match="sources are missing: .*jets0"):
        again = direct(sources, cache)
    assert again.digest == dataset.digest
    assert by_id(load(again)) == truth
    with pytest.raises(ShardNotFoundError):
        direct(sources)


PROGRAM = """
import sys, e2eio
from e2eio.importers import ImportOptions
sources, cache = sys.argv[1:-1], sys.argv[-1]
dataset = e2eio.Dataset(sources, cache=cache or None,
                        import_options=ImportOptions(shape=(2, 16, 16), channels=("a", "b")))
n = 0
for batch in e2eio.Loader(dataset, batch_size=20, framework="numpy", timeout=60):
    n += len(batch["y"])
    print(n, flush=True)
"""


def killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=SECONDS)


def start(sources: list[Path], cache: Path | str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, sources), str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err
    assert err == ""
    return out.split()


def test_two_processes_share_a_cache(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    both = [start(sources, cache), start(sources, cache)]
    assert [finished(process)[-1] for process in both] == [str(2 * N)] * 2
    dataset = direct(sources, cache)
    assert dataset.statistics is not None
    assert not list(cache.glob("*/*tmp*"))


def test_goes_on_after_a_kill(sources: list[Path], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    process = start(sources, cache)
    assert process.stdout is not None
    process.stdout.readline()
    killed(process)
    shards = list(cache.glob("*/shard-*.e2e"))
    assert shards
    for shard in shards:
        e2eio.Dataset(shard)  # whole
    assert finished(start(sources, cache))[-1] == str(2 * N)


def test_interrupt_ends_the_wait_at_once(sources: list[Path], tmp_path: Path) -> None:
    # A named pipe in the place of the second source: reading it never ends.
    program = PROGRAM.replace(
        "n = 0", f"import os\nos.unlink({str(sources[1])!r}); os.mkfifo({str(sources[1])!r})\nn = 0"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, sources), ""],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    while process.stdout.readline().strip() != str(N):
        assert process.poll() is None
    time.sleep(0.2)  # into the wait
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == -signal.SIGINT or "KeyboardInterrupt" in err


def test_works_from_a_program_without_a_main_guard(sources: list[Path], tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(program), *map(str, sources), ""],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    assert done.stdout.split()[-1] == str(2 * N)
    assert done.stderr == ""
