"""Shards of more samples than one piece of the record sizes holds."""

from __future__ import annotations

import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import e2eio
from e2eio.errors import CorruptShardError
from large_shard import write_empty_samples
from reference_reader import read_shard
from reference_writer import reseal

N = 4_000_000


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("large") / "large.e2e"
    write_empty_samples(path, N)
    return path


def test_what_the_generator_writes_is_a_sound_shard(tmp_path: Path) -> None:
    write_empty_samples(tmp_path / "s.e2e", 700)
    shard = read_shard(tmp_path / "s.e2e")
    assert shard.n_samples == 700
    assert not shard.images().any()


def test_samples_are_found_wherever_they_are(large: Path) -> None:
    dataset = e2eio.Dataset(large)
    assert len(dataset) == N
    (reader,) = dataset.readers
    assert set(reader.record_sizes().tolist()) == {9}
    for begin in (0, 65_530, 131_070, N - 20):
        reader.check(begin, begin + 20)  # a seal holds the record's number
    assert not dataset[-1]["X"].any()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_opening_takes_the_memory_of_the_offsets_and_little_more(large: Path) -> None:
    program = f"""
        import e2eio
        def peak_kib():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
        before = peak_kib()
        dataset = e2eio.Dataset({str(large)!r})
        print(peak_kib() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True
    )
    assert int(done.stdout) * 1024 < 8 * N + (8 << 20)  # the sizes themselves would be 16 MB


@pytest.mark.parametrize("record", [3, 65_536, 99_999])
@pytest.mark.parametrize("size", [4, 100_000])
def test_a_size_that_cannot_be_is_named_in_every_piece(
    tmp_path: Path, record: int, size: int
) -> None:
    path = tmp_path / "bad.e2e"
    n = 100_000
    write_empty_samples(path, n)
    data = bytearray(path.read_bytes())
    sizes = len(data) - 64 - 48 - 4 * n
    struct.pack_into("<I", data, sizes + 4 * record, size)
    path.write_bytes(bytes(data))
    with pytest.raises(CorruptShardError, match=r"section 2 at byte .*: crc32c"):
        e2eio.Dataset(path)
    path.write_bytes(reseal(bytes(data)))
    with pytest.raises(CorruptShardError, match=f"record {record} has {size} bytes, expected 5 to"):
        e2eio.Dataset(path)
