from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from e2eio import manifest
from e2eio.conversion import convert
from e2eio.errors import (
    ConfigError,
    ImporterError,
    SchemaMismatchError,
    ShardExistsError,
    ShardNotFoundError,
)
from e2eio.shards import open_shard

BOOSTED_X1 = "BoostedTop_x1_fixed_0.snappy.parquet"
BOOSTED_X3 = "BoostedTop_x3_fixed_0.snappy.parquet"
QUARK_GLUON = "QCDToGGQQ_IMGjet_RH1all_jet0_run0_n64.test.snappy.parquet"
TOP_GUN = "top_gun_opendata_0.parquet"

Truth = dict[str, NDArray[np.float32]]
EXTENT = (2, 6, 6)
SMALL: dict[str, Any] = {"shape": EXTENT, "channels": ("a", "b"), "progress": False}


def read_images(out: Path) -> NDArray[np.float32]:
    content = manifest.read(out)
    channels = list(range(len(content.schema.channels)))
    readers = [open_shard(out / shard.file) for shard in content.shards]
    return np.concatenate([r.decode(np.arange(r.n_samples), channels) for r in readers])


def read_column(out: Path, name: str) -> NDArray[Any]:
    content = manifest.read(out)
    index = [scalar.name for scalar in content.schema.scalars].index(name)
    return np.concatenate([open_shard(out / s.file).column(index) for s in content.shards])


def same_bits(found: NDArray[np.float32], truth: NDArray[np.float32]) -> bool:
    pair = [np.ascontiguousarray(images, np.float32).view(np.uint32) for images in (found, truth)]
    return np.array_equal(pair[0], pair[1])


def names(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def make_images(n: int, seed: int = 0, dtype: str = "f4") -> NDArray[Any]:
    random = np.random.default_rng(seed)
    images = random.normal(size=(n, *EXTENT)).astype(np.float32).astype(dtype)
    images[random.random(images.shape) < 0.7] = 0
    return images


def write_small(path: Path, images: NDArray[Any], *, row_group_size: int = 4) -> Path:
    rows = list(images.transpose(0, 2, 3, 1).reshape(len(images), -1))
    columns = {"X": pa.array(rows), "y": pa.array(np.arange(len(images)))}
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size, write_page_checksum=True)
    return path


