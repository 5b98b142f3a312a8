from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
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
from e2eio.errors import ConfigError, CorruptShardError, SchemaMismatchError, ShardExistsError
from e2eio.manifest import Manifest, SourceEntry
from e2eio.reshard import merge, repack, shuffle, split
from e2eio.reshard.parts import part_sizes
from e2eio.schema import Channel, ImageField, Precision, ScalarField, Schema
from e2eio.shards import open_shard

QUIET: dict[str, Any] = {"progress": False}
SCALARS = (
    ScalarField("y", "int8"),
    ScalarField("pt", "float32", "GeV"),
    ScalarField("event", "uint64"),
)
VERBS = ("merge", "shuffle", "repack", "split")


def schema_of(extent: tuple[int, int, int], precision: Precision = "float32") -> Schema:
    channels = tuple(Channel(name, "GeV") for name in "abcde"[: extent[0]])
    return Schema(ImageField("X", channels, extent[1], extent[2], precision), SCALARS)


def bits_of(n: int, extent: tuple[int, int, int], seed: int) -> NDArray[np.float32]:
    """Sparse images of any bits: NaN with payloads, infinities, -0.0, denormals."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 1 << 32, (n, *extent), np.uint32)
    special = np.array([0x80000000, 0x7FC12345, 0xFF800000, 1, 0x3F800000], np.uint32)
    bits = np.where(random.random(bits.shape) < 0.5, random.choice(special, bits.shape), bits)
    bits[random.random(bits.shape) < 0.7] = 0
    return bits.view(np.float32)


def columns_of(n: int, seed: int) -> dict[str, NDArray[Any]]:
    random = np.random.default_rng(seed + 1)
    pt = random.integers(0, 1 << 32, n, np.uint32).view(np.float32)
    return {
        "y": random.integers(0, 3, n).astype(np.int8),
        "pt": pt,
        "event": random.integers(0, max(1, n // 3), n).astype(np.uint64),
    }


def make(
    path: Path,
    n: int,
    *,
    extent: tuple[int, int, int] = (2, 4, 4),
    seed: int = 0,
    precision: Precision = "float32",
    shard_samples: int = 7,
) -> Path:
    with e2eio.write(
        path, schema_of(extent, precision), shard_samples=shard_samples, dataset_id=bytes(16)
    ) as writer:
        if n:
            images = bits_of(n, extent, seed)
            if precision == "float16":
                half = (images.view(np.uint32) >> 16).astype(np.uint16).view(np.float16)
                images = half.astype(np.float32)
            writer.append(images, columns_of(n, seed))
    return path


Samples = tuple[NDArray[np.uint32], dict[str, NDArray[Any]]]


def samples_of(path: Path) -> Samples:
    """Bits of all pixels and scalar fields, in order; the shards are those that dataset.json lists."""
    content = manifest.read(path)
    readers = [open_shard(path / shard.file) for shard in content.shards]
    channels = range(len(content.schema.channels))
    images = [reader.decode(np.arange(reader.n_samples), list(channels)) for reader in readers]
    columns = {
        field.name: np.concatenate([reader.column(k) for reader in readers])
        for k, field in enumerate(content.schema.scalars)
    }
    bits = {name: column.view(f"u{column.itemsize}") for name, column in columns.items()}
    return np.concatenate(images).view(np.uint32), bits


def same(found: Samples, expected: Samples, ids: NDArray[np.int64] | None = None) -> bool:
    where = slice(None) if ids is None else ids
    return np.array_equal(found[0], expected[0][where]) and all(
        np.array_equal(found[1][name], column[where]) for name, column in expected[1].items()
    )


def apply(verb: str, source: Path, out: Path, **options: Any) -> dict[Path, Manifest]:
    options = {**QUIET, **options}
    if verb == "split":
        parts = split(source, out, fractions={"a": 0.5, "b": 0.5}, **options)
        return {out / name: content for name, content in parts.items()}
    function = cast(
        "Callable[..., Manifest]", {"merge": merge, "shuffle": shuffle, "repack": repack}[verb]
    )
    return {out: function(source, out, **options)}


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
    assert same(samples_of(path / "m"), joined)
    assert merged.n_samples == n
    assert max(shard.n_samples for shard in merged.shards) <= shard_samples
    assert merged.schema.image.precision == precision

    shuffle(parents, path / "s", seed=seed, **options)
    found = samples_of(path / "s")
    ids = loader_ids(parents, seed) if n else np.empty(0, np.int64)
    assert same(found, joined, ids)

    names = merged.schema.channels[::-1]
    repack(path / "m", path / "r", channels=names, precision="float32", **options)
    images, columns = samples_of(path / "r")
    assert same((images[:, ::-1], columns), joined)
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


def assert_divided(out: Path, whole: Samples, sizes: dict[str, int]) -> None:
    """Each part is a subsequence of the whole, and together they are all of it."""
    keys = [row.tobytes() for row in rows(whole)]
    left = dict.fromkeys(keys, 0)
    for key in keys:
        left[key] += 1
    for name, n in sizes.items():
        part = rows(samples_of(out / name))
        assert len(part) == n
        place = iter(keys)
        for row in part:
            left[row.tobytes()] -= 1
            assert any(key == row.tobytes() for key in place), "not in file order"
    assert set(left.values()) <= {0}


def rows(samples: Samples) -> NDArray[np.uint8]:
    images, columns = samples
    n = len(images)
    parts = [images.reshape(n, -1).view(np.uint8)]
    parts += [np.ascontiguousarray(c)[:, None].view(np.uint8) for c in columns.values()]
    return np.concatenate(parts, axis=1)


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


@pytest.mark.parametrize("stratify", [None, "y"])
def test_fractions_are_exact_seeded_and_disjoint(tmp_path: Path, stratify: str | None) -> None:
    source = make(tmp_path / "d", 101)
    wanted = {"train": 0.8, "valid": 0.1, "test": 0.1}
    parts = split(source, tmp_path / "p", fractions=wanted, stratify=stratify, **QUIET)
    sizes = {name: content.n_samples for name, content in parts.items()}
    assert sizes == {"train": 81, "valid": 10, "test": 10}
    assert_divided(tmp_path / "p", samples_of(source), sizes)
    again = split(source, tmp_path / "again", fractions=wanted, stratify=stratify, **QUIET)
    assert [p.content for p in again.values()] == [p.content for p in parts.values()]
    other = split(source, tmp_path / "other", fractions=wanted, stratify=stratify, seed=1, **QUIET)
    assert other["test"].content != parts["test"].content
    if stratify is not None:
        _, columns = samples_of(source)
        counts = np.bincount(columns["y"])
        for name, share in wanted.items():
            found = np.bincount(samples_of(tmp_path / "p" / name)[1]["y"], minlength=3)
            assert np.all(np.abs(found - share * counts) <= 1 + len(wanted))


def test_stratified_parts_of_a_sorted_dataset(tmp_path: Path) -> None:
    with e2eio.write(tmp_path / "d", schema_of((1, 2, 2)), dataset_id=bytes(16)) as writer:
        n = 3000
        columns = {"y": np.arange(n) // 1000, "pt": np.arange(n), "event": np.arange(n)}
        writer.append(np.zeros((n, 1, 2, 2), np.float32), columns)
    fractions = {"a": 0.5, "b": 0.25}
    parts = split(tmp_path / "d", tmp_path / "p", fractions=fractions, stratify="y", **QUIET)
    assert [content.n_samples for content in parts.values()] == [1500, 750]
    for name, expected in (("a", 500), ("b", 250)):
        found = samples_of(tmp_path / "p" / name)[1]
        assert np.all(np.abs(np.bincount(found["y"]) - expected) <= 3)
        assert np.ptp(found["event"] % 1000) > 900  # of all of each class, not of its beginning


def test_groups_stay_together(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 200)
    parts = split(source, tmp_path / "p", fractions={"a": 0.7, "b": 0.3}, group="event", **QUIET)
    events = {name: set(samples_of(tmp_path / "p" / name)[1]["event"].tolist()) for name in "ab"}
    assert not events["a"] & events["b"]
    assert abs(parts["a"].n_samples - 140) <= 6
    assert_divided(tmp_path / "p", samples_of(source), {k: v.n_samples for k, v in parts.items()})
    several = split(
        source, tmp_path / "q", fractions={"a": 0.7, "b": 0.3}, group=["event", "y"], **QUIET
    )
    pairs = {
        name: set(
            zip(
                *(samples_of(tmp_path / "q" / name)[1][f].tolist() for f in ("event", "y")),
                strict=True,
            )
        )
        for name in several
    }
    assert not pairs["a"] & pairs["b"]


def test_split_by_field_and_by_number(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 50)
    whole = samples_of(source)
    parts = split(source, tmp_path / "y", by="y", **QUIET)
    assert list(parts) == ["y=0", "y=1", "y=2"]
    for k, name in enumerate(parts):
        assert same(samples_of(tmp_path / "y" / name), whole, np.flatnonzero(whole[1]["y"] == k))
    chunks = split(source, tmp_path / "n", samples=20, **QUIET)
    assert [content.n_samples for content in chunks.values()] == [20, 20, 10]
    merge([tmp_path / "n" / name for name in chunks], tmp_path / "back", **QUIET)
    assert manifest.read(tmp_path / "back").content == manifest.read(source).content


@pytest.mark.parametrize(
    ("wanted", "n", "expected"),
    [
        ({"a": 0.1, "b": 0.2, "c": 0.7}, 10, [1, 2, 7]),
        ({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, 10, [4, 3, 3]),
        ({"a": 0.5, "b": 0.25}, 7, [3, 2]),
        ({"a": 4, "b": 3}, 9, [4, 3]),
    ],
)
def test_part_sizes(wanted: dict[str, float], n: int, expected: list[int]) -> None:
    assert list(part_sizes(wanted, n).values()) == expected


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
    assert same(samples_of(tmp_path / "r"), (images[:, 1:], columns), ids)
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


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"extent": (2, 4, 5)}, r"found shape C, H, W \(2, 4, 5\), expected \(2, 4, 4\)"),
        ({"extent": (1, 4, 4)}, "found shape"),
        ({"precision": "float16"}, "found precision float16, expected float32"),
    ],
)
def test_other_schemas_are_refused(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    parents = [make(tmp_path / "a", 5), make(tmp_path / "b", 5, **change)]
    with pytest.raises(SchemaMismatchError, match=text):
        merge(parents, tmp_path / "m", **QUIET)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda d, o: split(d, o), "exactly one"),
        (lambda d, o: split(d, o, by="y", samples=3), "exactly one"),
        (lambda d, o: split(d, o, fractions={"a": 0.9, "b": 0.2}), "add up to 1.1"),
        (lambda d, o: split(d, o, fractions={"a": -0.1}), "above 0"),
        (lambda d, o: split(d, o, fractions={"a": float("nan")}), "above 0"),
        (lambda d, o: split(d, o, fractions={"../a": 0.1}), "wrong name"),
        (lambda d, o: split(d, o, fractions={}), "no parts"),
        (lambda d, o: split(d, o, samples={"a": 21}), "at most 20"),
        (lambda d, o: split(d, o, fractions={"a": 0.999, "b": 0.001}), "empty part: 'b'"),
        (lambda d, o: split(d, o, samples=0), "at least 1"),
        (lambda d, o: split(d, o, by="z"), "unknown scalar field"),
        (lambda d, o: split(d, o, fractions={"a": 0.5}, stratify="y", group="event"), "one of them"),
        (lambda d, o: split(d, o, by="y", stratify="y"), "parts that are drawn"),
        (lambda d, o: repack(d, o, channels=["z"]), "unknown channel"),
        (lambda d, o: repack(d, o, channels=["a", "a"]), "occurs twice"),
        (lambda d, o: repack(d, o, channels="ab"), "sequence of names"),
        (lambda d, o: repack(d, o, precision=cast("Any", "int8")), "unknown precision"),
        (lambda d, o: repack(d, o, select="y > 7"), "nothing selected"),
        (lambda d, o: merge(d, o, shard_samples=0), "wrong shard_samples"),
        (lambda d, o: merge(d, o, compression_level=20), "compression level"),
        (lambda d, o: merge(d, o, threads=0), "threads"),
        (lambda d, o: merge([], o), "no dataset"),
        (lambda d, o: shuffle(d, o, seed=-1), "seed"),
    ],
)  # fmt: skip
def test_wrong_arguments(tmp_path: Path, call: Callable[[Path, Path], object], text: str) -> None:
    source = make(tmp_path / "d", 20)
    with pytest.raises(ConfigError, match=text):
        call(source, tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("verb", VERBS)
def test_a_source_is_never_the_target(tmp_path: Path, verb: str) -> None:
    source = make(tmp_path / "d" / "a", 20)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    (tmp_path / "link").symlink_to(tmp_path / "d")
    out = tmp_path / "link" if verb == "split" else tmp_path / "link" / "a"
    with pytest.raises(ConfigError, match="target is a source"):
        apply(verb, source, out, overwrite=True)
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_finished_call_is_not_done_again_and_others_are_refused(
    tmp_path: Path, verb: str
) -> None:
    source = make(tmp_path / "d", 20)
    first = apply(verb, source, tmp_path / "o", shard_samples=5)
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "o").rglob("*"))]
    assert apply(verb, source, tmp_path / "o", shard_samples=5) == first
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "o").rglob("*"))] == times
    with pytest.raises(ShardExistsError, match="pass overwrite"):
        apply(verb, source, tmp_path / "o", shard_samples=4)
    for out, content in first.items():
        assert manifest.read(out) == content
    again = apply(verb, source, tmp_path / "o", shard_samples=4, overwrite=True)
    assert [c.content for c in again.values()] == [c.content for c in first.values()]


@pytest.mark.parametrize("verb", VERBS)
def test_resume_makes_the_same_bytes(tmp_path: Path, verb: str) -> None:
    source = make(tmp_path / "d", 40)
    expected = apply(verb, source, tmp_path / "o", shard_samples=5)
    data = {p: p.read_bytes() for p in (tmp_path / "o").rglob("*.e2e")}
    for out in expected:
        (out / "dataset.json").unlink()
        (out / "shard-00001.e2e").unlink()
        (out / f"shard-00001.e2e{'.e2eio-tmp-1-aa'}").write_bytes(b"half")
    kept = [p.stat().st_mtime_ns for p in sorted((tmp_path / "o").rglob("shard-00000.e2e"))]
    made = apply(verb, source, tmp_path / "o", shard_samples=5)
    assert [c.content for c in made.values()] == [c.content for c in expected.values()]
    assert {p: p.read_bytes() for p in (tmp_path / "o").rglob("*.e2e")} == data
    assert [p.stat().st_mtime_ns for p in sorted((tmp_path / "o").rglob("shard-00000.e2e"))] == kept
    assert not list((tmp_path / "o").rglob("*tmp*"))


@pytest.mark.parametrize("verb", VERBS)
def test_damaged_samples_leave_nothing_under_a_final_name(tmp_path: Path, verb: str) -> None:
    source = make(tmp_path / "d", 40, shard_samples=10, extent=(2, 16, 16))
    path = source / "shard-00002.e2e"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptShardError, match="shard-00002"):
        apply(verb, source, tmp_path / "o", shard_samples=5, threads=2)
    left = [p for p in (tmp_path / "o").rglob("*") if p.is_file()]
    assert all(p.name.endswith(".kept") for p in left)
    path.write_bytes(whole)
    for out, content in apply(verb, source, tmp_path / "o", shard_samples=5).items():
        assert content.n_samples == len(e2eio.Dataset(out))
        assert not list(out.glob("*.kept"))


def test_a_full_disk_leaves_nothing_half(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 100, extent=(3, 32, 32), shard_samples=100)
    program = (
        "import resource, signal, sys\n"
        "from e2eio.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))\n"
        "sys.exit(main(['merge', sys.argv[1], sys.argv[2], '--quiet']))\n"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", program, str(source), str(tmp_path / "m")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "file too large" in done.stderr.lower()
    assert not (tmp_path / "m").exists()


def test_ctrl_c_leaves_complete_shards(tmp_path: Path) -> None:
    source = make(tmp_path / "d", 3000, extent=(3, 40, 40), shard_samples=3000)
    words = ["merge", str(source), str(tmp_path / "m"), "--shard-samples", "20"]
    process = subprocess.Popen(
        [sys.executable, "-m", "e2eio", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while process.poll() is None and len(list((tmp_path / "m").glob("shard-*.e2e"))) < 2:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    left = sorted(path.name for path in (tmp_path / "m").iterdir())
    assert left
    assert all(name.endswith(".e2e") for name in left)
    for name in left:
        assert open_shard(tmp_path / "m" / name).n_samples == 20
    assert main([*words, "--quiet"]) == 0
    assert manifest.read(tmp_path / "m").content == manifest.read(source).content


def test_two_writers_do_not_meet(tmp_path: Path) -> None:
    from e2eio.conversion.target import Target

    source = make(tmp_path / "d", 5)
    with Target(tmp_path / "m"), pytest.raises(ShardExistsError, match="in use"):
        merge(source, tmp_path / "m", **QUIET)


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
