"""Verbs on datasets that are refused, interrupted, resumed, or fail: nothing half is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import e2eio
from e2eio import manifest
from e2eio.cli.main import main
from e2eio.errors import ConfigError, CorruptShardError, SchemaMismatchError, ShardExistsError
from e2eio.reshard import merge, repack, shuffle, split
from e2eio.shards import open_shard
from reshard_toys import QUIET, VERBS, apply, make


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
    from e2eio.production import Target

    source = make(tmp_path / "d", 5)
    with Target(tmp_path / "m"), pytest.raises(ShardExistsError, match="in use"):
        merge(source, tmp_path / "m", **QUIET)