def damage(path: Path) -> None:
    """Flip a bit in the pages in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("shard_samples", [None, 24])
def test_boosted_top_x1(
    tmp_path: Path, published: Path, truth_x1: Truth, shard_samples: int | None
) -> None:
    content = convert(published / BOOSTED_X1, tmp_path, shard_samples=shard_samples, progress=False)
    assert same_bits(read_images(tmp_path), truth_x1["X"])
    for name in ("y", "m0", "pt"):
        assert same_bits(read_column(tmp_path, name), truth_x1[name])
    assert len(content.shards) == (1 if shard_samples is None else 6)
    assert content == manifest.read(tmp_path)


def test_boosted_top_x3(tmp_path: Path, published: Path, truth_x3: Truth) -> None:
    convert(published / BOOSTED_X3, tmp_path, progress=False)
    assert same_bits(read_images(tmp_path), truth_x3["X"])


def test_quark_gluon_and_top_gun(tmp_path: Path, published: Path, truth_x1: Truth) -> None:
    content = convert(published / QUARK_GLUON, tmp_path / "qg", progress=False)
    assert same_bits(read_images(tmp_path / "qg"), truth_x1["X"][:64, [0, 3, 4]])
    assert content.provenance.n_rounded == 0
    convert(published / TOP_GUN, tmp_path / "top", progress=False)
    assert same_bits(read_images(tmp_path / "top"), truth_x1["X"][:16])
    assert read_column(tmp_path / "top", "ieta").dtype == np.int32


def test_statistics_and_provenance(
    tmp_path: Path, published: Path, truth_x1: Truth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    content = convert(str(published / BOOSTED_X1), tmp_path, shard_samples=50, progress=False)
    pixels = truth_x1["X"].astype(np.float64)
    for channel, row in enumerate(content.statistics):
        stored = pixels[:, channel][pixels[:, channel] != 0]
        assert row.nonzero == stored.size
        assert (row.min, row.max) == (stored.min(), stored.max())
        assert row.sum == pytest.approx(stored.sum(), rel=1e-9)
    provenance = content.provenance
    source = published / BOOSTED_X1
    assert provenance.sources == (manifest.SourceEntry(str(source), source.stat().st_size, 128),)
    assert provenance.created == "1970-01-01T00:00:00Z"
    assert provenance.options["shard_samples"] == 50


def test_processes_do_not_change_the_result(
    tmp_path: Path, published: Path, truth_x1: Truth
) -> None:
    sources = [published / BOOSTED_X1] * 2
    for n in (1, 2):
        convert(sources, tmp_path / str(n), processes=n, shard_samples=40, progress=False)
    one, two = (manifest.read(tmp_path / str(n)) for n in (1, 2))
    assert one.digest == two.digest
    assert one.statistics == two.statistics
    for shard in one.shards:
        files = [(tmp_path / str(n) / shard.file).read_bytes() for n in (1, 2)]
        assert files[0] == files[1]
    assert same_bits(read_images(tmp_path / "2"), np.concatenate([truth_x1["X"]] * 2))
    ids = {shard.digest.partition("-")[2] for shard in one.shards}
    assert len(ids) == len(one.shards)


def test_shards_follow_row_groups(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(50), row_group_size=8)
    content = convert(source, tmp_path / "d", shard_samples=10, **SMALL)
    begins = np.cumsum([shard.n_samples for shard in content.shards])[:-1]
    assert len(begins) >= 3
    assert all(begin % 8 == 0 for begin in begins)
    assert same_bits(read_images(tmp_path / "d"), make_images(50))


def test_exclude(tmp_path: Path) -> None:
    sources = [write_small(tmp_path / f"{k}.parquet", make_images(10, k)) for k in (0, 1)]
    left_out = [0, 3, 4, 9, 10, 17]
    convert(sources, tmp_path / "d", exclude=left_out, **SMALL)
    kept = np.delete(np.concatenate([make_images(10, 0), make_images(10, 1)]), left_out, axis=0)
    assert same_bits(read_images(tmp_path / "d"), kept)
    wanted = np.delete(np.tile(np.arange(10), 2), left_out)
    assert np.array_equal(read_column(tmp_path / "d", "y"), wanted)
    convert(sources, tmp_path / "e", exclude=range(10), **SMALL)
    assert same_bits(read_images(tmp_path / "e"), make_images(10, 1))
    for wrong in ([20], [-1], range(20)):
        with pytest.raises(ConfigError, match="exclude"):
            convert(sources, tmp_path / "f", exclude=wrong, **SMALL)
    assert not (tmp_path / "f").exists()


def test_doubles_that_are_no_floats_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.zeros((3, *EXTENT))
    images[:, 0, 0, 0] = (0.1, 0.5, 1 / 3)
    source = write_small(tmp_path / "a.parquet", images)
    content = convert(source, tmp_path / "d", **{**SMALL, "progress": True})
    assert content.provenance.n_rounded == 2
    assert "2 float64 pixels" in capsys.readouterr().err
    assert same_bits(read_images(tmp_path / "d"), images.astype(np.float32))


def test_float16(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(5))
    content = convert(source, tmp_path / "d", precision="float16", **SMALL)
    assert content.schema.image.precision == "float16"
    assert same_bits(read_images(tmp_path / "d"), make_images(5).astype("f2").astype("f4"))


def test_skipped_columns_are_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    columns = {"X": pa.array(list(make_images(2).reshape(2, -1))), "name": pa.array(["a", "b"])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    convert(tmp_path / "a.parquet", tmp_path / "d", **{**SMALL, "progress": True})
    assert "name (string)" in capsys.readouterr().err


def test_already_converted_is_done_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(20))
    first = convert(source, tmp_path / "d", shard_samples=8, **SMALL)
    times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "d").iterdir())]
    again = convert(source, tmp_path / "d", shard_samples=8, **{**SMALL, "progress": True})
    assert again == first
    assert [path.stat().st_mtime_ns for path in sorted((tmp_path / "d").iterdir())] == times
    assert "already converted" in capsys.readouterr().err


def test_resume_writes_only_what_is_missing(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(40))
    out = tmp_path / "d"
    first = convert(source, out, shard_samples=8, **SMALL)
    assert len(first.shards) == 5
    files = {shard.file: (out / shard.file).read_bytes() for shard in first.shards}
    (out / "dataset.json").unlink()
    (out / first.shards[1].file).unlink()
    damaged = bytearray(files[first.shards[3].file])
    damaged[100] ^= 1  # within a record: the frame stays valid
    (out / first.shards[3].file).write_bytes(damaged)
    (out / first.shards[4].file).write_bytes(b"no shard")
    inodes = {
        shard.file: (out / shard.file).stat().st_ino for shard in (first.shards[k] for k in (0, 2))
    }
    second = convert(source, out, shard_samples=8, **SMALL)
    assert second.shards == first.shards
    assert {name: (out / name).read_bytes() for name in files} == files
    assert {name: (out / name).stat().st_ino for name in inodes} == inodes
    for one, other in zip(first.statistics, second.statistics, strict=True):
        assert (one.nonzero, one.min, one.max) == (other.nonzero, other.min, other.max)
        assert one.sum == pytest.approx(other.sum, rel=1e-12, abs=1e-12)
    assert second.provenance.n_rounded is None


def test_a_manifest_alone_is_not_trusted(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(16))
    out = tmp_path / "d"
    first = convert(source, out, shard_samples=8, **SMALL)
    (out / first.shards[1].file).unlink()
    assert convert(source, out, shard_samples=8, **SMALL).shards == first.shards
    assert same_bits(read_images(out), make_images(16))


def test_other_content_is_not_overwritten_unless_asked(tmp_path: Path) -> None:
    one = write_small(tmp_path / "a.parquet", make_images(12))
    two = write_small(tmp_path / "b.parquet", make_images(5, 1))
    out = tmp_path / "d"
    first = convert(one, out, shard_samples=4, **SMALL)
    (out / "notes.txt").write_text("mine")
    for arguments in (
        {"sources": two},
        {"sources": one, "precision": "float16"},
        {"sources": one, "resume": False, "shard_samples": 4},
    ):
        with pytest.raises(ShardExistsError, match="overwrite"):
            convert(out=out, **arguments, **SMALL)
    (out / "dataset.json").unlink()
    with pytest.raises(ShardExistsError, match=r"shard-0000\d\.e2e"):
        convert(two, out, **SMALL)
    assert same_bits(
        open_shard(out / first.shards[0].file).decode(np.arange(4), [0, 1]), make_images(12)[:4]
    )
    convert(two, out, overwrite=True, **SMALL)
    assert names(out) == ["dataset.json", "notes.txt", "shard-00000.e2e"]
    assert same_bits(read_images(out), make_images(5, 1))


def test_a_source_that_changed_is_converted_anew(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(12))
    convert(source, tmp_path / "d", **SMALL)
    write_small(source, make_images(12, 7))
    with pytest.raises(ShardExistsError):
        convert(source, tmp_path / "d", **SMALL)


def test_target_that_is_a_file(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(2))
    (tmp_path / "d").write_text("x")
    with pytest.raises(ShardExistsError, match="no directory"):
        convert(source, tmp_path / "d", **SMALL)


def test_sources_with_different_schemas(tmp_path: Path, published: Path) -> None:
    with pytest.raises(SchemaMismatchError) as caught:
        convert([published / BOOSTED_X1, published / TOP_GUN], tmp_path / "d", progress=False)
    assert BOOSTED_X1 in str(caught.value)
    assert TOP_GUN in str(caught.value)
    assert not (tmp_path / "d").exists()


def test_missing_source_and_wrong_options(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(2))
    with pytest.raises(ShardNotFoundError, match="nowhere"):
        convert([source, tmp_path / "nowhere"], tmp_path / "d", **SMALL)
    for wrong in (
        {"processes": 0},
        {"shard_samples": 0},
        {"shard_bytes": 0},
        {"compression_level": 23},
        {"precision": "float64"},
    ):
        with pytest.raises(ConfigError):
            convert(source, tmp_path / "d", **wrong, **SMALL)
    with pytest.raises(ConfigError, match="no sources"):
        convert([], tmp_path / "d", **SMALL)
    with pytest.raises(ConfigError, match="found the text"):
        convert(source, tmp_path / "d", shape=EXTENT, channels="ab", progress=False)
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_leaves_nothing_under_a_final_name(tmp_path: Path, processes: int) -> None:
    images = [make_images(40, seed) for seed in (0, 1)]
    good, bad = (write_small(tmp_path / f"{k}.parquet", part) for k, part in enumerate(images))
    intact = bad.read_bytes()
    damage(bad)
    out = tmp_path / "d"
    with pytest.raises(ImporterError, match=r"1\.parquet.*fetch the file again"):
        convert([good, bad], out, processes=processes, shard_samples=8, **SMALL)
    assert not [name for name in names(out) if not name.endswith(".kept")]
    kept = len(names(out))
    if processes == 1:
        assert kept >= 5  # all of the first source
    bad.write_bytes(intact)
    content = convert([good, bad], out, processes=processes, shard_samples=8, **SMALL)
    assert same_bits(read_images(out), np.concatenate(images))
    assert names(out) == ["dataset.json", *(shard.file for shard in content.shards)]
    assert (content.provenance.n_rounded is None) == (kept > 0)


def test_a_failure_of_the_first_shard_leaves_no_directory(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(40))
    damage(source)
    with pytest.raises(ImporterError):
        convert(source, tmp_path / "d", **SMALL)
    assert not (tmp_path / "d").exists()


def run_python(program: str, *args: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        cwd=cwd,  # not the source tree, which has no compiled core
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_program_may_convert_at_its_top_level(tmp_path: Path) -> None:
    for k in (0, 1):
        write_small(tmp_path / f"{k}.parquet", make_images(6, k))
    program = (
        "from e2eio.conversion import convert\n"
        "content = convert(\n"
        "    ['0.parquet', '1.parquet'], 'd', shape=(2, 6, 6), channels=('a', 'b'), processes=2\n"
        ")\n"
        "print(content.n_samples)\n"
    )
    (tmp_path / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "12\n"), done.stderr


def test_full_disk(tmp_path: Path, published: Path) -> None:
    program = (
        "import resource, sys\n"
        "from e2eio.conversion import convert\n"
        "from e2eio.errors import ShardIOError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n"
        "    convert(sys.argv[1], sys.argv[2], progress=False)\n"
        "except ShardIOError as error:\n"
        "    print(error.errno, error)\n"
    )
    source = published / BOOSTED_X1  # its shard is larger than the limit
    done = run_python(program, source, tmp_path / "d", cwd=tmp_path)
    assert "shard-00000.e2e" in done.stdout, done.stderr
    assert not (tmp_path / "d").exists()


def test_a_second_conversion_into_the_same_directory_is_refused(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(4))
    out = tmp_path / "d"
    out.mkdir()
    holder = (
        "import fcntl, os, sys\n"
        "handle = os.open(sys.argv[1], os.O_RDONLY)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(out)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(ShardExistsError, match="in use"):
            convert(source, out, **SMALL)
        process.communicate("")
    convert(source, out, **SMALL)


def test_leftovers_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(4))
    out = tmp_path / "d"
    out.mkdir()
    (out / "shard-00003.e2e.e2eio-tmp-1-abcdef").write_bytes(b"half")
    (out / "mine.e2eio-tmp-1").write_bytes(b"not a shard's")
    convert(source, out, **SMALL)
    assert names(out) == ["dataset.json", "mine.e2eio-tmp-1", "shard-00000.e2e"]


def wait_for_shards(out: Path, n: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.e2e"))) < n:
        assert process.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def wait_for_end(group: int) -> None:
    """Wait until no process of the group is left: multiprocessing's tracker ends a little later."""
    for _ in range(500):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    pytest.fail("a worker process is still running")


