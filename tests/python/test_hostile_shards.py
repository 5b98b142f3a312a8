"""Damaged and malformed shards are refused, with the right error, by the page's reader and by the core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from e2eio import _core
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    DecodeError,
    E2eioError,
    ShardIOError,
    ShardNotFoundError,
    UnsupportedFormatError,
)
from hostile_codes import CODE_CASES, LARGEST, SOUND_CODED
from hostile_shards import CASES as PLAIN_CASES
from hostile_shards import SOUND
from reference_reader import FormatError, Shard, UnsupportedError, read_shard
from reference_writer import reseal
from sound_shards import base_images, base_schema, base_shard

CASES = PLAIN_CASES | CODE_CASES
DAMAGE = (CorruptShardError, UnsupportedFormatError, ShardIOError)
EXPECTED: dict[str, tuple[type[E2eioError], ...]] = {
    "corrupt": (CorruptShardError,),
    "unsupported": (UnsupportedFormatError,),
    "frame": (DecodeError,),
}


def examine(path: Path) -> None:
    """Read every byte of a shard through the core."""
    reader = _core.ShardReader(str(path))
    reader.check(0, reader.n_samples)
    for k in range(len(reader.schema.scalar_names)):
        reader.column(k)


def decode_all(path: Path) -> None:
    reader = _core.ShardReader(str(path))
    n_channels = len(reader.schema.channel_names)
    for i in range(reader.n_samples):
        reader.decode(np.array([i]), range(n_channels))


def refused(path: Path) -> bool:
    try:
        examine(path)
    except DAMAGE:
        return True
    return False


def refused_by_the_page(data: bytes) -> bool:
    try:
        read_shard(data).images()
    except FormatError:
        return True
    return False


def survivors(path: Path, damaged: Iterator[tuple[str, bytes]]) -> list[str]:
    """Names of the damages that the core does not notice."""
    unnoticed = []
    for name, data in damaged:
        path.write_bytes(data)
        if not refused(path):
            unnoticed.append(name)
    return unnoticed


def flips(data: bytes) -> Iterator[tuple[str, bytes]]:
    for at in range(len(data)):
        for bit in range(8):
            yield f"byte {at} bit {bit}", _with(data, at, bytes([data[at] ^ 1 << bit]))


def zeroings(data: bytes, n: int) -> Iterator[tuple[str, bytes]]:
    for at in range(len(data) - n + 1):
        if any(data[at : at + n]):
            yield f"bytes {at} to {at + n}", _with(data, at, bytes(n))


def _with(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


@pytest.fixture(scope="module", params=["raw", "compressed", "coded"])
def sound(request: pytest.FixtureRequest) -> bytes:
    return base_shard(compress=request.param != "raw", coded=request.param == "coded")


def test_sound_shards_are_read(tmp_path: Path, sound: bytes) -> None:
    shards = {"base": sound, "record": SOUND, "coded": SOUND_CODED, "codes": LARGEST}
    for name, data in shards.items():
        path = tmp_path / f"{name}.e2e"
        path.write_bytes(data)
        examine(path)
        decode_all(path)
    assert read_shard(sound).images().tobytes() == base_images().tobytes()
    assert reseal(sound) == sound


def test_core_notices_every_flipped_bit(tmp_path: Path, sound: bytes) -> None:
    assert survivors(tmp_path / "flip.e2e", flips(sound)) == []


def test_page_notices_a_flip_in_every_byte(sound: bytes) -> None:
    damaged = ((at, _with(sound, at, bytes([b ^ 1 << at % 8]))) for at, b in enumerate(sound))
    assert [at for at, data in damaged if not refused_by_the_page(data)] == []


def test_core_notices_every_truncation(tmp_path: Path, sound: bytes) -> None:
    cuts = ((f"{n} bytes", sound[:n]) for n in range(len(sound)))
    assert survivors(tmp_path / "cut.e2e", cuts) == []


def test_page_notices_every_truncation(sound: bytes) -> None:
    assert [n for n in range(len(sound)) if not refused_by_the_page(sound[:n])] == []


def test_core_notices_every_missing_beginning(tmp_path: Path, sound: bytes) -> None:
    cuts = ((f"from {n}", sound[n:]) for n in range(1, len(sound)))
    assert survivors(tmp_path / "cut.e2e", cuts) == []


@pytest.mark.parametrize("n", [1, 16])
def test_core_notices_zeroed_bytes(tmp_path: Path, sound: bytes, n: int) -> None:
    assert survivors(tmp_path / "zero.e2e", zeroings(sound, n)) == []


def rearranged(data: bytes) -> dict[str, bytes]:
    """Damages that leave whole pieces of a shard intact."""
    shard = read_shard(data)
    other = base_shard(bytes(16), compress=False)
    begin, end = _span(shard, 1)
    records_end = _span(shard, shard.n_samples - 1)[1]
    record, next_record = data[begin:end], data[end : _span(shard, 2)[1]]
    return {
        "garbage_at_the_end": data + b"\0",
        "garbage_at_the_begin": b"\0" + data,
        "byte_inserted": data[:begin] + b"\0" + data[begin:],
        "byte_missing": data[:begin] + data[begin + 1 :],
        "twice": data + data,
        "other_shard_appended": data + other,
        "half_of_another": data[: len(data) // 2] + other[len(data) // 2 :],
        "header_of_another": other[:64] + data[64:],
        "trailer_of_another": data[:-64] + other[-64:],
        "records_missing": data[:64] + data[records_end:],
        "record_missing": data[:begin] + data[end:],
        "record_twice": data[:end] + record + data[end:],
        "records_swapped_sizes_too": _swapped(data, shard, record, next_record),
        "all_zero": bytes(len(data)),
        "all_ones": b"\xff" * len(data),
    }


def _span(shard: Shard, i: int) -> tuple[int, int]:
    begin = 64 + int(shard.sizes[:i].sum())
    return begin, begin + int(shard.sizes[i])


def _swapped(data: bytes, shard: Shard, first: bytes, second: bytes) -> bytes:
    begin = _span(shard, 1)[0]
    out = _with(data, begin, second + first)
    sizes = shard.sizes.copy()
    new = sizes.copy()
    new[[1, 2]] = sizes[[2, 1]]
    return reseal(out.replace(sizes.astype("<u4").tobytes(), new.astype("<u4").tobytes()))


@pytest.mark.parametrize("name", rearranged(base_shard()))
def test_rearranged_bytes_are_refused(tmp_path: Path, sound: bytes, name: str) -> None:
    data = rearranged(sound)[name]
    path = tmp_path / f"{name}.e2e"
    path.write_bytes(data)
    with pytest.raises(CorruptShardError) as caught:
        examine(path)
    assert str(path) in str(caught.value)
    assert refused_by_the_page(data)


def test_record_of_another_shard_is_refused(tmp_path: Path) -> None:
    data, other = base_shard(compress=False), base_shard(bytes(16), compress=False)
    begin, end = _span(read_shard(data), 1)
    path = tmp_path / "foreign.e2e"
    path.write_bytes(_with(data, begin, other[begin:end]))
    reader = _core.ShardReader(str(path))
    reader.check(0, 1)
    reader.check(2, 4)
    with pytest.raises(CorruptShardError) as caught:
        reader.check(0, 4)
    assert caught.value.sample == 1
    assert caught.value.path == str(path)
    with pytest.raises(FormatError):
        read_shard(path).images()


@pytest.mark.parametrize("name", CASES)
def test_malformed_shard_is_refused(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    path = tmp_path / "malformed.e2e"
    path.write_bytes(case.data)
    for read in (examine, decode_all):
        if read is decode_all and case.seen_in != "record":
            continue
        with pytest.raises(EXPECTED[case.expected]) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert caught.value.path == str(path)
    if case.seen_in == "open":
        with pytest.raises(EXPECTED[case.expected]):
            _core.ShardReader(str(path))


@pytest.mark.parametrize("name", CASES)
def test_malformed_shard_is_refused_by_the_page(name: str) -> None:
    case = CASES[name]
    with pytest.raises(FormatError) as caught:
        read_shard(case.data).images()
    assert isinstance(caught.value, UnsupportedError) == (case.expected == "unsupported")
    if case.seen_in == "record":
        read_shard(case.data)


def test_unknown_optional_feature_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "optional.e2e"
    path.write_bytes(reseal(_with(base_shard(), 24, b"\xff" * 8)))
    examine(path)
    assert np.array_equal(read_shard(path).images(), read_shard(base_shard()).images())


def test_column_beyond_the_last_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "sound.e2e"
    path.write_bytes(base_shard())
    reader = _core.ShardReader(str(path))
    with pytest.raises((ConfigError, IndexError, OverflowError, TypeError)):
        reader.column(len(base_schema().scalars))


@pytest.mark.parametrize("ids", [[4], [-1], [0, 2**40], [-(2**62)]])
def test_sample_beyond_the_last_is_a_mistake_of_the_caller(tmp_path: Path, ids: list[int]) -> None:
    path = tmp_path / "sound.e2e"
    path.write_bytes(base_shard())
    with pytest.raises((ConfigError, IndexError)):
        _core.ShardReader(str(path)).decode(np.array(ids), [0])


@pytest.mark.parametrize("picked", [[3], [-1], [2**31]])
def test_channel_beyond_the_last_is_a_mistake_of_the_caller(
    tmp_path: Path, picked: list[int]
) -> None:
    path = tmp_path / "sound.e2e"
    path.write_bytes(base_shard())
    with pytest.raises((ConfigError, IndexError, OverflowError, TypeError)):
        _core.ShardReader(str(path)).decode(np.array([0]), picked)


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(ShardNotFoundError) as caught:
        _core.ShardReader(str(tmp_path / "none.e2e"))
    assert str(tmp_path / "none.e2e") in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShardIOError):
        _core.ShardReader(str(tmp_path))


def test_empty_file_is_corrupt(tmp_path: Path) -> None:
    path = tmp_path / "empty.e2e"
    path.touch()
    with pytest.raises(CorruptShardError) as caught:
        _core.ShardReader(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.timeout(20)
def test_fifo_is_refused_without_waiting(tmp_path: Path) -> None:
    path = tmp_path / "fifo.e2e"
    os.mkfifo(path)
    with pytest.raises((ShardIOError, CorruptShardError)):
        _core.ShardReader(str(path))


@pytest.mark.timeout(20)
def test_device_is_refused() -> None:
    with pytest.raises((ShardIOError, CorruptShardError)):
        _core.ShardReader("/dev/zero")


def test_path_with_nul_does_not_open_another_file(tmp_path: Path) -> None:
    path = tmp_path / "sound.e2e"
    path.write_bytes(base_shard())
    with pytest.raises((ConfigError, ShardIOError, ValueError)):
        _core.ShardReader(f"{path}\0.bak")
