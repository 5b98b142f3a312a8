"""Merge, shuffle and repack: every bit is kept, and provenance says from where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import e2eio
from e2eio import manifest
from e2eio.cli.main import main
from e2eio.manifest import SourceEntry
from e2eio.reshard import merge, repack, shuffle, split
from e2eio.schema import Precision
from reshard_toys import (
    QUIET,
    VERBS,
    assert_divided,
    columns_of,
    make,
    same_samples,
    samples_of,
    schema_of,
)

extents = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    sizes=st.lists(st.integers(0, 25), min_size=1, max_size=3),
    extent=extents,
    seed=st.integers(0, 1 << 20),
    precision=st.sampled_from(["float32", "float16"]),
    shard_samples=st.integers(4, 50),
    threads=st.integers(1, 3),
)
def test_all_verbs_keep_every_bit(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    extent: tuple[int, int, int],
    seed: int,
    precision: Precision,
    shard_samples: int,
    threads: int,
) -> None:
    path = tmp_path_factory.mktemp("any")
    shape: dict[str, Any] = {"extent": extent, "precision": precision}
    parents = [make(path / f"{k}", n, seed=seed + k, **shape) for k, n in enumerate(sizes)]
    options: dict[str, Any] = {"shard_samples": shard_samples, "threads": threads, **QUIET}
    every = [samples_of(parent) for parent in parents]
    joined = (
        np.concatenate([images for images, _ in every]),
        {name: np.concatenate([c[name] for _, c in every]) for name in every[0][1]},
    )
    n = sum(sizes)
    merged = merge(parents, path / "m", **options)
    assert same_samples(samples_of(path / "m"), joined)
    assert merged.n_samples == n
    assert max(shard.n_samples for shard in merged.shards) <= shard_samples
    assert merged.schema.image.precision == precision

    shuffle(parents, path / "s", seed=seed, **options)
    found = samples_of(path / "s")
    ids = loader_ids(parents, seed) if n else np.empty(0, np.int64)
    assert same_samples(found, joined, ids)

    names = merged.schema.channels[::-1]
    repack(path / "m", path / "r", channels=names, precision="float32", **options)
    images, columns = samples_of(path / "r")
    assert same_samples((images[:, ::-1], columns), joined)
    repack(path / "r", path / "b", channels=merged.schema.channels, precision=precision, **options)
    assert manifest.read(path / "b").content == merged.content
    if n >= 2:
        sizes_asked = {"a": n // 2, "b": n - n // 2}
        split(path / "m", path / "p", samples=sizes_asked, seed=seed, **options)
        assert_divided(path / "p", joined, sizes_asked)


def loader_ids(parents: list[Path], seed: int) -> NDArray[np.int64]:
    dataset = e2eio.Dataset(parents)
    options: dict[str, Any] = {"framework": "numpy", "threads": 1, "fields": ("X", "sample_id")}
    with e2eio.Loader(dataset, batch_size=8, shuffle=True, seed=seed, **options) as loader:
        return np.concatenate([np.array(ids) for _, ids in loader])


def test_merge_keeps_sources_and_names_parents(tmp_path: Path) -> None:
    parents = [make(tmp_path / name, 10, seed=k) for k, name in enumerate("ab")]
    for k, parent in enumerate(parents):
        content = manifest.read(parent)
        source = SourceEntry(f"file-{k}.parquet", 100, 10)
        provenance = replace(content.provenance, sources=(source,), n_rounded=k)
        manifest.write(parent, replace(content, provenance=provenance))
    merge(parents, tmp_path / "m", **QUIET)
    shuffle(tmp_path / "m", tmp_path / "s", seed=5, **QUIET)
    repack(tmp_path / "s", tmp_path / "r", select="y == 1", **QUIET)
    found = manifest.read(tmp_path / "r").provenance
    assert [source.path for source in found.sources] == ["file-0.parquet", "file-1.parquet"]
    assert found.n_rounded is None  # of a selection
    assert manifest.read(tmp_path / "s").provenance.n_rounded == 1
    digest = manifest.read(tmp_path / "s").digest
    assert found.options["parents"] == [
        {"path": str(tmp_path / "s"), "n_samples": 20, "digest": digest}
    ]
    history = cast("list[dict[str, Any]]", found.options["history"])
    assert [step["options"].get("operation") for step in history] == [
        None,
        None,
        "merge",
        "shuffle",
    ]
    assert history[2]["options"]["parents"][0]["digest"] == manifest.read(parents[0]).digest
    assert history[3]["options"]["seed"] == 5


def test_many_operations_in_a_row_stay_readable(tmp_path: Path) -> None:
    make(tmp_path / "0", 3)
    for k in range(20):
        repack(tmp_path / str(k), tmp_path / str(k + 1), **QUIET)
    content = manifest.read(tmp_path / "20")
    assert len(cast("list[Any]", content.provenance.options["history"])) == 20
    assert content.content == manifest.read(tmp_path / "0").content


def test_threads_do_not_change_the_result(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 60)
    for n in (1, 4):
        shuffle(source, tmp_path / str(n), shard_samples=9, threads=n, **QUIET)
    for shard in manifest.read(tmp_path / "1").shards:
        one, other = ((tmp_path / n / shard.file).read_bytes() for n in "14")
        assert one == other


def test_repack_selects_samples_and_channels(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 50)
    (tmp_path / "bad.txt").write_text("3\n4 # noisy\n")
    content = repack(
        source,
        tmp_path / "r",
        channels=["b"],
        select="y > 0",
        exclude=tmp_path / "bad.txt",
        **QUIET,
    )
    images, columns = samples_of(source)
    ids = np.setdiff1d(np.flatnonzero(columns["y"] > 0), [3, 4])
    assert content.schema.channels == ("b",)
    assert same_samples(samples_of(tmp_path / "r"), (images[:, 1:], columns), ids)
    assert content.provenance.options["select"] == "y > 0"


def test_repack_rounds_to_float16_once(tmp_path: Path) -> None:
    with e2eio.write(tmp_path / "d", schema_of((2, 4, 4)), dataset_id=bytes(16)) as writer:
        images = np.random.default_rng(0).normal(size=(9, 2, 4, 4)).astype(np.float32)
        writer.append(images, columns_of(9, 0))
    repack(tmp_path / "d", tmp_path / "h", precision="float16", **QUIET)
    half = images.astype(np.float16).astype(np.float32).view(np.uint32)
    assert np.array_equal(samples_of(tmp_path / "h")[0], half)
    merge(tmp_path / "h", tmp_path / "m", **QUIET)
    assert manifest.read(tmp_path / "m").schema.image.precision == "float16"
    assert np.array_equal(samples_of(tmp_path / "m")[0], half)


def test_shard_bytes(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 300, extent=(2, 16, 16), shard_samples=300)
    n_bytes = manifest.read(source).shards[0].n_bytes
    content = repack(source, tmp_path / "r", shard_bytes=n_bytes // 5, **QUIET)
    assert 5 <= len(content.shards) <= 7
    sizes = [shard.n_samples for shard in content.shards]
    assert max(sizes) - min(sizes) <= 1


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(make(tmp_path / "d", 40))
    out = str(tmp_path / "o")

    def run(*words: str) -> list[dict[str, Any]]:
        assert main([*words, "--quiet", "--json"]) == 0
        return cast("list[dict[str, Any]]", json.loads(capsys.readouterr().out))

    assert run("merge", source, source, f"{out}/m", "--shard-samples", "9")[0]["n_shards"] == 9
    assert run("shuffle", source, f"{out}/s", "--seed", "3")[0]["n_samples"] == 40
    parts = run(
        "split", source, f"{out}/p", "--fractions", "train=0.75, test=0.25", "--stratify", "y"
    )
    assert [Path(part["path"]).name for part in parts] == ["train", "test"]
    assert [part["n_samples"] for part in parts] == [30, 10]
    assert len(run("split", source, f"{out}/y", "--by", "y")) == 3
    assert len(run("split", source, f"{out}/n", "--samples", "10")) == 4
    assert len(run("split", source, f"{out}/c", "--samples", "a=10,b=5", "--group", "event,y")) == 2
    repacked = run("repack", source, f"{out}/r", "--channels", "b,a", "--select", "y == 1")
    assert 0 < repacked[0]["n_samples"] < 40
    assert main(["merge", source, f"{out}/text", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"{out}/text: 40 samples in 1 shard(s)")
    for words in (
        ["split", source, out],
        ["split", source, out, "--fractions", "train:0.8"],
        ["split", source, out, "--fractions", "a=0.5,a=0.5"],
        ["split", source, out, "--samples", "-3"],
        ["merge", source, out, "--shard-bytes", "many"],
    ):
        assert main(words) == 2
        assert capsys.readouterr().err.startswith("e2eio: ")


def test_names_of_the_package() -> None:
    for verb in VERBS:
        assert getattr(e2eio, verb).__name__ == verb