@pytest.mark.parametrize("processes", [1, 2])
def test_ctrl_c_leaves_complete_shards_and_the_next_run_goes_on(
    tmp_path: Path, published: Path, processes: int
) -> None:
    out = tmp_path / "d"
    arguments = ["convert", *[str(published / BOOSTED_X1)] * 30, str(out)]
    arguments += ["--processes", str(processes), "--shard-samples", "64"]
    with subprocess.Popen(
        [sys.executable, "-m", "e2eio", *arguments, "--quiet"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        wait_for_shards(out, 3, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
        stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stdout == ""
    assert stderr.startswith("e2eio: interrupted")
    assert stderr.count("\n") == 1
    wait_for_end(process.pid)
    finished = names(out)
    assert 3 <= len(finished) < 60
    assert all(name.startswith("shard-") and name.endswith(".e2e") for name in finished)
    for name in finished:
        reader = open_shard(out / name)
        reader.check(0, reader.n_samples)
    inodes = {name: (out / name).stat().st_ino for name in finished}

    content = convert(
        [published / BOOSTED_X1] * 30, out, processes=2, shard_samples=64, progress=False
    )
    assert {name: (out / name).stat().st_ino for name in finished} == inodes
    assert (content.n_samples, len(content.shards)) == (30 * 128, 60)
    alone = convert(published / BOOSTED_X1, tmp_path / "alone", shard_samples=64, progress=False)
    assert content.shards[0] == alone.shards[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded(tmp_path: Path, published: Path) -> None:
    shutil.copy(published / BOOSTED_X3, tmp_path / "a.parquet")  # 72 MB of images
    program = (
        "import re, sys\n"
        "from e2eio.conversion import convert\n"
        # ru_maxrss would begin with the size of the process that has started this one.
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) >> 10\n"
        "out = sys.argv[1]\n"
        "convert(['a.parquet'], out + '1', processes=1, progress=False)\n"
        "before = peak()\n"
        "convert(['a.parquet'] * 8, out + '8', processes=1, progress=False)\n"
        "print(peak() - before)\n"
    )
    done = run_python(program, tmp_path / "d", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 64, done.stdout  # MiB, of 580 MB of images


def test_manifest_is_what_the_format_page_says(tmp_path: Path) -> None:
    source = write_small(tmp_path / "a.parquet", make_images(3))
    convert(source, tmp_path / "d", **SMALL)
    value = json.loads((tmp_path / "d" / "dataset.json").read_text())
    assert (value["format"], value["version"]) == ("e2eio-dataset", 1)
    assert set(value["provenance"]) >= {"sources", "converter", "options", "created"}
    shard = value["shards"][0]
    assert set(shard) == {"file", "n_samples", "n_bytes", "digest"}
    assert shard["n_bytes"] == (tmp_path / "d" / shard["file"]).stat().st_size
