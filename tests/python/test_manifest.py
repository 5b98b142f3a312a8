from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2eio import manifest
from e2eio.errors import (
    ConfigError,
    CorruptShardError,
    ShardIOError,
    ShardNotFoundError,
    UnsupportedFormatError,
)
from e2eio.manifest import (
    ChannelStatistics,
    Manifest,
    Provenance,
    ShardEntry,
    SourceEntry,
    merge_statistics,
)
from e2eio.schema import Channel, ImageField, ScalarField, Schema

SCHEMA = Schema(
    ImageField("X", (Channel("ecal", "GeV"), Channel("hcal", "GeV")), 4, 4),
    (ScalarField("y", "float32"),),
)


def make_manifest() -> Manifest:
    shards = (
        ShardEntry("shard-00000.e2e", 3, 500, f"{1:08x}-{2:032x}"),
        ShardEntry("shard-00001.e2e", 4, 600, f"{3:08x}-{4:032x}"),
    )
    statistics = (ChannelStatistics(9, 1, -1.5, 2.25, 3.5, 20.125), ChannelStatistics())
    options = {"preset": None, "exclude": [1, 2], "precision": "float32"}
    source = SourceEntry("a.parquet", 1000, 7)
    provenance = Provenance((source,), "e2eio 0", options, "2001-02-03T04:05:06Z", None)
    return Manifest(SCHEMA, shards, statistics, provenance)


def test_round_trip(tmp_path: Path) -> None:
    content = make_manifest()
    manifest.write(tmp_path, content)
    assert manifest.read(tmp_path) == content
    assert [path.name for path in tmp_path.iterdir()] == ["dataset.json"]


def test_counts_and_digest_follow_from_the_shards(tmp_path: Path) -> None:
    content = make_manifest()
    text = "".join(f"{shard.digest}\n" for shard in content.shards)
    assert content.digest == hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
    assert content.n_samples == 7
    manifest.write(tmp_path, content)
    value = json.loads((tmp_path / "dataset.json").read_text())
    assert list(value) == [
        *("format", "version", "schema", "n_samples", "shards", "digest"),
        *("statistics", "provenance"),
    ]
    assert value["statistics"][1]["min"] is None


def test_a_new_one_replaces_the_old_one(tmp_path: Path) -> None:
    manifest.write(tmp_path, make_manifest())
    shorter = Manifest(SCHEMA, (), make_manifest().statistics, make_manifest().provenance)
    manifest.write(tmp_path, shorter)
    assert manifest.read(tmp_path).n_samples == 0


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(ShardNotFoundError, match=r"dataset\.json"):
        manifest.read(tmp_path)
    with pytest.raises(ShardIOError):
        manifest.write(tmp_path / "nowhere", make_manifest())


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "format": lambda j: j.update(format="other"),
    "version 0": lambda j: j.update(version=0),
    "version true": lambda j: j.update(version=True),
    "no schema": lambda j: j.pop("schema"),
    "no digest": lambda j: j.pop("digest"),
    "schema": lambda j: j["schema"]["image"].update(shape=[1, 4, 4]),
    "sum of samples": lambda j: j.update(n_samples=8),
    "bool count": lambda j: j["shards"][0].update(n_samples=True),
    "negative count": lambda j: j["shards"][0].update(n_bytes=-1),
    "float count": lambda j: j["shards"][0].update(n_bytes=500.0),
    "digest": lambda j: j.update(digest="0" * 32),
    "shard digest": lambda j: j["shards"][0].update(digest="x"),
    "shards": lambda j: j.update(shards={}),
    "shard": lambda j: j["shards"].append(7),
    "same file": lambda j: j["shards"][1].update(file="shard-00000.e2e"),
    "parent": lambda j: j["shards"][0].update(file="../shard-00000.e2e"),
    "dots": lambda j: j["shards"][0].update(file=".."),
    "absolute": lambda j: j["shards"][0].update(file="/etc/passwd"),
    "backslash": lambda j: j["shards"][0].update(file="..\\x"),
    "NUL": lambda j: j["shards"][0].update(file="a\0b"),
    "empty name": lambda j: j["shards"][0].update(file=""),
    "few statistics": lambda j: j["statistics"].pop(),
    "statistics": lambda j: j["statistics"][0].update(sum="1"),
    "provenance": lambda j: j.update(provenance=[]),
    "sources": lambda j: j["provenance"].update(sources=None),
    "deep": lambda j: j["provenance"]["options"].update(deep=nested(40)),
}


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused(tmp_path: Path, damage: str) -> None:
    value = make_manifest().to_json()
    DAMAGES[damage](value)
    (tmp_path / "dataset.json").write_text(json.dumps(value))
    with pytest.raises(CorruptShardError, match=r"dataset\.json") as caught:
        manifest.read(tmp_path)
    assert caught.value.path == str(tmp_path / "dataset.json")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b'{"format": "e2eio-dataset", "format": "e2eio-dataset"}',
        b'{"format": NaN}',
        b'{"format": -Infinity}',
        b'{"format": 1e999}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 10_000 + b"}",
    ],
)
def test_text_that_is_no_manifest(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "dataset.json").write_bytes(text)
    with pytest.raises(CorruptShardError):
        manifest.read(tmp_path)


def test_duplicate_keys_are_refused_inside_too(tmp_path: Path) -> None:
    text = json.dumps(make_manifest().to_json())
    assert '"n_bytes": 500' in text
    doubled = text.replace('"n_bytes": 500', '"n_bytes": 500, "n_bytes": 500')
    (tmp_path / "dataset.json").write_text(doubled)
    with pytest.raises(CorruptShardError, match="twice"):
        manifest.read(tmp_path)


def test_later_version(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text('{"format": "e2eio-dataset", "version": 2}')
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        manifest.read(tmp_path)


def test_statistics_merge() -> None:
    empty = ChannelStatistics()
    nans = ChannelStatistics(2, 2)
    some = ChannelStatistics(3, 0, -1.0, 4.0, 2.0, 20.0)
    more = ChannelStatistics(2, 1, 0.5, 0.5, 0.5, 0.25)
    assert merge_statistics([[some], [empty], [more], [nans]], 1) == (
        ChannelStatistics(7, 3, -1.0, 4.0, 2.5, 20.25),
    )
    assert merge_statistics([], 2) == (empty, empty)


def test_creation_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "981173106")
    assert manifest.creation_time() == "2001-02-03T04:05:06Z"
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "today")
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH"):
        manifest.creation_time()
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert manifest.creation_time() > "2024"
